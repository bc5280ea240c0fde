"""How a worker runs one task execution: record the attempt, do it, record the result and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from automation_lab.core import clock, expressions, json_schema
from automation_lab.core.crypto import DecryptionError
from automation_lab.core.execution import attempts, queue, retry
from automation_lab.core.execution.attempts import Outcome
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.failures import Interrupted, RunError, internal_error
from automation_lab.core.execution.interruptions import end_of
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


class TaskExecutable(Executable):
    """Runs task executions. `http` is the outbound client, replaced in tests."""

    model = TaskExecution

    def __init__(self, http: HttpClient | None = None) -> None:
        self.http = http or HttpClient()

    def rows(self) -> QuerySet[TaskExecution]:
        return TaskExecution.objects.select_related("task")

    def run(self, execution: Execution, claim: Claim) -> None:
        assert isinstance(execution, TaskExecution)  # noqa: S101 - the registry pairs model and executable
        task = execution.task
        attempt = queue.persist(lambda: attempts.begin(execution, claim))
        outcome = self._attempt(task, execution, claim)
        if outcome.error is not None:
            outcome = replace(outcome, decision=_decide(task, execution, attempt, outcome.error, claim))
        queue.persist(lambda: _settle(task, attempt, outcome, claim))

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
        assert isinstance(execution, TaskExecution)  # noqa: S101
        message = internal_error(error)
        _finish(execution, claim, status=Status.FAILED, error_message=message, now=now)
        attempts.close_crashed(execution, now=now, error_message=message)
        _write_log(claim)

    def taken_over(self, execution: Execution, *, worker: int, now: datetime) -> str:
        assert isinstance(execution, TaskExecution)  # noqa: S101
        loop = attempts.close_lost(execution, worker=worker, now=now, noun="run")
        return WORKER_LOST if execution.task.on_lost_worker == ScheduledTask.OnLostWorker.FAIL else loop

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
        retry_if=lambda source: _retry_if(source, error, attempt.number, claim),
    )
    _log(claim, "error", f"Attempt {attempt.number} failed: {error.message} {decision.reason}")
    return decision


def _settle(task: ScheduledTask, attempt: TaskAttempt, outcome: Outcome, claim: Claim) -> None:
    """Commit after the effect: result, counters and next attempt together, or nothing if this claim was replaced."""
    if task.overlap == ScheduledTask.Overlap.CANCEL_PREVIOUS:
        # The ticker holds the task when it cancels a run: taking both in the same order, neither waits for the other.
        ScheduledTask.objects.select_for_update(no_key=True).filter(pk=task.pk).first()
    now = clock.database_now()
    if outcome.interrupted is not None:
        _settle_interruption(task, attempt, outcome.interrupted, claim, now)
    elif outcome.error is not None:
        _settle_error(attempt, outcome.error, outcome.decision, claim, now)
    else:
        _settle_success(attempt, outcome.output, claim, now)
    _write_log(claim)


def _settle_success(attempt: TaskAttempt, output: dict[str, Any] | None, claim: Claim, now: datetime) -> None:
    queue.finish(claim, status=Status.SUCCESS, now=now, output_data=output)
    outcomes.record(attempt.execution, status=Status.SUCCESS, output=output, now=now)
    answer = capped_answer(output) if output and {"status", "body"} <= output.keys() else None
    attempts.close(attempt, status=TaskAttempt.Status.SUCCESS, now=now, answer=answer)


def _settle_error(attempt: TaskAttempt, error: RunError, decision: retry.Decision, claim: Claim, now: datetime) -> None:
    message = masked_text(error.message)
    if decision.at is not None:
        queue.park(claim, due_at=decision.at, now=now, status=Status.PENDING, error_message=message)
    else:
        _finish(attempt.execution, claim, status=attempts.status_of(error), error_message=message, now=now)
    attempts.close_failed(attempt, error, decision, now=now)


def _settle_interruption(
    task: ScheduledTask, attempt: TaskAttempt, interrupted: Interrupted, claim: Claim, now: datetime
) -> None:
    end = end_of(claim, interrupted.reason)
    may_run_again = task.on_lost_worker == ScheduledTask.OnLostWorker.RERUN or not interrupted.request_sent
    if end is not None:
        _finish(attempt.execution, claim, status=end.status, error_message=end.error_message, now=now)
        attempts.close_cut_off(attempt, end, now=now)
    elif may_run_again:
        attempts.release(attempt, claim, now=now)
    else:
        _finish(attempt.execution, claim, status=Status.FAILED, error_message=WORKER_STOPPED, now=now)
        attempts.close(attempt, status=TaskAttempt.Status.LOST, now=now, error_message=WORKER_STOPPED)


def _finish(execution: TaskExecution, claim: Claim, *, status: str, error_message: str, now: datetime) -> None:
    queue.finish(claim, status=status, now=now, error_message=error_message)
    outcomes.record(execution, status=status, error_message=error_message, now=now)


def _retry_if(source: str, error: RunError, attempt: int, claim: Claim) -> bool:
    status = (error.answer or {}).get("status")
    names = {"error": {"code": error.code, "message": error.message, "status": status}, "attempt": attempt}
    try:
        return expressions.evaluate_condition(source, names)
    except ExpressionError as fault:
        _log(claim, "warning", f"retry_if cannot be evaluated, so there is no retry: {fault.message}")
        return False


def _log(claim: Claim, level: str, text: str) -> None:
    claim.log.add(level, masked_text(text), at=clock.process_now())


def _write_log(claim: Claim) -> None:
    lines = claim.log.lines()
    TaskLog.objects.bulk_create(
        TaskLog(execution_id=claim.pk, epoch=claim.epoch, **{k: v for k, v in line.items() if k != "path"})
        for line in lines
    )
