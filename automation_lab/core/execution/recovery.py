"""Takes over what dead workers held, ends what is past its time, and sends lost jobs again.

Works on our rows, never on jobs: a job's state means nothing here. Runs in every worker; SKIP LOCKED and
compare-and-set keep them out of each other's way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q

from automation_lab.core import clock
from automation_lab.core.execution import queue
from automation_lab.core.execution.claims import held
from automation_lab.core.execution.hints import send_job
from automation_lab.core.execution.interruptions import CANCELLED_MESSAGE, TIMEOUT_MESSAGE
from automation_lab.core.execution.models import LIVE_STATUSES, Execution
from automation_lab.core.execution.runner import Executable
from automation_lab.core.registry import executables

logger = logging.getLogger(__name__)

DEAD_AFTER_SECONDS = 15
RESEND_AFTER_SECONDS = 5
BATCH = 100

DEAD_HOLDERS = """
    SELECT e.id FROM {table} e
    WHERE e.worker IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM procrastinate_workers w
        WHERE w.id = e.worker AND w.last_heartbeat > %(now)s - make_interval(secs => {dead})
    )
    ORDER BY e.id LIMIT {batch} FOR NO KEY UPDATE OF e SKIP LOCKED
"""
WITHOUT_JOB = """
    SELECT e.id FROM {table} e
    WHERE e.worker IS NULL AND e.status IN ('pending', 'running')
        AND e.due_at <= %(now)s - make_interval(secs => {resend})
        AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.id = e.job_id AND j.status = 'todo')
    ORDER BY e.id LIMIT {batch} FOR NO KEY UPDATE OF e SKIP LOCKED
"""
HELD_BACK = """
    SELECT e.id FROM {table} e
    WHERE e.updated_at <= %(now)s - make_interval(secs => {resend}) AND e.id IN (
        SELECT DISTINCT ON (concurrency_keys) id FROM {table}
        WHERE status = 'pending' AND worker IS NULL AND due_at IS NULL AND concurrency_keys <> '{{}}'
        ORDER BY concurrency_keys, priority DESC, id
    )
    ORDER BY e.id LIMIT {batch} FOR NO KEY UPDATE OF e SKIP LOCKED
"""
DROP_DEAD_JOBS = """
    DELETE FROM procrastinate_jobs j WHERE j.status = 'doing' AND NOT EXISTS (
        SELECT 1 FROM procrastinate_workers w
        WHERE w.id = j.worker_id AND w.last_heartbeat > clock_timestamp() - make_interval(secs => %s)
    )
"""


def recover(*, workers: Sequence[int] = ()) -> int:
    """One round over every kind of execution. `workers` are this process's own. Returns the rows that were moved on."""
    moved = 0
    for executable in executables.values():
        now = clock.database_now()
        moved += take_over_dead(executable, now=now)
        moved += end_expired(executable, now=now)
        moved += end_overdue(executable, now=now)
        moved += resend_jobs(executable, now=now)
        moved += release_held_back(executable, now=now)
        moved += take_over_own(executable, workers=workers, now=now)
    with connection.cursor() as cursor:
        cursor.execute(DROP_DEAD_JOBS, [DEAD_AFTER_SECONDS * 2])
    return moved


@transaction.atomic
def take_over_dead(executable: Executable, *, now: datetime) -> int:
    """Rows whose worker has no heartbeat."""
    ids = _select(DEAD_HOLDERS, executable, now)
    return _each(_rows(executable, ids), lambda execution: _take_over(executable, execution, now=now))


@transaction.atomic
def take_over_own(executable: Executable, *, workers: Sequence[int], now: datetime) -> int:
    """Rows that carry one of this process's own workers but that no thread of it runs: their end could not be written."""
    if not workers:
        return 0
    running = [claim.pk for claim in held.all() if claim.model is executable.model]
    rows = executable.model._default_manager.select_for_update(no_key=True, skip_locked=True).filter(
        worker__in=workers, updated_at__lte=now - timedelta(seconds=DEAD_AFTER_SECONDS)
    )
    orphans = [
        row for row in rows.exclude(pk__in=running)[:BATCH] if not held.holds(executable.model, row.pk, row.epoch)
    ]
    return _each(orphans, lambda execution: _take_over(executable, execution, now=now))


@transaction.atomic
def end_overdue(executable: Executable, *, now: datetime) -> int:
    """Rows past their deadline that no worker holds, waiting ones too. (A held one is stopped by its own worker.)"""
    overdue = _free(executable).filter(deadline_at__lte=now)[:BATCH]
    return _each(
        overdue, lambda execution: queue.end(execution, status="timeout", now=now, error_message=TIMEOUT_MESSAGE)
    )


@transaction.atomic
def end_expired(executable: Executable, *, now: datetime) -> int:
    """Rows that were not started before they expired."""
    expired = _free(executable).filter(started_at__isnull=True, expires_at__lte=now)[:BATCH]
    message = "Not started within its grace."
    return _each(expired, lambda execution: queue.end(execution, status="missed", now=now, error_message=message))


@transaction.atomic
def resend_jobs(executable: Executable, *, now: datetime) -> int:
    """Rows that are due and have no waiting job: it was lost, or consumed by a worker that could not claim."""
    ids = _select(WITHOUT_JOB, executable, now)
    for execution in _rows(executable, ids):
        send_job(execution, due_at=now)
    return len(ids)


@transaction.atomic
def release_held_back(executable: Executable, *, now: datetime) -> int:
    """The first held back execution of each set of keys, in case the one that left before it could not pass on."""
    ids = _select(HELD_BACK, executable, now)
    executable.model._default_manager.filter(pk__in=ids).update(due_at=now, updated_at=now)
    for execution in _rows(executable, ids):
        send_job(execution, due_at=now)
    return len(ids)


def _each(executions: Iterable[Execution], work: Callable[[Execution], None]) -> int:
    """Do `work` with each in a savepoint of its own: one that cannot be moved on must not hold up the others."""
    moved = 0
    for execution in executions:
        try:
            with transaction.atomic():
                work(execution)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # the worker loop's edge: the next round tries again
            logger.exception("%s %s could not be moved on.", execution._meta.label, execution.pk)
        else:
            moved += 1
    return moved


def _take_over(executable: Executable, execution: Execution, *, now: datetime) -> None:
    dead = execution.worker
    assert dead is not None  # noqa: S101 - selected by it
    execution.epoch += 1
    execution.worker = None
    execution.due_at = execution.updated_at = now
    execution.save(update_fields=["epoch", "worker", "due_at", "updated_at"])
    reason = executable.taken_over(execution, worker=dead, now=now)
    logger.warning(
        "%s %s: its worker %s is gone; %s", execution._meta.label, execution.pk, dead, reason or "runs again"
    )
    if execution.cancel_requested_at is not None:
        asked_for = execution.error_message or CANCELLED_MESSAGE
        queue.end(execution, status="cancelled", now=now, error_message=asked_for)
    elif reason:
        queue.end(execution, status="failed", now=now, error_message=reason)
    else:
        send_job(execution, due_at=now)


def _select(statement: str, executable: Executable, now: datetime) -> list[int]:
    sql = statement.format(
        table=executable.model._meta.db_table, dead=DEAD_AFTER_SECONDS, resend=RESEND_AFTER_SECONDS, batch=BATCH
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, {"now": now})
        return [row[0] for row in cursor.fetchall()]


def _rows(executable: Executable, ids: list[int]) -> list[Execution]:
    return list(executable.model._default_manager.filter(pk__in=ids).order_by("pk")) if ids else []


def _free(executable: Executable):  # type: ignore[no-untyped-def]  # a queryset of the concrete model
    free = Q(worker__isnull=True, status__in=LIVE_STATUSES)
    return (
        executable.model._default_manager.select_for_update(no_key=True, skip_locked=True)
        .filter(free)
        .order_by(F("id"))
    )
