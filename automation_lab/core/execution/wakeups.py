"""Keeps the notifications that come while a worker is looking for jobs.

Procrastinate's worker clears its event after every look, so a job that is queued during one that finds nothing would
wait for the next poll: a second late instead of some milliseconds.
"""

from __future__ import annotations

import asyncio
from typing import Any


class NewJobs(asyncio.Event):
    """An event whose `clear` leaves alone what was set since the last `look`."""

    def __init__(self) -> None:
        super().__init__()
        self._set = self._seen = 0

    def look(self) -> None:
        self._seen = self._set

    def set(self) -> None:
        self._set += 1
        super().set()

    def clear(self) -> None:
        if self._set == self._seen:
            super().clear()


def keep_notifications(worker: Any) -> None:
    """For a Procrastinate worker that has not begun; its app must be its own."""
    new_jobs = worker._new_job_event = NewJobs()
    fetch_job = worker.app.job_manager.fetch_job

    async def look_and_fetch(**options: Any) -> Any:
        new_jobs.look()
        return await fetch_job(**options)

    worker.app.job_manager.fetch_job = look_and_fetch
