"""Turns due schedules into executions, in every worker and without a leader: row locks and unique slots decide.

An app registers a tick source: called with the database's time, it records what is due and returns when it wants to be
called again. `fire_due` and `move_on` are for sources whose schedules are rows with a `next_run_at`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from automation_lab.core import clock
from automation_lab.core.registry import tick_sources

logger = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS = 1.0
HELD_PAUSE = timedelta(milliseconds=50)
MOVE_ON = """
    UPDATE {table} t SET next_run_at = v.next_run_at
    FROM unnest(%s::bigint[], %s::timestamptz[]) AS v(id, next_run_at) WHERE t.id = v.id
"""


def tick() -> float:
    """One round over every source. Returns the seconds until the next one is needed, at most one second."""
    wanted = LONGEST_SLEEP_SECONDS
    for name, source in tick_sources.items():
        now = clock.database_now()
        try:
            next_at = source(now)
        except Exception:  # the worker loop's edge: one source must not stop the others
            logger.exception("The tick source %s failed; the next round tries again.", name)
            continue
        if next_at is not None:
            wanted = min(wanted, (next_at - clock.database_now()).total_seconds())
    return max(0.0, wanted)


def fire_due(scheduled: QuerySet[Any], fire: Callable[..., None], *, now: datetime, batch: int) -> datetime | None:
    """Have `fire(rows, now=now)` record what is due of `scheduled`: batch after batch, each locked in its transaction.

    Returns when to look again: at the next slot of any of them, None without one.
    """
    ordered = scheduled.filter(next_run_at__isnull=False).order_by("next_run_at", "id")
    while _fire_batch(ordered.filter(next_run_at__lte=now)[:batch], fire, now=now, batch=batch):
        continue
    next_at = ordered.values_list("next_run_at", flat=True).first()
    if next_at is not None and next_at <= now:
        return now + HELD_PAUSE  # somebody else holds its row at this moment: do not spin meanwhile
    return next_at


def _fire_batch(due: QuerySet[Any], fire: Callable[..., None], *, now: datetime, batch: int) -> bool:
    """Whether there may be more that is due."""
    with transaction.atomic():
        rows = list(due.select_for_update(skip_locked=True))
        fire(rows, now=now)
    return len(rows) == batch or any(row.next_run_at and row.next_run_at <= now for row in rows)


def move_on(rows: Sequence[Any]) -> None:
    """Write the `next_run_at` of `rows`, all of one model.

    Not `bulk_update`: its expressions take as long as all the rest of a tick.
    """
    if not rows:
        return
    with connection.cursor() as cursor:
        statement = MOVE_ON.format(table=rows[0]._meta.db_table)
        cursor.execute(statement, [[row.pk for row in rows], [row.next_run_at for row in rows]])
