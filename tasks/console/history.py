"""The latest runs of many tasks at once, as lists show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

SHOWN_RUNS = 20
MEASURED_RUNS = 100

# An index look-up of the last hundred runs for each task; a window over the whole table would read all of it.
QUERY = """
    SELECT task.id, latest.p95, latest.runs
    FROM unnest(%s::bigint[]) AS task(id) CROSS JOIN LATERAL (
        SELECT
            percentile_disc(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95,
            jsonb_agg(jsonb_build_array(id, status, duration_ms, at, count, error) ORDER BY id) FILTER (WHERE place <= %s) AS runs
        FROM (
            SELECT id, status, duration_ms, COALESCE(scheduled_for, created_at) AS at, count,
                left(error_message, 160) AS error, row_number() OVER (ORDER BY id DESC) AS place
            FROM task_executions WHERE task_id = task.id ORDER BY id DESC LIMIT %s
        ) AS measured
    ) AS latest
"""


@dataclass(frozen=True)
class RecentRun:
    """`at` is the slot, for runs without one the instant of their start; `count` the slots that it stands for."""

    pk: int
    status: str
    duration_ms: int | None
    at: datetime
    count: int
    error: str


@dataclass(frozen=True)
class History:
    """The latest runs, oldest first, and the 95th percentile of what the last hundred took."""

    runs: tuple[RecentRun, ...] = ()
    p95_ms: int | None = None


def recent(task_ids: Sequence[int]) -> dict[int, History]:
    """The history of each of `task_ids`, by one query."""
    if not task_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(QUERY, [list(task_ids), SHOWN_RUNS, MEASURED_RUNS])
        return {task_id: _history(p95, runs) for task_id, p95, runs in cursor.fetchall()}


def _history(p95: int | None, runs: str | None) -> History:
    return History(tuple(_run(*values) for values in json.loads(runs or "[]")), p95)


def _run(pk: int, status: str, duration_ms: int | None, at: str, count: int, error: str) -> RecentRun:
    return RecentRun(pk, status, duration_ms, datetime.fromisoformat(at), count, error)
