"""What the engine's tests share: workers on record, claimed executions, threads that start together."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection

from automation_lab.core import clock
from automation_lab.core.execution import queue
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.models import Execution

KIND = "tasks.taskexecution"


def add_worker(*, silent_seconds: float = 0) -> int:
    """The id of a worker that gave its last heartbeat so long ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (clock_timestamp() - make_interval(secs => %s))"
            " RETURNING id",
            [silent_seconds],
        )
        return cursor.fetchone()[0]


def jobs() -> list[dict[str, Any]]:
    """The jobs of the queue, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, status, priority, args, scheduled_at, worker_id FROM procrastinate_jobs ORDER BY id")
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [{**row, "args": json.loads(row["args"])} for row in rows]


def drop_jobs() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


def take(execution: Execution, *, worker: int = 1) -> Claim:
    """Claim `execution`, as a worker does."""
    epoch = queue.claim(execution, worker=worker, now=clock.database_now())
    assert epoch is not None
    return Claim(model=type(execution), pk=execution.pk, epoch=epoch, worker=worker)


def together(works: list[Callable[[], Any]]) -> list[Any]:
    """What each of `works` returns or raises, in threads of their own that start at the same moment."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            barrier.wait(30)
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(run, work) for work in works]
    return [future.exception() or future.result() for future in futures]
