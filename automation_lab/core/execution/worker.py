"""The worker process: Procrastinate's worker with the recovery and watch loops beside it.

Procrastinate's worker is started through the private `app._worker`, since the public way gives no handle to the
worker's id and `stop()`; and it is started again whenever it ends by itself, because after a database outage its
side tasks (heartbeat, LISTEN) may be dead.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from django.conf import settings
from django.db import close_old_connections, connection
from procrastinate.contrib.django import DjangoApp, app

from automation_lab.core import clock
from automation_lab.core.execution import recovery, ticker
from automation_lab.core.execution.claims import CANCELLED, REPLACED, STOPPING, TIMEOUT, Claim, held

logger = logging.getLogger(__name__)
R = TypeVar("R")

HEARTBEAT_SECONDS = 5
POLL_SECONDS = 1.0
RECOVERY_SECONDS = 2.0
WATCH_SECONDS = 0.5
LAST_WORDS_SECONDS = 5


class WorkerProcess:
    """One worker process. `run()` returns the exit code: 0 after a clean stop, 1 to be started again."""

    def __init__(self, *, concurrency: int, grace_seconds: float) -> None:
        self.concurrency = concurrency
        self.grace_seconds = grace_seconds
        self.exit_code = 0
        self._worker: Any = None
        self._stop: asyncio.Event

    @property
    def worker_id(self) -> int | None:
        return self._worker.worker_id if self._worker else None

    def run(self) -> int:
        asyncio.run(self._main())
        return self.exit_code

    async def _main(self) -> None:
        app.perform_import_paths()
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(self.concurrency + 4, thread_name_prefix="execution"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loops = [
            asyncio.create_task(self._every(RECOVERY_SECONDS, self._recover), name="recovery"),
            asyncio.create_task(self._every(WATCH_SECONDS, watch), name="watch"),
            asyncio.create_task(self._tick(), name="ticker"),
        ]
        while not self._stop.is_set():
            await self._work()
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    async def _work(self) -> None:
        try:
            worker_app = _worker_app()
            async with worker_app.open_async():
                self._worker = worker_app._worker(
                    concurrency=self.concurrency,
                    update_heartbeat_interval=HEARTBEAT_SECONDS,
                    stalled_worker_timeout=recovery.DEAD_AFTER_SECONDS,
                    fetch_job_polling_interval=POLL_SECONDS,
                    shutdown_graceful_timeout=self.grace_seconds + LAST_WORDS_SECONDS,
                    install_signal_handlers=False,
                    delete_jobs="always",
                )
                await self._worker.run()
        except Exception:  # the worker loop's edge: an outage must not end the process
            logger.exception("The worker lost the database; it starts again.")
        if not self._stop.is_set():
            await asyncio.sleep(1)

    def _on_signal(self) -> None:
        if self._stop.is_set():  # a second signal: at once; recovery takes over what is held
            os._exit(1)
        self.stop()

    def stop(self) -> None:
        """Take nothing new; let running work finish for the grace, then hand it back; then leave in any case."""
        if self._stop.is_set():
            return
        logger.info("Stopping: waiting up to %s s for %s running.", self.grace_seconds, len(held.all()))
        self._stop.set()
        if self._worker is not None:
            self._worker.stop()
        loop = asyncio.get_running_loop()
        loop.call_later(self.grace_seconds, held.stop_all, STOPPING)
        _exit_after(self.grace_seconds + 2 * LAST_WORDS_SECONDS)

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.to_thread(_with_connection, work)
            except Exception:  # the worker loop's edge: the next round tries again
                logger.warning("%s failed; the next round tries again.", work.__name__, exc_info=True)

    async def _tick(self) -> None:
        """Wakes at the instant of the next slot; a new or edited schedule is seen within a second."""
        while True:
            seconds = ticker.LONGEST_SLEEP_SECONDS
            try:
                seconds = await asyncio.to_thread(_with_connection, ticker.tick)
            except Exception:  # the worker loop's edge: the next round tries again
                logger.warning("The ticker failed; the next round tries again.", exc_info=True)
            await asyncio.sleep(seconds)

    def _recover(self) -> None:
        worker_id = self.worker_id
        if worker_id is not None and not self._stop.is_set() and not has_heartbeat(worker_id):
            self._leave_for_new_worker(worker_id)
            return
        recovery.recover(worker=worker_id)

    def _leave_for_new_worker(self, worker_id: int) -> None:
        """Others count this worker as dead and take over what it holds, so it must claim nothing more."""
        if self._worker is None or self._worker.worker_id != worker_id:
            return
        logger.error("The heartbeat row of worker %s is gone: this process ends and is started again.", worker_id)
        self.exit_code = 1
        held.stop_all(REPLACED)
        assert self._worker._loop is not None or self._stop.is_set()  # noqa: S101
        loop = self._worker._loop
        if loop is not None:
            loop.call_soon_threadsafe(self.stop)


def _worker_app() -> DjangoApp:
    """An app of the same tasks for the worker's own connections.

    Not `app.replace_connector`: that changes the shared app, and what this process defers (a retry, a slot, a recovered
    run) would leave Django's transaction and be fetched before its row is committed.
    """
    worker_app = DjangoApp(connector=app.connector.get_worker_connector())  # type: ignore[attr-defined]  # DjangoConnector's
    worker_app.tasks = app.tasks
    worker_app.periodic_registry = app.periodic_registry
    return worker_app


def watch() -> None:
    """Tell the running claims of this process what has happened to their rows: cancelled, out of time, taken over."""
    claims = held.all()
    if not claims:
        return
    now = clock.database_now()
    for model in {claim.model for claim in claims}:
        mine = [claim for claim in claims if claim.model is model]
        rows = model._default_manager.filter(pk__in=[claim.pk for claim in mine])
        seen = {row["pk"]: row for row in rows.values("pk", "epoch", "status", "cancel_requested_at", "deadline_at")}
        for claim in mine:
            reason = _stop_reason(claim, seen.get(claim.pk), now)
            if reason:
                claim.cancellation.cancel(reason)


def has_heartbeat(worker_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM procrastinate_workers WHERE id = %s", [worker_id])
        return cursor.fetchone() is not None


def _stop_reason(claim: Claim, row: Mapping[str, Any] | None, now: datetime) -> str:
    if row is None or row["epoch"] != claim.epoch:
        return REPLACED
    if row["cancel_requested_at"] is not None:
        return CANCELLED
    if row["deadline_at"] is not None and row["deadline_at"] <= now:
        return TIMEOUT
    return ""


def _with_connection(work: Callable[[], R]) -> R:
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()


def _exit_after(seconds: float) -> None:
    """A thread that ignores its cancellation cannot be killed: leave it, recovery takes over."""
    timer = threading.Timer(seconds, lambda: os._exit(1))
    timer.daemon = True
    timer.start()


def from_settings(*, concurrency: int | None = None) -> WorkerProcess:
    return WorkerProcess(
        concurrency=concurrency or settings.TASKS_CONCURRENCY, grace_seconds=settings.TASKS_GRACE_SECONDS
    )
