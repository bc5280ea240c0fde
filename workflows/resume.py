"""Running a finished execution again from some point: what is kept, what runs again, and the new execution.

History is never rewritten: the new execution is linked by `resumed_from` and starts with copies of the kept results.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.execution import queue
from automation_lab.core.execution.results import storable
from automation_lab.core.previews import is_cut
from workflows import services
from workflows.definitions import tree
from workflows.models import StepExecution, WorkflowExecution, WorkflowVersion
from workflows.running.store import RunVariables
from workflows.steps.base import ContainerType, step_types
from workflows.triggering import starting

Status = StepExecution.Status
KEPT = (Status.SUCCESS, Status.SKIPPED)
FROM_FAILED, FROM_START = "failed", "start"
SAME, LATEST = "same", "latest"
PART = re.compile(r"(?P<id>[a-z][a-z0-9_]*)(?:\[(?P<key>[^\]]*)\])?")
COPIED = [
    "path", "step_id", "type", "name", "position", "status", "attempt", "input", "output", "error", "state",
    "scheduled_at", "started_at", "finished_at", "duration_ms",
]  # fmt: skip


@dataclass(frozen=True)
class ResumePlan:
    """`kept` rows are copied, `reopened` containers go on with what they decided, `again` ran before and runs anew."""

    version: WorkflowVersion
    kept: list[StepExecution]
    reopened: list[StepExecution]
    again: list[StepExecution]
    variables: dict[str, Any]
    trigger_data: Any
    skipped: dict[str, Any] = field(default_factory=dict)


def plan(
    *,
    execution: WorkflowExecution,
    start: str = FROM_FAILED,
    version: str = SAME,
    variables: dict[str, Any] | None = None,
    skip: dict[str, Any] | None = None,
    trigger_data: Any = None,
    edit_input: bool = False,
) -> ResumePlan:
    """What resuming would do. `start` is failed, start, or the path of a step; `skip` gives outputs by path.

    With `edit_input` the new run has `trigger_data` instead of the old input. Raises Conflict if the execution is going on
    or the latest version does not fit, Invalid for an unknown step or an input that cannot be mapped.
    """
    if not execution.is_finished:
        raise Conflict(f"This execution is {execution.status}: it can be resumed when it has finished.")
    target = execution.version if version == SAME else services.current_version(execution.workflow)
    records = list(execution.steps.all())
    kept, reopened = _divide(records, start, execution.version)
    kept_paths = {record.path for record in (*kept, *reopened)}
    nothing_new = start == FROM_FAILED and target.pk == execution.version_id and len(kept) == len(records)
    if execution.status == WorkflowExecution.Status.SUCCESS and nothing_new:
        raise Invalid("Every step has succeeded: name the one to run again from, or start.", field="from")
    if target.pk != execution.version_id:
        _check_fit([*kept, *reopened], target)
    skipped = _checked_skips(skip or {}, records, kept_paths)
    data = trigger_data if edit_input else execution.trigger_data
    if variables is None:
        variables = variables_after(target, kept, _variables_at_start(execution, target, data))
    return ResumePlan(
        version=target,
        kept=kept,
        reopened=reopened,
        again=[record for record in records if record.path not in kept_paths and record.path not in skipped],
        variables=variables,
        trigger_data=data,
        skipped=skipped,
    )


@transaction.atomic
def resume(*, execution: WorkflowExecution, plan: ResumePlan, started_by: str = "") -> WorkflowExecution:
    """Start the new execution that `plan` describes."""
    fresh = starting.build(plan.version)
    fresh.trigger_source, fresh.webhook = execution.trigger_source, execution.webhook
    fresh.trigger_data = plan.trigger_data
    fresh.depth, fresh.resumed_from = execution.depth, execution
    fresh.event_type, fresh.started_by = execution.event_type, started_by
    fresh.variables = plan.variables
    kept_paths = {record.path for record in plan.kept} | plan.skipped.keys()
    fresh.current_step = _leading(plan.version.steps, kept_paths)
    queue.enqueue(fresh, due_at=clock.database_now())
    rows = [_copy(record, fresh) for record in plan.kept]
    rows += [_copy(record, fresh, status=Status.RUNNING, error=None, finished_at=None) for record in plan.reopened]
    rows += _skip_rows(plan, execution, fresh)
    StepExecution.objects.bulk_create(rows)
    return fresh


def variables_after(
    version: WorkflowVersion, records: Iterable[StepExecution], at_start: dict[str, Any]
) -> dict[str, Any]:
    """`vars` as they were after `records`, from their outputs: `set` steps and `output_as` are all that changes them."""
    steps = {item.step["id"]: item.step for item in tree.walk(version.steps)}
    variables = RunVariables(at_start)
    for record in sorted(records, key=lambda record: record.finished_at or record.created_at):
        if record.status != Status.SUCCESS:
            continue
        if record.type == "set":
            if is_cut(record.output):
                raise Invalid(
                    f"What the step {record.path!r} has set is not kept: give the variables.", field="variables"
                )
            for path, value in (record.output or {}).items():
                variables.set(path, value)
        if target := steps.get(record.step_id, {}).get("output_as"):
            variables.set(target.removeprefix("vars."), record.output)
    return variables.values


def _variables_at_start(execution: WorkflowExecution, version: WorkflowVersion, trigger_data: Any) -> dict[str, Any]:
    triggered = copy.copy(execution)
    triggered.version, triggered.trigger_data = version, trigger_data
    try:
        return starting.mapped_variables(triggered)
    except Invalid as error:
        raise Invalid(f"{error.message} Give another input, or the variables.", field="trigger_data") from error


def _divide(
    records: list[StepExecution], start: str, version: WorkflowVersion
) -> tuple[list[StepExecution], list[StepExecution]]:
    if start == FROM_START:
        return [], []
    if start == FROM_FAILED:
        kept = [record for record in records if record.status in KEPT]
        return kept, [record for record in records if record.status not in KEPT and _is_open(record)]
    if start not in {record.path for record in records}:
        raise Invalid(f"No step {start!r} has run: name one of its steps, or failed, or start.", field="from")
    order = _order(version)
    ancestors = _ancestors(start)
    before = [record for record in records if _comes_before(record.path, start, order)]
    kept = [record for record in before if record.status in KEPT and record.path not in ancestors]
    return kept, [record for record in before if record.path not in {row.path for row in kept} and _is_open(record)]


def _is_open(record: StepExecution) -> bool:
    """A container that has decided, so that its children can go on."""
    is_container = record.type in step_types and isinstance(step_types.get(record.type), ContainerType)
    return is_container and record.state is not None


def _parts(path: str) -> list[tuple[str, str]]:
    """`loop[3]/fetch` as `[("loop", "3"), ("fetch", "")]`."""
    return [(match["id"], match["key"] or "") for match in PART.finditer(path)]


def _ancestors(path: str) -> set[str]:
    """The paths of the containers around a step: of `a[x]/b[y]/c` these are `a` and `a[x]/b`."""
    return {path[: match.start()] for match in re.finditer(r"\[[^\]]*\]/", path)}


def _order(version: WorkflowVersion) -> dict[str, tuple[int, str]]:
    """Step id -> its place in the text of the definition, and its type."""
    return {item.step["id"]: (place, item.step["type"]) for place, item in enumerate(tree.walk(version.steps))}


def _comes_before(path: str, start: str, order: dict[str, tuple[int, str]]) -> bool:
    """Whether the step at `path` keeps its result when `start` runs again: it is earlier, around it, or beside it."""
    for (step_id, key), (start_id, start_key) in zip(_parts(path), _parts(start), strict=False):
        if step_id != start_id:
            return order.get(step_id, (0, ""))[0] < order.get(start_id, (0, ""))[0]
        if key != start_key and key and start_key:
            is_loop = order.get(step_id, (0, ""))[1] == "while"
            return int(key) < int(start_key) if is_loop and key.isdigit() and start_key.isdigit() else True
    return len(_parts(path)) < len(_parts(start))


def _check_fit(records: list[StepExecution], version: WorkflowVersion) -> None:
    order = _order(version)
    places = {_structure(item) for item in _structural_paths(version)}
    for record in records:
        if order.get(record.step_id, (0, ""))[1] != record.type or _structure(record.path) not in places:
            raise Conflict(
                f"The latest version does not fit: its step {record.step_id!r} was removed, moved or is of another type. "
                "Resume on the same version, or from the start."
            )


def _structure(path: str) -> str:
    return re.sub(r"\[[^\]]*\]", "[]", path)


def _structural_paths(version: WorkflowVersion) -> list[str]:
    paths: list[str] = []

    def collect(steps: list[dict[str, Any]], prefix: str) -> None:
        for step in steps:
            path = f"{prefix}{step['id']}"
            paths.append(path)
            for children in tree.child_sequences(step).values():
                collect(children, f"{path}[]/")

    collect(version.steps, "")
    return paths


def _checked_skips(skip: dict[str, Any], records: list[StepExecution], kept: set[str]) -> dict[str, Any]:
    known = {record.path for record in records}
    for path in skip:
        if path not in known:
            raise Invalid(f"No step {path!r} has run, so it cannot be skipped.", field="skip")
        if path in kept:
            raise Invalid(f"The step {path!r} keeps its result: leave it out of skip.", field="skip")
    return skip


def _copy(record: StepExecution, execution: WorkflowExecution, **changes: Any) -> StepExecution:
    values = {name: getattr(record, name) for name in COPIED}
    return StepExecution(execution=execution, **{**values, **changes})


def _skip_rows(plan: ResumePlan, old: WorkflowExecution, fresh: WorkflowExecution) -> list[StepExecution]:
    now = clock.database_now()
    wanted = old.steps.filter(path__in=plan.skipped)
    return [
        _copy(
            record,
            fresh,
            status=Status.SKIPPED,
            output=storable(plan.skipped[record.path]),
            error=None,
            finished_at=now,
        )
        for record in wanted
    ]


def _leading(steps: list[dict[str, Any]], kept: set[str]) -> int:
    """How many top-level steps are done from the beginning."""
    count = 0
    for step in steps:
        if step["id"] not in kept:
            break
        count += 1
    return count
