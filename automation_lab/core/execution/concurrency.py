"""Limits on how many executions run at a time, per key: judged when one is claimed, passed on when one leaves.

An execution over its limit is held back: pending, due at no instant, until another one of its key leaves. An advisory
lock per key makes judging and leaving take turns, so that none is held back by one that has just left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db import connection, transaction

from automation_lab.core.execution.hints import send_job
from automation_lab.core.execution.models import Execution

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7401))"


def admit(execution: Execution, *, now: datetime) -> bool:
    """Whether one more of each of its keys may run now; else it is held back. The caller's transaction holds the locks."""
    row = type(execution)._default_manager.filter(pk=execution.pk, worker__isnull=True).first()
    if row is None or not row.concurrency_keys:
        return False
    _lock(row.concurrency_keys)
    limits = zip(row.concurrency_keys, row.concurrency_limits, strict=True)
    if row.status == "running" or all(running(type(row), key) < most for key, most in limits):
        return True
    free = type(row)._default_manager.filter(pk=row.pk, status="pending", worker__isnull=True, due_at__lte=now)
    free.update(due_at=None, updated_at=now)
    return False


@contextlib.contextmanager
def leaving(model: type[Execution], keys: Sequence[str], *, now: datetime) -> Iterator[None]:
    """Around the write that ends or parks an execution: the next one that is held back for a key becomes due."""
    if not keys:
        yield
        return
    with transaction.atomic():
        _lock(keys)
        yield
        for key in keys:
            release_next(model, key, now=now)


def release_next(model: type[Execution], key: str, *, now: datetime) -> None:
    held_back = model._default_manager.select_for_update(no_key=True, skip_locked=True).filter(
        status="pending", worker__isnull=True, due_at__isnull=True, concurrency_keys__contains=[key]
    )
    execution = held_back.order_by("-priority", "id").first()
    if execution is not None:
        model._default_manager.filter(pk=execution.pk).update(due_at=now, updated_at=now)
        send_job(execution, due_at=now)


def running(model: type[Execution], key: str) -> int:
    """Executions of `key` that have begun and not ended, waiting ones too."""
    return model._default_manager.filter(status="running", concurrency_keys__contains=[key]).count()


def _lock(keys: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        for key in sorted(keys):
            cursor.execute(LOCK, [key])
