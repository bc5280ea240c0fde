"""Limits on how many executions run at a time, per key: judged when one is claimed, passed on when one leaves.

An execution over its limit is held back: pending, due at no instant, until another one of its key leaves. An advisory
lock per key makes judging and leaving take turns, so that none is held back by one that has just left. The order of
locks is the execution's own row, then its keys; other rows are taken only if nobody has them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db import connection, models, transaction
from django.db.models import Q

from automation_lab.core.execution.hints import send_job
from automation_lab.core.execution.models import Execution

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7401))"


def admit(execution: Execution, *, now: datetime) -> bool:
    """Whether one more of each of its keys may run now; else it is held back. The caller's transaction holds the locks."""
    rows = type(execution)._default_manager.select_for_update(no_key=True)
    row = rows.filter(pk=execution.pk, worker__isnull=True, due_at__lte=now).first()
    if row is None or not row.concurrency_keys:
        return False
    _lock(row.concurrency_keys)
    limits = zip(row.concurrency_keys, row.concurrency_limits, strict=True)
    full = {key for key, most in limits if row.status != "running" and _before(row, key, now=now).count() >= most}
    if full:
        _hold_back(row, full, now=now)
    return not full


@contextlib.contextmanager
def leaving(model: type[Execution], keys: Sequence[str], *, now: datetime) -> Iterator[None]:
    """Around the write that ends or parks an execution, whose row the caller has locked: the next one that is held
    back for a key becomes due.
    """
    if not keys:
        yield
        return
    with transaction.atomic():
        _lock(keys)
        yield
        for key in keys:
            release_next(model, key, now=now)


def release_next(model: type[Execution], key: str, *, now: datetime, behind: Execution | None = None) -> None:
    """Make the first one that is held back for `key` due; only one that comes `behind` that one, if given."""
    held_back = model._default_manager.select_for_update(no_key=True, skip_locked=True).filter(
        status="pending", worker__isnull=True, due_at__isnull=True, concurrency_keys__contains=[key]
    )
    if behind is not None:
        held_back = held_back.filter(Q(priority__lt=behind.priority) | Q(priority=behind.priority, pk__gt=behind.pk))
    execution = held_back.order_by("-priority", "id").first()
    if execution is not None:
        model._default_manager.filter(pk=execution.pk).update(due_at=now, updated_at=now)
        send_job(execution, due_at=now)


def _before(row: Execution, key: str, *, now: datetime) -> models.QuerySet[Execution]:
    """Who takes a place of `key` before `row`: those that have begun and not ended, waiting ones too, and those that
    are due and in front of it, which have only not been claimed yet.
    """
    in_front = Q(priority__gt=row.priority) | Q(priority=row.priority, pk__lt=row.pk)
    due = Q(status="pending", worker__isnull=True, due_at__lte=now)
    return type(row)._default_manager.filter(Q(status="running") | (due & in_front), concurrency_keys__contains=[key])


def _hold_back(row: Execution, full: set[str], *, now: datetime) -> None:
    """Its place in the keys that are not full goes to one behind it; never to one in front, or two would take turns."""
    type(row)._default_manager.filter(pk=row.pk).update(due_at=None, updated_at=now)
    for key in row.concurrency_keys:
        if key not in full:
            release_next(type(row), key, now=now, behind=row)


def _lock(keys: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        for key in sorted(keys):
            cursor.execute(LOCK, [key])
