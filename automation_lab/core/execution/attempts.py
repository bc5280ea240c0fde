"""The attempts of executions: on record before the effect, closed after it, or when their worker was lost.

The row of the execution is locked before that of its attempt, by workers and by recovery: neither waits for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from automation_lab.core import clock
from automation_lab.core.execution import queue, retry
from automation_lab.core.execution.claims import Claim, Replaced
from automation_lab.core.execution.failures import Interrupted, RunError
from automation_lab.core.execution.interruptions import RELEASED_MESSAGE, End
from automation_lab.core.execution.models import Attempt, ExecutionAttempt, ExecutionStatus
from automation_lab.core.execution.results import masked_text, storable

MOST_LOST_WORKERS = 5
NO_DECISION = retry.Decision(None, "")


@dataclass(frozen=True)
class Outcome:
    """What one attempt came to: an output, an error with what follows from it, or an interruption."""

    output: dict[str, Any] | None = None
    error: RunError | None = None
    decision: retry.Decision = NO_DECISION
    interrupted: Interrupted | None = None


def begin(execution: Any, claim: Claim) -> Any:
    """Commit before the effect: the attempt is on record whatever happens to this process. Safe to repeat. Raises Replaced."""
    number, now = execution.attempt + 1, clock.database_now()
    if claim.rows().update(attempt=number, updated_at=now) == 0:
        raise Replaced(claim)
    model, owner = execution.attempts.model, execution.attempts.field.name
    attempt = model(**{owner: execution}, number=number, epoch=claim.epoch, worker=claim.worker, started_at=now)
    model._default_manager.bulk_create(
        [attempt], update_conflicts=True, unique_fields=[owner, "epoch"], update_fields=["started_at"]
    )
    return attempt


def close(attempt: Attempt, *, status: str, now: datetime, **values: Any) -> None:
    attempt.status, attempt.finished_at = status, now
    attempt.duration_ms = max(0, round((now - attempt.started_at).total_seconds() * 1000))
    for name, value in values.items():
        setattr(attempt, name, value)
    attempt.save(update_fields=["status", "finished_at", "duration_ms", *values])


def close_failed(attempt: ExecutionAttempt, error: RunError, decision: retry.Decision, *, now: datetime) -> None:
    close(
        attempt,
        status=status_of(error),
        now=now,
        error_class=error.code,
        error_message=masked_text(error.message),
        answer=storable(error.answer),
        next_attempt_at=decision.at,
        next_reason=decision.reason[:200],
    )


def close_cut_off(attempt: ExecutionAttempt, end: End, *, now: datetime) -> None:
    close(attempt, status=end.status, now=now, error_class=end.error_class, error_message=end.error_message)


def release(attempt: ExecutionAttempt, claim: Claim, *, now: datetime) -> None:
    """Hand the execution back without counting the attempt."""
    queue.park(claim, due_at=now, now=now, status=ExecutionStatus.PENDING, attempt=attempt.number - 1)
    close(attempt, status=Attempt.Status.RELEASED, now=now, error_message=RELEASED_MESSAGE)


def status_of(error: RunError) -> str:
    """How an attempt ends that failed with `error`, and the execution if it is not tried again."""
    timed_out = retry.matches(error.code, ("timeout",))
    return ExecutionStatus.TIMEOUT if timed_out else ExecutionStatus.FAILED


def close_crashed(execution: Any, *, now: datetime, error_message: str) -> None:
    """Close what something unforeseen has left open."""
    _close_running(execution, status="failed", now=now, error_class="runtime.internal", error_message=error_message)


def close_lost(execution: Any, *, worker: int, now: datetime, noun: str) -> str:
    """Close what the dead `worker` has left open. Returns why its execution, a `noun`, must fail, or "" to run again."""
    message = f"Worker {worker} was lost."
    _close_running(execution, status="lost", now=now, error_class="runtime.worker_lost", error_message=message)
    return crash_loop(execution.attempts.filter(status=Attempt.Status.LOST).count(), noun)


def crash_loop(lost: int, noun: str) -> str:
    """Why a `noun` in which so many workers were lost is not run again, or ""."""
    looping = lost >= MOST_LOST_WORKERS
    return f"{MOST_LOST_WORKERS} workers were lost in this {noun}: it is not tried again." if looping else ""


def _close_running(execution: Any, *, status: str, now: datetime, **error: str) -> None:
    execution.attempts.filter(status=Attempt.Status.RUNNING).update(status=status, finished_at=now, **error)
