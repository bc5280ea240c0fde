"""How a worker runs one task execution: record the attempt, do it, record the result and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from automation_lab.core import clock, expressions, json_schema
from automation_lab.core.crypto import DecryptionError
from automation_lab.core.execution import queue, retry
from automation_lab.core.execution.claims import CANCELLED, REPLACED, STOPPING, Claim, Replaced
from automation_lab.core.execution.failures import Interrupted, RunError
from automation_lab.core.execution.models import Execution
from automation_lab.core.execution.results import masked_text, storable
from automation_lab.core.execution.runner import Executable
from automation_lab.core.expressions import ExpressionError
from automation_lab.core.http import HttpClient
from tasks import outcomes
from tasks.handlers.base import TaskContext, TaskHandler, handlers
from tasks.handlers.http_call import CallContext, capped_answer, secret_names
from tasks.models import ScheduledTask, TaskAttempt, TaskExecution, TaskLog
from tasks.secret_context import SecretsContext, allowed_hosts

Status = TaskExecution.Status
WORKER_LOST = "The worker was lost during the run, and this task is set to fail then."
WORKER_STOPPED = "The worker stopped during the run, and this task is set to fail then."
MOST_LOST_WORKERS = 5
NO_DECISION = retry.Decision(None, "")
CRASH_LOOP = f"{MOST_LOST_WORKERS} workers were lost in this run: it is not tried again."


@dataclass(frozen=True)
class Outcome:
    """What one attempt came to: an output, an error with what follows from it, or an interruption."""

    output: dict[str, Any] | None = None
    error: RunError | None = None
    decision: retry.Decision = NO_DECISION
    interrupted: Interrupted | None = None


class TaskExecutable(Executable):
    """Runs task executions. `http` is the outbound client, replaced in tests."""

    model = TaskExecution

    def __init__(self, http: HttpClient | None = None) -> None:
        self.http = http or HttpClient()

    def run(self, execution: Execution, claim: Claim) -> None:
        assert isinstance(execution, TaskExecution)  # noqa: S101 - the registry pairs model and executable
        task = execution.task
        attempt = queue.persist(lambda: _begin(execution, claim))
        outcome = self._attempt(task, execution, claim)
        if outcome.error is not None:
            outcome = replace(outcome, decision=_decide(task, execution, attempt, outcome.error, claim))
        queue.persist(lambda: _settle(task, execution, attempt, outcome, claim))

    def _attempt(self, task: ScheduledTask, execution: TaskExecution, claim: Claim) -> Outcome:
        try:
            handler = handlers.get(task.task_type)
            config = rendered_config(task, execution, handler)
            context = self._context(task, execution, claim)
            return Outcome(output=storable(handler.run(config=config, context=context)))
        except Interrupted as interrupted:
            return Outcome(interrupted=interrupted)
        except RunError as error:
            return Outcome(error=error)
        except ExpressionError as error:
            return Outcome(error=RunError(error.message, code=error.code))
        except DecryptionError as error:
            return Outcome(error=RunError(error.message, code="configuration.secret"))

    def _context(self, task: ScheduledTask, execution: TaskExecution, claim: Claim) -> TaskContext:
        names = secret_names(expressions.references(task.config))
        call = CallContext(
            http=self.http,
            cancellation=claim.cancellation,
            idempotency_key=execution.effect_key(),
            deadline_seconds=task.timeout_seconds,
            allowed_hosts=allowed_hosts(names),
        )
        return TaskContext(call=call, execution_id=execution.pk, log=lambda level, text: _log(claim, level, text))

    def crashed(self, execution: Execution, claim: Claim, *, now: datetime, error: Exception) -> None:
        message = f"Internal error: {type(error).__name__}. The server's log has the details."
        _close_attempts(execution, status=TaskAttempt.Status.FAILED, now=now, error="runtime.internal", message=message)
        queue.finish(claim, status=Status.FAILED, now=now, error_message=message)
        assert isinstance(execution, TaskExecution)  # noqa: S101
        outcomes.record(execution, status=Status.FAILED, error_message=message, now=now)
        _write_log(claim)

    def taken_over(self, execution: Execution, *, worker: int, now: datetime) -> str:
        assert isinstance(execution, TaskExecution)  # noqa: S101
        message = f"Worker {worker} was lost."
        _close_attempts(
            execution, status=TaskAttempt.Status.LOST, now=now, error="runtime.worker_lost", message=message
        )
        if execution.task.on_lost_worker == ScheduledTask.OnLostWorker.FAIL:
            return WORKER_LOST
        lost = execution.attempts.filter(status=TaskAttempt.Status.LOST).count()
        return CRASH_LOOP if lost >= MOST_LOST_WORKERS else ""

    def ended(self, execution: Execution, *, now: datetime) -> None:
        assert isinstance(execution, TaskExecution)  # noqa: S101
        outcomes.record(execution, status=execution.status, error_message=execution.error_message, now=now)


def rendered_config(task: ScheduledTask, execution: TaskExecution, handler: TaskHandler) -> dict[str, Any]:
    """The complete config of this run, secrets tagged. Raises ExpressionError or RunError."""
    context: Mapping[str, Any] = {
        "input": execution.input_data,
        "last": {"output": task.last_output},
        "task": {"id": task.pk, "name": task.name},
        "execution": {"id": execution.pk, "scheduled_for": execution.scheduled_for},
        "secrets": SecretsContext(),
        "now": execution.started_at,
    }
    config = json_schema.with_defaults(task.config, handler.config_schema)
    config = {
        name: value if name in handler.unrendered else expressions.render(value, context)
        for name, value in config.items()
    }
    faults = json_schema.check_config(config, handler.config_schema, templated=False)
    if faults:
        raise RunError(f"{faults[0].path}: {faults[0].message}", code="configuration.config")
    return config


def _begin(execution: TaskExecution, claim: Claim) -> TaskAttempt:
    """Commit before the effect: the attempt is on record whatever happens to this process. Safe to repeat."""
    queue.guard(claim)
    number = execution.attempt + 1
    now = clock.database_now()
    claim.rows().update(attempt=number, updated_at=now)
    attempt = TaskAttempt(execution=execution, number=number, epoch=claim.epoch, worker=claim.worker, started_at=now)
    TaskAttempt.objects.bulk_create(
        [attempt], update_conflicts=True, unique_fields=["execution", "epoch"], update_fields=["started_at"]
    )
    return attempt


def _decide(
    task: ScheduledTask, execution: TaskExecution, attempt: TaskAttempt, error: RunError, claim: Claim
) -> retry.Decision:
    """What follows from `error`: decided and logged once, however often its record has to be written."""
    now = queue.persist(clock.database_now)
    decision = retry.decide(
        retry.normalise(task.retry_policy),
        attempt=attempt.number,
        failure=error.as_failure(),
        first_started_at=execution.started_at or now,
        now=now,
        deadline_at=execution.deadline_at,
        retry_if=lambda source: _retry_if(source, error, attempt.number),
    )
    _log(claim, "error", f"Attempt {attempt.number} failed: {error.message} {decision.reason}")
    return decision


def _settle(
    task: ScheduledTask, execution: TaskExecution, attempt: TaskAttempt, outcome: Outcome, claim: Claim
) -> None:
    """Commit after the effect: result, counters and next attempt together, or nothing if this claim was replaced."""
    if task.overlap == ScheduledTask.Overlap.CANCEL_PREVIOUS:
        # The ticker holds the task when it cancels a run: taking both in the same order, neither waits for the other.
        ScheduledTask.objects.select_for_update(no_key=True).filter(pk=task.pk).first()
    now = clock.database_now()
    if outcome.interrupted is not None:
        _settle_interruption(task, attempt, outcome.interrupted, claim, now)
    elif outcome.error is not None:
        _settle_error(execution, attempt, outcome.error, outcome.decision, claim, now)
    else:
        _settle_success(attempt, outcome.output, claim, now)
    _write_log(claim)


def _settle_success(attempt: TaskAttempt, output: dict[str, Any] | None, claim: Claim, now: datetime) -> None:
    queue.finish(claim, status=Status.SUCCESS, now=now, output_data=output)
    outcomes.record(attempt.execution, status=Status.SUCCESS, output=output, now=now)
    answer = capped_answer(output) if output and {"status", "body"} <= output.keys() else None
    _close(attempt, status=TaskAttempt.Status.SUCCESS, now=now, answer=answer)


def _settle_error(
    execution: TaskExecution,
    attempt: TaskAttempt,
    error: RunError,
    decision: retry.Decision,
    claim: Claim,
    now: datetime,
) -> None:
    message = masked_text(error.message)
    timed_out = retry.matches(error.code, ("timeout",))
    _close(
        attempt,
        status=TaskAttempt.Status.TIMEOUT if timed_out else TaskAttempt.Status.FAILED,
        now=now,
        error_class=error.code,
        error_message=message,
        answer=storable(error.answer),
        next_attempt_at=decision.at,
        next_reason=decision.reason[:200],
    )
    if decision.at is not None:
        queue.park(claim, due_at=decision.at, now=now, status=Status.PENDING, error_message=message)
        return
    final = Status.TIMEOUT if timed_out else Status.FAILED
    queue.finish(claim, status=final, now=now, error_message=message)
    outcomes.record(execution, status=final, error_message=message, now=now)


def _settle_interruption(
    task: ScheduledTask, attempt: TaskAttempt, interrupted: Interrupted, claim: Claim, now: datetime
) -> None:
    if interrupted.reason == REPLACED:
        raise Replaced(claim)
    may_run_again = task.on_lost_worker == ScheduledTask.OnLostWorker.RERUN or not interrupted.request_sent
    if interrupted.reason == STOPPING and not may_run_again:
        _close(attempt, status=TaskAttempt.Status.LOST, now=now, error_message=WORKER_STOPPED)
        queue.finish(claim, status=Status.FAILED, now=now, error_message=WORKER_STOPPED)
        outcomes.record(attempt.execution, status=Status.FAILED, error_message=WORKER_STOPPED, now=now)
        return
    if interrupted.reason == STOPPING:
        _close(attempt, status=TaskAttempt.Status.RELEASED, now=now, error_message="Handed back: the worker stopped.")
        queue.park(claim, due_at=now, now=now, status=Status.PENDING, attempt=attempt.number - 1)
        return
    if interrupted.reason == CANCELLED:
        _close(attempt, status=TaskAttempt.Status.CANCELLED, now=now, error_message="Cancelled.")
        queue.finish(claim, status=Status.CANCELLED, now=now, error_message="Cancelled.")
        outcomes.record(attempt.execution, status=Status.CANCELLED, error_message="Cancelled.", now=now)
        return
    message = "Not finished within its time limit."
    _close(attempt, status=TaskAttempt.Status.TIMEOUT, now=now, error_class="timeout.total", error_message=message)
    queue.finish(claim, status=Status.TIMEOUT, now=now, error_message=message)
    outcomes.record(attempt.execution, status=Status.TIMEOUT, error_message=message, now=now)


def _retry_if(source: str, error: RunError, attempt: int) -> bool:
    status = (error.answer or {}).get("status")
    names = {"error": {"code": error.code, "message": error.message, "status": status}, "attempt": attempt}
    try:
        return expressions.evaluate_condition(source, names)
    except ExpressionError:
        return False


def _close(attempt: TaskAttempt, *, status: str, now: datetime, **values: Any) -> None:
    attempt.status, attempt.finished_at = status, now
    attempt.duration_ms = max(0, round((now - attempt.started_at).total_seconds() * 1000))
    for name, value in values.items():
        setattr(attempt, name, value)
    attempt.save(update_fields=["status", "finished_at", "duration_ms", *values])


def _close_attempts(execution: Execution, *, status: str, now: datetime, error: str, message: str) -> None:
    TaskAttempt.objects.filter(execution_id=execution.pk, status=TaskAttempt.Status.RUNNING).update(
        status=status, finished_at=now, error_class=error, error_message=message
    )


def _log(claim: Claim, level: str, text: str) -> None:
    claim.log.add(level, masked_text(text), at=clock.process_now())


def _write_log(claim: Claim) -> None:
    lines = claim.log.lines()
    TaskLog.objects.bulk_create(
        TaskLog(execution_id=claim.pk, epoch=claim.epoch, **{k: v for k, v in line.items() if k != "path"})
        for line in lines
    )
