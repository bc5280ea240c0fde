"""A job that is queued while a worker looks for one is taken at once."""

from __future__ import annotations

import asyncio
import time

from procrastinate import App
from procrastinate.testing import InMemoryConnector

from automation_lab.core.execution.wakeups import NewJobs, keep_notifications


def test_a_notification_during_a_look_that_finds_nothing_is_kept():
    """The look is held up until the job has been queued and told of, as a slow database would do it."""
    app = App(connector=InMemoryConnector())
    ran_at: list[float] = []
    app.task(name="run")(lambda: ran_at.append(time.monotonic()))

    async def scenario() -> float:
        async with app.open_async():
            worker = app._worker(
                concurrency=1, fetch_job_polling_interval=30, install_signal_handlers=False, listen_notify=False
            )
            fetch_job, looks = app.job_manager.fetch_job, 0

            async def slow_look(**options):
                nonlocal looks
                looks += 1
                job = await fetch_job(**options)
                if looks == 1:
                    await app.configure_task("run").defer_async()
                    worker._new_job_event.set()
                return job

            app.job_manager.fetch_job = slow_look
            keep_notifications(worker)
            running = asyncio.create_task(worker.run())
            queued_at = time.monotonic()
            while not ran_at and time.monotonic() < queued_at + 5:
                await asyncio.sleep(0.01)
            worker.stop()
            await running
            return queued_at

    queued_at = asyncio.run(scenario())

    assert ran_at, "the job waited for the poll"
    assert ran_at[0] - queued_at < 2


def test_without_news_a_worker_waits():
    new_jobs = NewJobs()
    new_jobs.set()
    new_jobs.look()

    new_jobs.clear()

    assert not new_jobs.is_set()
