"""Every write to workflows and their runs."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db import transaction

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict, Invalid, NotFound
from automation_lab.core.execution import idempotency, queue, retry
from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.execution.results import storable
from automation_lab.core.safe_json import dump
from automation_lab.core.uniqueness import refused_if_taken
from workflows import messages
from workflows.definitions import validation
from workflows.models import StepExecution, Workflow, WorkflowExecution, WorkflowVersion
from workflows.triggering import starting, ticking, triggers

MAX_TIMEOUT_SECONDS = 366 * 86_400
EDITABLE = frozenset({
    "name", "description", "enabled", "trigger_type", "trigger_config", "steps", "variables", "timeout_seconds",
    "retry_policy", "concurrency", "notify",
})  # fmt: skip
SCHEDULING = frozenset({"trigger_type", "trigger_config", "enabled"})
WRITTEN_ALONG = ("steps", "retry_policy", "next_run_at", "schedule_error", "version", "updated_at")
DEFINITION = ("steps", "variables", "retry_policy", "timeout_seconds", "trigger_type", "trigger_config")


# --- workflows --------------------------------------------------------------------------------------------------------


@transaction.atomic
def create_workflow(*, fields: dict[str, Any], author: str = "") -> Workflow:
    """Save a new workflow and its first version. Raises Invalid with every fault."""
    workflow = Workflow(**_editable(fields))
    check_workflow(workflow)
    with refused_if_taken(_name_taken(workflow.name)):
        workflow.save(force_insert=True)
    workflow.next_run_at = ticking.next_run_at(workflow, now=clock.database_now())
    workflow.save(update_fields=["next_run_at"])
    _snapshot(workflow, author)
    return workflow


@transaction.atomic
def update_workflow(*, workflow: Workflow, changes: dict[str, Any], author: str = "") -> Workflow:
    """Change `workflow`, as it is in the database now. A change of the definition makes a new version."""
    row = Workflow.objects.select_for_update().get(pk=workflow.pk)
    now = clock.database_now()
    if row.enabled and row.next_run_at is not None and row.next_run_at <= now:
        ticking.fire([row], now=now)  # an edit neither swallows nor doubles the slot of this instant
    before = definition_hash(row)
    for name, value in _editable(changes).items():
        setattr(row, name, value)
    check_workflow(row)
    is_new_version = definition_hash(row) != before
    if is_new_version:
        row.version += 1
    if SCHEDULING & changes.keys():
        row.next_run_at, row.schedule_error = ticking.next_run_at(row, now=now), ""
    with refused_if_taken(_name_taken(row.name)):
        row.save(update_fields=[*changes, *WRITTEN_ALONG])
    if is_new_version:
        _snapshot(row, author)
    return row


@transaction.atomic
def delete_workflow(*, workflow: Workflow) -> None:
    """Remove the workflow with its versions and runs. Raises Conflict while a run is going on."""
    row = Workflow.objects.select_for_update().get(pk=workflow.pk)
    if row.executions.filter(status__in=LIVE_STATUSES).exists():
        raise Conflict("The workflow has runs that are pending or running: cancel them first.")
    row.executions.all().delete()
    row.delete()


def check_workflow(workflow: Workflow) -> None:
    """Normalise the steps and the retry policy in place; raise Invalid with every fault."""
    faults: list[dict[str, Any]] = []
    try:
        workflow.steps = validation.normalised(workflow.steps)
        validation.check(workflow.steps)
    except Invalid as error:
        faults += error.errors
    policy_faults = validation.policy_faults(workflow.retry_policy, "retry_policy")
    if not policy_faults and workflow.retry_policy:
        workflow.retry_policy = retry.normalise(workflow.retry_policy).as_dict()
    faults += policy_faults
    faults += triggers.faults(workflow.trigger_type, workflow.trigger_config)
    faults += messages.faults(workflow)
    if not 1 <= workflow.timeout_seconds <= MAX_TIMEOUT_SECONDS:
        detail = f"Must be from 1 to {MAX_TIMEOUT_SECONDS} seconds."
        faults.append({"field": "timeout_seconds", "code": "invalid", "detail": detail})
    if faults:
        raise Invalid("The workflow is not valid.", errors=faults)


def warnings(workflow: Workflow) -> list[dict[str, str]]:
    """What does not keep the workflow from being saved, but from working as it is now."""
    return [
        *triggers.warnings(workflow),
        *validation.warnings(workflow.steps),
        *validation.long_waits(workflow.steps, workflow.timeout_seconds),
    ]


def definition_hash(workflow: Workflow) -> str:
    parts = {name: getattr(workflow, name) for name in DEFINITION}
    return hashlib.sha256(dump(parts, sort_keys=True).encode()).hexdigest()


# --- runs -------------------------------------------------------------------------------------------------------------


@transaction.atomic
def start_execution(
    *,
    workflow: Workflow,
    trigger_source: str = "manual",
    trigger_data: Any = None,
    idempotency_key: str = "",
    started_by: str = "",
) -> WorkflowExecution:
    """Record one run and queue it; neither exists without the other.

    The same `idempotency_key` gives the same run. Raises Conflict if the workflow is switched off, or if the key came
    with other data before.
    """
    if not workflow.enabled:
        raise Conflict("This workflow is switched off: enable it first.")
    execution = starting.build(current_version(workflow))
    execution.trigger_source, execution.trigger_data = trigger_source, trigger_data
    execution.idempotency_key, execution.started_by = idempotency_key, started_by
    request = {"trigger_source": trigger_source, "trigger_data": trigger_data}
    return idempotency.once(execution, lambda: starting.start(execution), request=request, workflow=workflow)


def cancel_execution(*, execution: WorkflowExecution) -> WorkflowExecution:
    """End a waiting run at once; ask the worker of a running one to stop. Raises Conflict if it has finished."""
    return queue.cancel(execution, now=clock.database_now())


@transaction.atomic
def decide(
    *, execution: WorkflowExecution, action: str, step: str = "", output: Any = None, author: str = ""
) -> WorkflowExecution:
    """Answer the question of a step whose outcome is unknown: `retry` it, `skip` it with `output`, or `fail` it.

    `step` is its path, needed when several wait. Raises Conflict if none waits, NotFound if that one does not.
    """
    if action not in ("retry", "skip", "fail"):
        raise Invalid("Must be retry, skip or fail.", field="action")
    row = WorkflowExecution.objects.select_for_update(no_key=True).get(pk=execution.pk)
    waiting = row.steps.filter(status=StepExecution.Status.INTERRUPTED, signal__isnull=True)
    record = the_one(list(waiting.filter(path=step) if step else waiting), step, "a decision")
    now = clock.database_now()
    # A signal, not the new state itself: a worker that runs another branch meanwhile holds the row of this step, too.
    decision = {"action": action, "output": storable(output), "by": author, "at": now.isoformat()}
    StepExecution.objects.filter(pk=record.pk).update(signal=decision, updated_at=now)
    if queue.wake(row, now=now):
        WorkflowExecution.objects.filter(pk=row.pk).update(waiting_for="")
    row.refresh_from_db()
    return row


def current_version(workflow: Workflow) -> WorkflowVersion:
    return WorkflowVersion.objects.select_related("workflow").get(workflow=workflow, number=workflow.version)


def the_one(waiting: list[StepExecution], step: str, wanted: str) -> StepExecution:
    """The only step that waits for what is `wanted`, or the one at the path `step`. Raises Conflict, Invalid, NotFound."""
    if len(waiting) == 1:
        return waiting[0]
    if waiting:
        paths = ", ".join(record.path for record in waiting)
        raise Invalid(f"Several steps wait for {wanted}: name one of {paths}.", field="step")
    if step:
        raise NotFound(f"No step {step!r} of this run waits for {wanted}.")
    raise Conflict(f"No step of this run waits for {wanted}.")


def _snapshot(workflow: Workflow, author: str) -> WorkflowVersion:
    return WorkflowVersion.objects.create(
        workflow=workflow,
        number=workflow.version,
        sha256=definition_hash(workflow),
        created_by=author,
        **{name: getattr(workflow, name) for name in DEFINITION},
    )


def _editable(fields: dict[str, Any]) -> dict[str, Any]:
    unknown = fields.keys() - EDITABLE
    if unknown:
        raise Invalid(f"Not editable: {', '.join(sorted(unknown))}.")
    return fields


def _name_taken(name: str) -> Invalid:
    return Invalid(f"A workflow named {name!r} exists already.", field="name", code="unique")
