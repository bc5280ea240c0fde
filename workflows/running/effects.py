"""How a plain step is run: its attempt on record before the effect, the result after it, and what a failure leads to."""

from __future__ import annotations

from typing import Any

from automation_lab.core import expressions
from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.execution import retry
from automation_lab.core.execution.claims import STOPPING
from automation_lab.core.execution.failures import Interrupted, RunError
from workflows.models import StepAttempt, StepExecution, WorkflowExecution
from workflows.running.flow import BRANCH_CANCELLED, Waiting
from workflows.running.recording import Recorder, Toolbox, as_run_error, kept
from workflows.running.scope import Scope
from workflows.running.store import RunStore
from workflows.steps.base import StepType, Stop

Status = StepExecution.Status
WaitingFor = WorkflowExecution.WaitingFor
MAX_INTERRUPTIONS = 3
NO_RETRY = retry.RetryPolicy(max_attempts=1)


class Effects(Recorder):
    """The part of the engine that runs plain steps. `policy` is the workflow's; a step's own is merged over it."""

    def __init__(self, store: RunStore, tools: Toolbox, policy: dict[str, Any]) -> None:
        super().__init__(store, tools)
        self.policy = policy

    def _run_plain(
        self, step_type: StepType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> None:
        if record.status == Status.INTERRUPTED and not self._is_decided(record):
            return
        if record.status == Status.WAITING and record.next_attempt_at and record.next_attempt_at > self.tools.now():
            raise Waiting(record.next_attempt_at, WaitingFor.RETRY)
        try:
            config = self._config(step_type, step, names)
        except AutomationLabError as error:
            self._fail(record, as_run_error(error))
            return
        if record.status == Status.RUNNING and not self._may_repeat(step_type, step, record, config):
            return
        attempt: StepAttempt | None = None
        try:
            attempt = self._begin(step_type, record, config)
            step_context = self._context(step, record, names, scope)
            if step_type.has_effect:
                self.tools.release_connection()
            output = kept(_without_secrets(step_type.run(config=config, context=step_context)))
        except Interrupted as interrupted:
            self._interrupt(record, attempt, interrupted)
            raise
        except Stop as stopped:
            self._close(attempt, StepAttempt.Status.SUCCESS)
            self._end(record, Status.SUCCESS, step=step, output=kept(stopped.output))
            raise
        except AutomationLabError as error:
            self._settle_failure(step_type, step, record, attempt, as_run_error(error))
            return
        self._close(attempt, StepAttempt.Status.SUCCESS)
        self._end(record, Status.SUCCESS, step=step, output=output, error=None)
        if step_type.has_effect or step_type.is_awaited:
            self.store.commit(now=self.tools.now())

    def _begin(self, step_type: StepType, record: StepExecution, config: dict[str, Any]) -> StepAttempt | None:
        """Put the attempt on record: before the effect for steps that have one, else with the next commit."""
        now = self.tools.now()
        self.store.change(
            record,
            status=Status.RUNNING,
            attempt=record.attempt + 1,
            input=kept(config),
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
        timed_out = retry.matches(error.code, ("timeout",))
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
            self.store.log("warning", f"{described['message']} {decision.reason}", path=record.path)
            self.store.change(record, status=Status.WAITING, next_attempt_at=decision.at, error=described)
            self.store.commit(now=now)
            raise Waiting(decision.at, WaitingFor.RETRY)
        self.store.log("info", decision.reason, path=record.path)
        self._fail(record, error, status=Status.TIMEOUT if timed_out else Status.FAILED, commit=step_type.has_effect)

    def _ask(self, record: StepExecution, error: RunError) -> None:
        described = self._error(error, record, retryable=False)
        self.store.log("warning", f"{described['message']} Waiting for a decision.", path=record.path)
        self.store.change(record, status=Status.INTERRUPTED, error=described)
        self.store.commit(now=self.tools.now())
        raise Waiting(None, WaitingFor.DECISION)

    def _is_decided(self, record: StepExecution) -> bool:
        """Apply the decision about an interrupted step; True if it is to be run again. Waits while there is none."""
        decision = record.signal
        if decision is None:
            raise Waiting(None, WaitingFor.DECISION)
        author = decision.get("by") or "an operator"
        self.store.log("info", f"Decided by {author}: {decision['action']}.", path=record.path)
        if decision["action"] == "retry":
            again = {"generation": record.generation + 1, "idempotency_key": "", "attempt": 0, "interruptions": 0}
            self.store.change(record, status=Status.PENDING, signal=None, error=None, **again)
            return True
        if decision["action"] == "skip":
            self._end(record, Status.SKIPPED, output=decision["output"], error=None)
        else:
            self._fail(record, RunError(f"Marked as failed by {author}.", code="unknown_outcome"))
        return False

    def _interrupt(self, record: StepExecution, attempt: StepAttempt | None, interrupted: Interrupted) -> None:
        """What a stop or a cancelled branch leaves of a step. What was sent before a stop stays `running`: unknown."""
        if interrupted.reason == STOPPING:
            self._close(attempt, StepAttempt.Status.RELEASED)
            status = Status.RUNNING if interrupted.request_sent else Status.PENDING
            self.store.change(record, status=status, attempt=max(0, record.attempt - 1))
        elif interrupted.reason == BRANCH_CANCELLED:
            self._close(attempt, StepAttempt.Status.CANCELLED)
            self._end(record, Status.CANCELLED)

    def _close(self, attempt: StepAttempt | None, status: str, error: Any = None) -> None:
        if attempt is not None:
            self.store.close_attempt(attempt, status=status, now=self.tools.now(), error=error)

    def _policy(self, step_type: StepType, step: dict[str, Any]) -> retry.RetryPolicy:
        """The step's own policy is merged over the workflow's; types that do not retry have one attempt by default."""
        base = retry.normalise(self.policy) if step_type.retries else NO_RETRY
        return retry.normalise(step.get("retry") or {}, base=base)

    def _retry_if(self, source: str, error: RunError, record: StepExecution) -> bool:
        names = {"error": self._error(error, record, retryable=True), "attempt": record.attempt}
        try:
            return expressions.evaluate_condition(source, names)
        except expressions.ExpressionError as fault:
            text = f"retry_if cannot be evaluated, so there is no retry: {fault.message}"
            self.store.log("warning", text, path=record.path)
            return False


def _without_secrets(output: Any) -> Any:
    if expressions.contains_secret(output):
        raise RunError("A secret cannot be part of a step's result.", code="expression.secret")
    return output
