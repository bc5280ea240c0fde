"""Decides what a run does next: walks the steps of its version, and leaves alone what is on record already.

Knows no HTTP and no tables: effects happen in step types, rows are the store's. Walking again after an interruption
comes to the same place, because every decision is on record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.execution import retry
from automation_lab.core.execution.claims import STOPPING
from automation_lab.core.execution.failures import Interrupted, RunError
from automation_lab.core.execution.results import masked_text, storable
from automation_lab.core.registry import UnknownKey
from workflows import context
from workflows.branches import BRANCH_CANCELLED, StepChildren
from workflows.flow import StepFailed, Waiting
from workflows.models import StepAttempt, StepExecution, WorkflowExecution
from workflows.scope import Scope
from workflows.steps.base import ContainerType, StepContext, Steps, StepType, Wait, WaitingType, step_types
from workflows.store import RunStore

Status = StepExecution.Status
WaitingFor = WorkflowExecution.WaitingFor
MAX_INTERRUPTIONS = 3
DEFAULT_STEP_TIMEOUT_SECONDS = 300.0
ENDED = frozenset({Status.SUCCESS, Status.FAILED, Status.SKIPPED, Status.CANCELLED, Status.TIMEOUT})
NO_RETRY = retry.RetryPolicy(max_attempts=1)


@dataclass(frozen=True)
class Toolbox:
    """What the engine is given from outside, so that tests can replace it."""

    now: Callable[[], datetime]
    http: Any
    allowed_hosts: Callable[[dict[str, Any]], dict[str, list[str]]]
    release_connection: Callable[[], None] = lambda: None


class Engine:
    """One walk over one claimed run.

    `run()` returns when every step has ended; raises StepFailed, Stop, Waiting or Interrupted.
    """

    def __init__(self, store: RunStore, tools: Toolbox, policy: dict[str, Any]) -> None:
        self.store = store
        self.tools = tools
        self.policy = policy
        self.known_outputs: dict[str, Any] = {}

    def run(self, steps: Steps) -> None:
        scope = Scope(context.run_names(self.store.execution), self.store.claim.cancellation)
        scope.outputs.update(self.known_outputs)
        for number, step in enumerate(steps, start=1):
            self.step(step, step["id"], scope)
            self.store.finished_steps = max(self.store.finished_steps, number)

    def sequence(self, steps: Steps, prefix: str, scope: Scope) -> None:
        for step in steps:
            self.step(step, f"{prefix}/{step['id']}", scope)

    def step(self, step: dict[str, Any], path: str, scope: Scope) -> None:
        record = self.store.record(step, path)
        if record.status not in ENDED:
            if scope.cancellation.cancelled:
                raise Interrupted(scope.cancellation.reason)
            self._perform(step, record, scope)
        scope.outputs[record.step_id] = context.step_names(record)
        if record.status in (Status.FAILED, Status.TIMEOUT):
            self._handle_failure(step, record, scope)

    def _perform(self, step: dict[str, Any], record: StepExecution, scope: Scope) -> None:
        now = record.scheduled_at or self.tools.now()
        self.store.change(record, scheduled_at=now, started_at=record.started_at or now)
        names = context.names_at(scope, variables=self.store.variables.values, now=now)
        try:
            step_type = step_types.get(step["type"])
            wanted = record.status != Status.PENDING or self._wanted(step, names)
        except UnknownKey as error:
            self._fail(record, RunError(str(error), code="configuration.step_type"))
        except expressions.ExpressionError as error:
            self._fail(record, as_run_error(error))
        else:
            if not wanted:
                self._end(record, Status.SKIPPED)
            elif isinstance(step_type, ContainerType):
                self._run_container(step_type, step, record, names, scope)
            elif isinstance(step_type, WaitingType):
                self._run_waiting(step_type, step, record, names, scope)
            else:
                self._run_plain(step_type, step, record, names, scope)

    def _wanted(self, step: dict[str, Any], names: dict[str, Any]) -> bool:
        if not step.get("enabled", True):
            return False
        return "condition" not in step or expressions.evaluate_condition(step["condition"], names)

    # --- containers ---------------------------------------------------------------------------------------------------

    def _run_container(
        self, step_type: ContainerType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> None:
        try:
            config = self._config(step_type, step, names)
            step_context = self._context(step, record, names, scope)
            if record.status == Status.PENDING:
                state = step_type.decide(config=config, context=step_context)
                self.store.change(record, status=Status.RUNNING, attempt=1, state=state)
            children = StepChildren(self, record, scope)
            output = step_type.walk(config=config, context=step_context, state=record.state or {}, children=children)
        except StepFailed as failed:
            self._end(record, Status.FAILED, error={**(failed.record.error or {}), "step": failed.record.path})
        except AutomationLabError as error:
            self._fail(record, as_run_error(error))
        else:
            self._end(record, Status.SUCCESS, step=step, output=storable(output))

    # --- steps that wait ----------------------------------------------------------------------------------------------

    def _run_waiting(
        self, step_type: WaitingType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> None:
        until = record.next_attempt_at
        if record.status == Status.WAITING and record.signal is None and (until is None or until > self.tools.now()):
            raise Waiting(until, (record.state or {}).get("waiting_for", WaitingFor.DELAY))
        try:
            config = self._config(step_type, step, names)
            step_context = self._context(step, record, names, scope)
            if record.status == Status.WAITING:
                state = record.state or {}
                result = step_type.resume(config=config, context=step_context, state=state, signal=record.signal)
            else:
                shown = storable(expressions.redact(config))
                key = record.idempotency_key or self._effect_key(record)
                self.store.change(record, attempt=1, input=shown, idempotency_key=key)
                step_context = self._context(step, record, names, scope)
                result = step_type.begin(config=config, context=step_context)
        except AutomationLabError as error:
            self._fail(record, as_run_error(error))
            return
        if isinstance(result, Wait):
            state = {**result.state, "waiting_for": result.waiting_for}
            self.store.change(record, status=Status.WAITING, next_attempt_at=result.until, state=state)
            self.store.commit(now=self.tools.now(), also=lambda: result.record(record))
            raise Waiting(result.until, result.waiting_for)
        self._end(record, Status.SUCCESS, step=step, output=storable(result), state=None)

    # --- steps that do something --------------------------------------------------------------------------------------

    def _run_plain(
        self, step_type: StepType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> None:
        if record.status == Status.INTERRUPTED:
            raise Waiting(None, WaitingFor.DECISION)
        if record.status == Status.WAITING and record.next_attempt_at and record.next_attempt_at > self.tools.now():
            raise Waiting(record.next_attempt_at, WaitingFor.RETRY)
        attempt: StepAttempt | None = None
        try:
            config = self._config(step_type, step, names)
            if record.status == Status.RUNNING and not self._may_repeat(step_type, step, record, config):
                return
            attempt = self._begin(step_type, record, config)
            step_context = self._context(step, record, names, scope)
            if step_type.has_effect:
                self.tools.release_connection()
            output = storable(_without_secrets(step_type.run(config=config, context=step_context)))
        except Interrupted as interrupted:
            self._interrupt(record, attempt, interrupted)
            raise
        except AutomationLabError as error:
            self._settle_failure(step_type, step, record, attempt, as_run_error(error))
            return
        self._close(attempt, StepAttempt.Status.SUCCESS)
        self._end(record, Status.SUCCESS, step=step, output=output)
        if step_type.has_effect:
            self.store.commit(now=self.tools.now())

    def _begin(self, step_type: StepType, record: StepExecution, config: dict[str, Any]) -> StepAttempt | None:
        """Put the attempt on record: before the effect for steps that have one, else with the next commit."""
        now = self.tools.now()
        self.store.change(
            record,
            status=Status.RUNNING,
            attempt=record.attempt + 1,
            input=storable(expressions.redact(config)),
            idempotency_key=record.idempotency_key or self._effect_key(record),
            next_attempt_at=None,
        )
        if not step_type.has_effect:
            return None
        attempt = self.store.open_attempt(record, now=now)
        self.store.commit(now=now)
        return attempt

    def _may_repeat(
        self, step_type: StepType, step: dict[str, Any], record: StepExecution, config: dict[str, Any]
    ) -> bool:
        """A step that is `running` on record was cut off in its effect. Whether it may be done again."""
        if not step_type.has_effect:
            return True
        if record.interruptions >= MAX_INTERRUPTIONS:
            message = f"{record.interruptions} workers were lost in this step: it is not tried again."
            self._fail(record, RunError(message, code="runtime.crash_loop"), commit=True)
            return False
        rule = self._policy(step_type, step).on_unknown_outcome
        if rule == "retry" or (rule == "auto" and step_type.is_safe_to_repeat(config)):
            return True
        message = "The worker was lost in this step, so it may have been done or not."
        if rule == "fail":
            self._fail(record, RunError(message, code="unknown_outcome"), commit=True)
            return False
        self._ask(record, RunError(message, code="unknown_outcome"))
        return False

    def _settle_failure(
        self,
        step_type: StepType,
        step: dict[str, Any],
        record: StepExecution,
        attempt: StepAttempt | None,
        error: RunError,
    ) -> None:
        now = self.tools.now()
        policy = self._policy(step_type, step)
        timed_out = error.code == "timeout.total"
        decision = retry.decide(
            policy,
            attempt=record.attempt,
            failure=error.as_failure(),
            first_started_at=record.started_at or now,
            now=now,
            deadline_at=self.store.execution.deadline_at,
            retry_if=lambda source: self._retry_if(source, error, record),
        )
        described = self._error(error, record, retryable=decision.at is not None)
        self._close(attempt, StepAttempt.Status.TIMEOUT if timed_out else StepAttempt.Status.FAILED, error=described)
        if error.outcome_unknown and policy.on_unknown_outcome in ("auto", "ask"):
            self._ask(record, error)
        if decision.at is not None:
            self.store.log("warning", f"{error.message} {decision.reason}", path=record.path)
            self.store.change(record, status=Status.WAITING, next_attempt_at=decision.at, error=described)
            self.store.commit(now=now)
            raise Waiting(decision.at, WaitingFor.RETRY)
        self.store.log("info", decision.reason, path=record.path)
        self._fail(record, error, status=Status.TIMEOUT if timed_out else Status.FAILED, commit=step_type.has_effect)

    def _ask(self, record: StepExecution, error: RunError) -> None:
        self.store.log("warning", f"{error.message} Waiting for a decision.", path=record.path)
        self.store.change(record, status=Status.INTERRUPTED, error=self._error(error, record, retryable=False))
        self.store.commit(now=self.tools.now())
        raise Waiting(None, WaitingFor.DECISION)

    def _handle_failure(self, step: dict[str, Any], record: StepExecution, scope: Scope) -> None:
        on_error = step.get("on_error", "fail")
        if on_error == "fail":
            raise StepFailed(record)
        if isinstance(on_error, dict):
            inner = scope.inner({"error": record.error}, isolated=False)
            self.sequence(on_error["steps"], f"{record.path}[error]", inner)

    def _interrupt(self, record: StepExecution, attempt: StepAttempt | None, interrupted: Interrupted) -> None:
        """What a stop or a cancelled branch leaves of a step. What was sent before a stop stays `running`: unknown."""
        if interrupted.reason == STOPPING:
            self._close(attempt, StepAttempt.Status.RELEASED)
            status = Status.RUNNING if interrupted.request_sent else Status.PENDING
            self.store.change(record, status=status, attempt=max(0, record.attempt - 1))
        elif interrupted.reason == BRANCH_CANCELLED:
            self._close(attempt, StepAttempt.Status.CANCELLED)
            self._end(record, Status.CANCELLED)

    # --- small things -------------------------------------------------------------------------------------------------

    def _config(self, step_type: StepType, step: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        config = json_schema.with_defaults(step.get("config") or {}, step_type.config_schema)
        rendered = {
            name: value if name in step_type.unrendered else expressions.render(value, names)
            for name, value in config.items()
        }
        faults = json_schema.check_config(rendered, step_type.config_schema, templated=False)
        if faults:
            raise RunError(f"{faults[0].path}: {faults[0].message}", code="configuration.config")
        return rendered

    def _context(self, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope) -> StepContext:
        return StepContext(
            names=names,
            variables=self.store.variables,
            http=self.tools.http,
            cancellation=scope.cancellation,
            idempotency_key=record.idempotency_key,
            deadline_seconds=self._seconds_left(step),
            now=record.scheduled_at or self.tools.now(),
            execution_id=self.store.execution.pk,
            path=record.path,
            generation=record.generation,
            depth=self.store.execution.depth,
            allowed_hosts=self.tools.allowed_hosts(step.get("config") or {}),
            log=lambda level, text: self.store.log(level, text, path=record.path),
        )

    def _seconds_left(self, step: dict[str, Any]) -> float:
        limit = float(step.get("timeout_seconds", DEFAULT_STEP_TIMEOUT_SECONDS))
        deadline_at = self.store.execution.deadline_at
        if deadline_at is None:
            return limit
        return max(0.1, min(limit, (deadline_at - self.tools.now()).total_seconds()))

    def _policy(self, step_type: StepType, step: dict[str, Any]) -> retry.RetryPolicy:
        """The step's own policy is merged over the workflow's; types that do not retry have one attempt by default."""
        base = retry.normalise(self.policy) if step_type.retries else NO_RETRY
        return retry.normalise(step.get("retry") or {}, base=base)

    def _effect_key(self, record: StepExecution) -> str:
        return self.store.execution.effect_key(record.path, record.generation)

    def _retry_if(self, source: str, error: RunError, record: StepExecution) -> bool:
        names = {"error": self._error(error, record, retryable=True), "attempt": record.attempt}
        try:
            return expressions.evaluate_condition(source, names)
        except expressions.ExpressionError:
            return False

    def _close(self, attempt: StepAttempt | None, status: str, error: Any = None) -> None:
        if attempt is not None:
            self.store.close_attempt(attempt, status=status, now=self.tools.now(), error=error)

    def _fail(
        self, record: StepExecution, error: RunError, *, status: str = Status.FAILED, commit: bool = False
    ) -> None:
        self.store.log("error", error.message, path=record.path)
        self._end(record, status, error=self._error(error, record, retryable=False))
        if commit:
            self.store.commit(now=self.tools.now())

    def _end(self, record: StepExecution, status: str, *, step: dict[str, Any] | None = None, **values: Any) -> None:
        now = self.tools.now()
        started = record.started_at or now
        self.store.change(
            record,
            status=status,
            finished_at=now,
            duration_ms=max(0, round((now - started).total_seconds() * 1000)),
            next_attempt_at=None,
            **values,
        )
        target = (step or {}).get("output_as")
        if target and status == Status.SUCCESS:
            self.store.variables.set(target.removeprefix("vars."), record.output)

    def _error(self, error: RunError, record: StepExecution, *, retryable: bool) -> dict[str, Any]:
        described: dict[str, Any] = {
            "code": error.code,
            "type": error.code.split(".")[0],
            "message": masked_text(error.message),
            "retryable": retryable,
            "step": record.path,
            "attempt": record.attempt,
        }
        if error.answer is not None:
            described["status"] = error.answer.get("status")
            described["answer"] = storable(error.answer)
        if error.detail is not None:
            described["detail"] = storable(error.detail)
        return described


def as_run_error(error: AutomationLabError) -> RunError:
    if isinstance(error, RunError):
        return error
    code = error.code if "." in error.code else f"configuration.{error.code}"
    return RunError(error.message, code=code)


def _without_secrets(output: Any) -> Any:
    if expressions.contains_secret(output):
        raise RunError("A secret cannot be part of a step's result.", code="expression.secret")
    return output
