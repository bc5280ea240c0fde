"""The claim protocol: enqueue, claim, guard, park, finish, cancel. Task runs, workflow runs and forwards share it.

The execution row is the queue entry, the lock and the record; Procrastinate's jobs only say "look at execution N".
A repeated or late job loses the claim and is dropped; a lost one is sent again by `recovery`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection, models, transaction
from django.db.models import F

from automation_lab.core import correlation
from automation_lab.core.exceptions import Conflict
from automation_lab.core.execution import concurrency
from automation_lab.core.execution.claims import Claim, Replaced
from automation_lab.core.execution.hints import kind_of, run_job, send_job
from automation_lab.core.execution.interruptions import CANCELLED_MESSAGE
from automation_lab.core.execution.models import LIVE_STATUSES, Execution
from automation_lab.core.registry import executables

logger = logging.getLogger(__name__)
E = TypeVar("E", bound=Execution)
R = TypeVar("R")

CLAIM = """
    UPDATE {table} SET status = 'running', worker = %(worker)s, epoch = epoch + 1,
        started_at = COALESCE(started_at, %(now)s), updated_at = %(now)s
    WHERE id = %(id)s AND worker IS NULL AND status IN ('pending', 'running') AND due_at <= %(now)s
        AND (started_at IS NOT NULL OR expires_at IS NULL OR expires_at > %(now)s)
        AND (%(admitted)s OR concurrency_keys = '{{}}')
    RETURNING epoch
"""


@transaction.atomic
def enqueue(execution: E, *, due_at: datetime) -> E:
    """Insert `execution` and its job together; neither exists without the other."""
    execution.due_at = due_at
    execution.correlation_id = execution.correlation_id or correlation.correlation_id.get()
    execution.save(force_insert=True)
    send_job(execution, due_at=due_at)
    return execution


def enqueue_many(executions: Sequence[E], *, due_at: datetime) -> list[E]:
    """`enqueue` for a batch of one kind in a constant number of statements. The caller holds a transaction."""
    if not executions:
        return []
    for execution in executions:
        execution.due_at = due_at
    created = type(executions[0])._default_manager.bulk_create(executions)
    send_jobs(created)
    return created


def send_jobs(executions: Sequence[Execution]) -> None:
    """`send_job` for executions of one kind that are due now, in two statements."""
    if not executions:
        return
    model = type(executions[0])
    # One priority for the batch: what is due together is deferred together.
    job = run_job(priority=max(row.priority for row in executions))
    job_ids = job.batch_defer(*({"kind": kind_of(model), "execution_id": row.pk} for row in executions))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {model._meta.db_table} e SET job_id = v.job_id "  # noqa: S608 - the name of our own table
            "FROM unnest(%s::bigint[], %s::bigint[]) AS v(id, job_id) WHERE e.id = v.id",
            [[row.pk for row in executions], job_ids],
        )


def claim(execution: Execution, *, worker: int, now: datetime, admitted: bool = False) -> int | None:
    """Take `execution` for `worker`: the new epoch for exactly one of those racing for it, None for the others.

    One statement on purpose: an UPDATE followed by a SELECT could read the epoch of whoever came next. An execution
    with a concurrency limit is taken only when `admitted` (see `concurrency`).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            CLAIM.format(table=execution._meta.db_table),
            {"worker": worker, "now": now, "id": execution.pk, "admitted": admitted},
        )
        row = cursor.fetchone()
    return row[0] if row else None


def guard(claim: Claim) -> None:
    """Lock the execution's row for the rest of the transaction. Raises Replaced if another claim has taken over."""
    held = claim.rows().select_for_update(no_key=True).values_list("pk", flat=True)
    if not held.exists():
        raise Replaced(claim)


def park(claim: Claim, *, due_at: datetime | None, now: datetime, **changes: Any) -> None:
    """Let go of the execution until `due_at` (None: until an event wakes it). Frees the worker's slot.

    One that was asked to cancel in the meantime ends here. Belongs in the transaction that records why. Raises
    Replaced.
    """
    values = {"worker": None, "due_at": due_at, "updated_at": now, "job_id": None, **changes}
    if "error_message" in changes:  # in its place `cancel` may have noted why
        why = models.When(cancel_requested_at__isnull=True, then=models.Value(changes["error_message"]))
        values["error_message"] = models.Case(why, default=F("error_message"), output_field=models.TextField())
    _lock_limited(claim)
    with concurrency.leaving(claim.model, claim.concurrency_keys, now=now):
        if claim.rows().update(**values) == 0:
            raise Replaced(claim)
    # The update has locked the row: from here on a request to cancel finds it free and ends it by itself.
    execution = claim.model._default_manager.get(pk=claim.pk)
    if execution.cancel_requested_at is not None:
        end(execution, status="cancelled", now=now, error_message=execution.error_message or CANCELLED_MESSAGE)
    elif due_at is not None:
        send_job(execution, due_at=due_at)


def finish(claim: Claim, *, status: str, now: datetime, error_message: str = "", **changes: Any) -> None:
    """Record the one final result. Belongs in the transaction that records what follows. Raises Replaced."""
    ended = {**_ended(status=status, now=now, error_message=error_message), **changes}
    _lock_limited(claim)
    with concurrency.leaving(claim.model, claim.concurrency_keys, now=now):
        if claim.rows().update(**ended) == 0:
            raise Replaced(claim)


@transaction.atomic
def wake(execution: Execution, *, now: datetime) -> bool:
    """An event has come: make a parked execution due now. False if it is held, finished or on its way already."""
    parked = type(execution)._default_manager.filter(pk=execution.pk, worker__isnull=True, status__in=LIVE_STATUSES)
    if parked.update(due_at=now, updated_at=now) == 0:
        return False
    send_job(execution, due_at=now)
    return True


@transaction.atomic
def cancel(execution: E, *, now: datetime, reason: str = CANCELLED_MESSAGE) -> E:
    """End a waiting execution at once, ask the worker of a held one to stop. Raises Conflict if it has finished."""
    row: E = type(execution)._default_manager.select_for_update(no_key=True).get(pk=execution.pk)
    if row.is_finished:
        raise Conflict(f"This execution has finished already: {row.status}.")
    if row.worker is None:
        end(row, status="cancelled", now=now, error_message=reason)
    elif row.cancel_requested_at is None:
        row.cancel_requested_at = row.updated_at = now
        row.error_message = reason
        row.save(update_fields=["cancel_requested_at", "updated_at", "error_message"])
    return row


def end(execution: Execution, *, status: str, now: datetime, error_message: str = "") -> None:
    """End an execution that no worker holds and let its app close what hangs on it.

    The caller holds the row's lock and has seen that it is live and free.
    """
    for field, value in _ended(status=status, now=now, error_message=error_message).items():
        if field != "duration_ms":
            setattr(execution, field, value)
    started = execution.started_at
    execution.duration_ms = round((now - started).total_seconds() * 1000) if started else None
    fields = ["status", "worker", "due_at", "finished_at", "updated_at", "error_message", "duration_ms"]
    with concurrency.leaving(type(execution), execution.concurrency_keys, now=now):
        execution.save(update_fields=fields)
    executables.get(kind_of(execution)).ended(execution, now=now)


def persist(write: Callable[[], R], *, patience_seconds: float = 20, sleep: Callable[[float], None] = time.sleep) -> R:
    """Run `write` in a transaction; while the database is away, try again for `patience_seconds`.

    Safe to repeat because every write tests the claim: after a commit whose answer was lost it raises Replaced.
    """
    waited, delay = 0.0, 0.2
    while True:
        try:
            with transaction.atomic():
                return write()
        except (OperationalError, InterfaceError):
            if waited >= patience_seconds:
                raise
            logger.warning("The database is away; the result is kept and written again.")
            connection.close()
            sleep(delay)
            waited, delay = waited + delay, min(delay * 2, 3.0)


def _lock_limited(claim: Claim) -> None:
    """The row before its keys: the order of locks in which everybody else takes them."""
    if claim.concurrency_keys:
        guard(claim)


def _ended(*, status: str, now: datetime, error_message: str) -> dict[str, Any]:
    elapsed = models.Func(
        now - F("started_at"),
        template="GREATEST(0, round(extract(epoch FROM (%(expressions)s)) * 1000))::bigint",
        output_field=models.BigIntegerField(),
    )
    return {
        "status": status,
        "worker": None,
        "due_at": None,
        "finished_at": now,
        "updated_at": now,
        "error_message": error_message,
        "duration_ms": elapsed,
    }
