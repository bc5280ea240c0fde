"""The worker process: Procrastinate's worker with loops for heartbeat, recovery, watch and schedules beside it.

Procrastinate's worker is started through the private `app._worker`, since the public way gives no handle to the
worker's id and `stop()`. When it ends by itself, because a database outage has killed a side task of it such as LISTEN,
it takes no more jobs but waits for those that run: another one is started beside it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections, connection
from procrastinate.contrib.django import DjangoApp, app

from automation_lab.core import clock
from automation_lab.core.execution import recovery, ticker
from automation_lab.core.execution.claims import CANCELLED, REPLACED, STOPPING, TIMEOUT, Claim, held
from automation_lab.core.execution.wakeups import keep_notifications

logger = logging.getLogger(__name__)
R = TypeVar("R")

HEARTBEAT_SECONDS = 2
STEADY_SECONDS = 5
PRUNE_AFTER_SECONDS = (
    600  # for tidiness only: a row that is old counts as dead, but who lives through an outage keeps it
)
POLL_SECONDS = 1.0
RECOVERY_SECONDS = 2.0
WATCH_SECONDS = 0.5
LAST_WORDS_SECONDS = 5
RESTART_SECONDS = 1.0
BEAT = "UPDATE procrastinate_workers SET last_heartbeat = clock_timestamp() WHERE id = ANY(%s) RETURNING id"


class WorkerProcess:
    """One worker process. `run()` returns the exit code: 0 after a clean stop, 1 to be started again."""

    def __init__(self, *, concurrency: int, grace_seconds: float) -> None:
        self.concurrency = concurrency
        self.grace_seconds = grace_seconds
        self.exit_code = 0
        self._workers: list[Any] = []
        self._steady_since: float | None = None
        self._side = ThreadPoolExecutor(4, thread_name_prefix="worker")
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def run(self) -> int:
        asyncio.run(self._main())
        return self.exit_code

    async def _main(self) -> None:
        app.perform_import_paths()
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(self.concurrency, thread_name_prefix="execution"))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal)
        loops = [
            asyncio.create_task(self._every(HEARTBEAT_SECONDS, self._beat), name="heartbeat"),
            asyncio.create_task(self._every(RECOVERY_SECONDS, self._recover), name="recovery"),
            asyncio.create_task(self._every(WATCH_SECONDS, watch), name="watch"),
            asyncio.create_task(self._tick(), name="ticker"),
        ]
        await self._work()
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        self._side.shutdown(wait=False)

    async def _work(self) -> None:
        """Have one worker that takes jobs until `stop`; then wait for all that still run some."""
        working = set()
        while not self._stop.is_set():
            ended = asyncio.Event()
            working.add(asyncio.create_task(self._run_worker(ended)))
            await ended.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), RESTART_SECONDS)
        await asyncio.gather(*working)

    async def _run_worker(self, ended: asyncio.Event) -> None:
        """Sets `ended` as soon as the worker takes no more jobs; it may then still wait for those that run."""
        # Procrastinate defers periodic jobs over the connection of this one thread and never looks whether it still
        # stands: after an outage, every new worker would end on it at once.
        await sync_to_async(close_old_connections)()
        worker_app = _worker_app()
        worker = self._new_worker(worker_app)
        keep_notifications(worker)
        watching = asyncio.create_task(_announce_end(worker, ended))
        try:
            async with worker_app.open_async():
                if self._stop.is_set():
                    return
                self._workers.append(worker)
                await worker.run()
        except Exception:  # the worker loop's edge: an outage must not end the process
            logger.exception("The worker lost the database; it starts again.")
        finally:
            watching.cancel()
            ended.set()
            with contextlib.suppress(ValueError):
                self._workers.remove(worker)

    def _new_worker(self, worker_app: DjangoApp) -> Any:
        return worker_app._worker(
            concurrency=self.concurrency,
            update_heartbeat_interval=HEARTBEAT_SECONDS,
            stalled_worker_timeout=PRUNE_AFTER_SECONDS,
            fetch_job_polling_interval=POLL_SECONDS,
            shutdown_graceful_timeout=self.grace_seconds + LAST_WORDS_SECONDS,
            install_signal_handlers=False,
            delete_jobs="always",
        )

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
        for worker in self._workers:
            worker.stop()
        self._loop.call_later(self.grace_seconds, held.stop_all, STOPPING)
        _exit_after(self.grace_seconds + 2 * LAST_WORDS_SECONDS)

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._loop.run_in_executor(self._side, _with_connection, work)
            except Exception:  # the worker loop's edge: the next round tries again
                logger.warning("%s failed; the next round tries again.", work.__name__, exc_info=True)

    async def _tick(self) -> None:
        """Wakes at the instant of the next slot; a new or edited schedule is seen within a second."""
        while True:
            seconds = ticker.LONGEST_SLEEP_SECONDS
            try:
                seconds = await self._loop.run_in_executor(self._side, _with_connection, ticker.tick)
            except Exception:  # the worker loop's edge: the next round tries again
                logger.warning("The ticker failed; the next round tries again.", exc_info=True)
            await asyncio.sleep(seconds)

    def _beat(self) -> None:
        """Procrastinate's own heartbeat ends when a worker begins to stop, although its jobs go on."""
        workers = {worker.worker_id: worker for worker in self._workers if worker.worker_id is not None}
        try:
            alive = beat(list(workers))
        except Exception:
            self._steady_since = None
            raise
        self._steady_since = self._steady_since or time.monotonic()
        for worker_id, worker in workers.items():
            if worker_id not in alive and not worker._stop_event.is_set():
                self._leave_for_new_process(worker_id)

    def _recover(self) -> None:
        """Judges others only after a while of undisturbed heartbeats: after an outage everyone's is old at first."""
        if self._steady_since is None or time.monotonic() - self._steady_since < STEADY_SECONDS:
            return
        recovery.recover(workers=[worker.worker_id for worker in self._workers if worker.worker_id is not None])

    def _leave_for_new_process(self, worker_id: int) -> None:
        """Others count this worker as dead and take over what it holds, so it must claim nothing more."""
        logger.error("The heartbeat row of worker %s is gone: this process ends and is started again.", worker_id)
        self.exit_code = 1
        held.stop_all(REPLACED)
        self._loop.call_soon_threadsafe(self.stop)


async def _announce_end(worker: Any, ended: asyncio.Event) -> None:
    await worker._stop_event.wait()
    ended.set()


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


def beat(worker_ids: list[int]) -> set[int]:
    """Note that these workers live. Returns those that have a row to note it in."""
    with connection.cursor() as cursor:
        cursor.execute(BEAT, [worker_ids])
        return {row[0] for row in cursor.fetchall()}


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
