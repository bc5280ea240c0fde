"""Dry runs and tests of a single step: the real engine on rows that are never written, without or with outside effects."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from automation_lab.core import clock, expressions
from automation_lab.core.cancellation import Cancellation
from automation_lab.core.exceptions import AutomationLabError, Invalid
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.failures import Interrupted
from automation_lab.core.execution.results import storable
from inbox.models import Webhook
from workflows.definitions import tree, validation
from workflows.models import StepAttempt, StepExecution, WaitToken, Workflow, WorkflowExecution, WorkflowVersion
from workflows.running.engine import Engine, Toolbox, as_run_error
from workflows.running.flow import StepFailed, Waiting
from workflows.running.runner import WorkflowExecutable
from workflows.running.scope import Scope
from workflows.running.store import RunVariables
from workflows.steps.base import Steps, StepType, Stop, WaitingType
from workflows.triggering import starting

NOT_DONE = "not done in a dry run"


class RehearsalStore:
    """A RunStore in memory."""

    def __init__(self, execution: WorkflowExecution) -> None:
        self.execution = execution
        self.claim = Claim(model=WorkflowExecution, pk=0, epoch=0, worker=0, cancellation=Cancellation())
        self.variables = RunVariables(execution.variables)
        self.records: dict[str, StepExecution] = {}
        self.output: Any = None
        self.finished_steps = 0

    def record(self, step: dict[str, Any], path: str) -> StepExecution:
        return self.records.setdefault(
            path,
            StepExecution(path=path, step_id=step["id"], type=step["type"], name=step.get("name", "")),
        )

    def change(self, record: StepExecution, **values: Any) -> None:
        for name, value in values.items():
            setattr(record, name, value)

    def issue(self, record: StepExecution, token: WaitToken) -> bool:
        """The link is shown and leads nowhere."""
        return False

    def open_below(self, path: str) -> list[StepExecution]:
        return []

    def open_attempt(self, record: StepExecution, *, now: datetime) -> StepAttempt:
        return StepAttempt(number=record.attempt, epoch=0, worker=0, started_at=now)

    def close_attempt(self, attempt: StepAttempt, *, status: str, now: datetime, error: Any = None) -> None:
        attempt.status = status

    def log(self, level: str, text: str, *, path: str = "") -> None:
        self.claim.log.add(level, text, at=clock.process_now(), path=path)

    def commit(self, *, now: datetime, also: Any = None) -> None:
        """Nothing is written."""


class DryEngine(Engine):
    """Renders every config, and in the place of an effect or a wait takes the output that was given for the step."""

    def __init__(self, store: Any, tools: Toolbox, policy: dict[str, Any], outputs: dict[str, Any]) -> None:
        super().__init__(store, tools, policy)
        self.given = outputs
        self.marked: list[str] = []

    def _run_plain(
        self, step_type: StepType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> None:
        if step_type.has_effect:
            self._pretend(step_type, step, record, names)
        else:
            super()._run_plain(step_type, step, record, names, scope)

    def _run_waiting(
        self, step_type: WaitingType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> None:
        self._pretend(step_type, step, record, names)

    def _pretend(self, step_type: StepType, step: dict[str, Any], record: StepExecution, names: dict[str, Any]) -> None:
        try:
            config = self._config(step_type, step, names)
        except AutomationLabError as error:
            self._fail(record, as_run_error(error))
            return
        self.marked.append(record.path)
        self.store.change(record, input=storable(expressions.redact(config)))
        self._end(record, StepExecution.Status.SUCCESS, step=step, output=self.given.get(record.step_id))


def dry_run(
    *,
    workflow: Workflow,
    steps: Steps | None = None,
    trigger_data: Any = None,
    webhook: Webhook | None = None,
    outputs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run would do with this input. Outside effects are marked and not done; their outputs are those given by
    step id, else of the last successful run. `steps` tries a definition that is not saved. Raises Invalid for it.
    """
    checked = validation.normalised(steps if steps is not None else workflow.steps)
    validation.check(checked)
    _check_outputs(outputs or {}, checked)
    samples = {**_last_outputs(workflow), **(outputs or {})}
    execution = _pretended(workflow, checked, trigger_data, webhook)
    refusal = _map_input(execution)
    engine = DryEngine(RehearsalStore(execution), _tools(), workflow.retry_policy, samples)
    return _rehearsed(engine, checked, refusal)


def test_step(
    *,
    step: dict[str, Any],
    workflow: Workflow | None = None,
    trigger_data: Any = None,
    webhook: Webhook | None = None,
    variables: dict[str, Any] | None = None,
    outputs: dict[str, Any] | None = None,
    do_it: bool = False,
) -> dict[str, Any]:
    """Run one step on sample data: only rendered, or with its outside effect when `do_it`. Raises Invalid for the step.

    `variables` are in the place of what the input mapping of `workflow` gives.
    """
    subject = workflow or Workflow(name="test", steps=[], variables={})
    steps = validation.normalised([step])
    validation.check(steps, known_ids=outputs or {})
    execution = _pretended(subject, steps, trigger_data, webhook)
    refusal = "" if variables else _map_input(execution)
    execution.variables = {**execution.variables, **(variables or {})}
    store: Any = RehearsalStore(execution)
    given = {**_last_outputs(workflow), **(outputs or {})} if workflow else dict(outputs or {})
    policy = {"max_attempts": 1}
    engine = Engine(store, _tools(), policy) if do_it else DryEngine(store, _tools(), policy, given)
    engine.known_outputs = {name: {"output": value, "status": "success"} for name, value in given.items()}
    return _rehearsed(engine, steps, refusal)


def _check_outputs(outputs: dict[str, Any], steps: Steps) -> None:
    ids = [item.step["id"] for item in tree.walk(steps)]
    for step_id in outputs:
        if step_id not in ids:
            hint = expressions.nearest_hint(step_id, ids)
            raise Invalid(f"No step has the id {step_id!r}.{hint}", field="outputs")


def _tools() -> Toolbox:
    return WorkflowExecutable().tools()


def _pretended(workflow: Workflow, steps: Steps, trigger_data: Any, webhook: Webhook | None) -> WorkflowExecution:
    now = clock.database_now()
    version = WorkflowVersion(
        number=workflow.version,
        steps=steps,
        variables=workflow.variables,
        trigger_config=workflow.trigger_config,
    )
    execution = WorkflowExecution(
        pk=0,
        workflow=workflow,
        version=version,
        variables=workflow.variables,
        trigger_source="webhook" if webhook else "manual",
        trigger_data=webhook.body if webhook else trigger_data,
        webhook=webhook,
    )
    execution.created_at = execution.started_at = now
    return execution


def _map_input(execution: WorkflowExecution) -> str:
    """Fill the variables as a start does. Returns why that fails, or ""."""
    try:
        execution.variables = starting.mapped_variables(execution)
    except Invalid as error:
        return error.message
    return ""


def _rehearsed(engine: Engine, steps: Steps, refusal: str) -> dict[str, Any]:
    status, message = ("failed", refusal) if refusal else _walk(engine, steps)
    return _report(engine, status, message)


def _walk(engine: Engine, steps: Steps) -> tuple[str, str]:
    try:
        engine.run(steps)
    except Stop:
        return "success", "Stopped by a step."
    except StepFailed as failed:
        message = (failed.record.error or {}).get("message", "failed")
        return "failed", message + _absent_hint(engine, message)
    except Waiting as waiting:
        return "waiting", f"It would wait for {waiting.waiting_for or 'a time'}."
    except Interrupted as interrupted:
        return "cancelled", interrupted.reason
    return "success", ""


def _absent_hint(engine: Engine, message: str) -> str:
    """What to do if the message is about an output that there is not because the step was not done."""
    for path in getattr(engine, "marked", []):
        record = engine.store.records[path]
        if record.output is None and f"`steps.{record.step_id}.output`" in message:
            return f" The step {record.step_id!r} is not done in a dry run: say in `outputs` what it gives."
    return ""


def _report(engine: Engine, status: str, message: str) -> dict[str, Any]:
    marked = getattr(engine, "marked", [])
    lines = engine.store.claim.log.drain()
    return {
        "status": status,
        "error_message": message,
        "variables": engine.store.variables.values,
        "step_results": [
            {
                "id": record.step_id,
                "path": record.path,
                "type": record.type,
                "status": record.status,
                "input": record.input,
                "output": record.output,
                "error": record.error,
                "note": NOT_DONE if record.path in marked else "",
            }
            for record in engine.store.records.values()
        ],
        "logs": [
            {"at": line["at"], "level": line["level"], "path": line["path"], "text": line["text"]} for line in lines
        ],
    }


def _last_outputs(workflow: Workflow) -> dict[str, Any]:
    """Outputs by step id of the last successful run, as samples."""
    last = workflow.executions.filter(status=WorkflowExecution.Status.SUCCESS).order_by("-id").first()
    if last is None:
        return {}
    steps = last.steps.filter(status=StepExecution.Status.SUCCESS).order_by("position")
    return dict(steps.values_list("step_id", "output"))
