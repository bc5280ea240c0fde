"""Real worker processes, killed, stopped and cut off in the middle of their work."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from automation_lab.core import clock
from automation_lab.core.execution import recovery
from automation_lab.core.execution.worker import LAST_WORDS_SECONDS
from automation_lab.core.tests.servers import StubServer, response
from automation_lab.serving import servers
from automation_lab.tests.waiting import eventually
from tasks import services
from tasks.models import ScheduledTask, TaskAttempt, TaskExecution
from tasks.tests.factories import ScheduledTaskFactory

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

START_SECONDS = 60


class Target:
    """Answers 200; while `slow`, only when `release` is called."""

    def __init__(self) -> None:
        self.slow = False
        self._released = threading.Event()
        self.server = StubServer(self._answer)

    def _answer(self, connection: Any, request: bytes) -> None:
        if self.slow:
            self._released.wait(120)
        connection.sendall(response(200, [("Content-Type", "application/json")], b'{"ok": true}'))

    def release(self) -> None:
        self.slow = False
        self._released.set()

    @property
    def keys(self) -> list[str]:
        """The Idempotency-Key of every request, in order."""
        return [re.search(rb"(?i)\r\nidempotency-key: (\S+)", request)[1].decode() for request in self.server.requests]


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.release()
    target.server.close()


@pytest.fixture
def task(target: Target) -> ScheduledTask:
    return ScheduledTaskFactory(config={"url": f"{target.server.url}/hook", "method": "POST", "body": {"a": 1}})


@pytest.fixture
def start_worker(process_environment: dict[str, str], target: Target) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts `manage.py worker` and waits until it takes jobs."""
    with contextlib.ExitStack() as stack:

        def start(**variables: str) -> subprocess.Popen:
            before = workers()
            env = {
                **process_environment,
                **servers.process_environment("worker", "127.0.0.1"),
                "OUTBOUND_ALLOW": f"127.0.0.1:{target.server.port}",
                "TASKS_CONCURRENCY": "4",
                **variables,
            }
            output = stack.enter_context(tempfile.TemporaryFile())
            command = [sys.executable, "manage.py", "worker"]
            process = subprocess.Popen(command, env=env, cwd=servers.BASE_DIR, stdout=output, stderr=subprocess.STDOUT)
            stack.callback(_end, process)
            eventually(lambda: process.poll() is not None or workers() - before, seconds=START_SECONDS)
            if process.returncode is not None:
                output.seek(0)
                raise AssertionError(output.read().decode())
            return process

        yield start


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def workers() -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM procrastinate_workers")
        return {row[0] for row in cursor.fetchall()}


def start_run(task: ScheduledTask) -> TaskExecution:
    return services.start_execution(task=task)


def finished(execution: TaskExecution) -> TaskExecution | None:
    row = TaskExecution.objects.get(pk=execution.pk)
    return row if row.is_finished else None


def attempts(execution: TaskExecution) -> list[tuple[int, str]]:
    return list(execution.attempts.order_by("epoch").values_list("number", "status"))


def cut_all_connections() -> None:
    """What a restart of PostgreSQL does to everyone but this test."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


@contextlib.contextmanager
def database_away(*, seconds: float) -> Iterator[None]:
    """Cut all connections but this test's, and let nobody in again for so long."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_database SET datallowconn = false WHERE datname = current_database()")
        cut_all_connections()
        try:
            yield
            time.sleep(seconds)
        finally:
            cursor.execute("UPDATE pg_database SET datallowconn = true WHERE datname = current_database()")


def test_a_run_whose_worker_is_killed_goes_on_in_another(start_worker, task, target):
    target.slow = True
    first = start_worker()
    execution = start_run(task)
    eventually(lambda: target.server.requests)

    first.kill()
    first.wait()
    killed = time.monotonic()
    target.release()
    start_worker()
    row = eventually(lambda: finished(execution))

    assert time.monotonic() - killed < 30
    assert (row.status, row.attempt, row.output_data["body"]) == ("success", 2, {"ok": True})
    assert attempts(execution) == [(1, "lost"), (2, "success")]
    assert len(set(target.keys)) == 1
    assert len(target.keys) == 2
    assert not TaskExecution.objects.filter(status="running").exists()
    assert not TaskAttempt.objects.filter(status="running").exists()
    task.refresh_from_db()
    assert (task.success_count, task.failure_count) == (1, 0)


def test_a_stopping_worker_hands_back_what_takes_longer_than_its_grace(start_worker, task, target):
    target.slow = True
    first = start_worker(TASKS_GRACE_SECONDS="1")
    execution = start_run(task)
    eventually(lambda: target.server.requests)

    first.send_signal(signal.SIGTERM)
    stopping = time.monotonic()
    code = first.wait(30)
    took = time.monotonic() - stopping
    handed_back = TaskExecution.objects.get(pk=execution.pk)
    target.release()
    start_worker()
    row = eventually(lambda: finished(execution))

    assert code == 0
    assert 0.9 < took < 1 + LAST_WORDS_SECONDS
    assert (handed_back.status, handed_back.worker, handed_back.attempt) == ("pending", None, 0)
    assert (row.status, row.attempt) == ("success", 1)
    assert attempts(execution) == [(1, "released"), (1, "success")]
    assert len(set(target.keys)) == 1


def test_a_stopping_worker_finishes_what_fits_into_its_grace(start_worker, task, target):
    target.slow = True
    worker = start_worker()
    execution = start_run(task)
    eventually(lambda: target.server.requests)

    worker.send_signal(signal.SIGTERM)
    eventually(lambda: not running_worker_takes_jobs(task, target))
    target.release()
    code = worker.wait(30)

    assert (code, finished(execution).status) == (0, "success")
    assert attempts(execution) == [(1, "success")]


def running_worker_takes_jobs(task: ScheduledTask, target: Target) -> bool:
    """Whether a new run is begun within half a second."""
    execution = start_run(task)
    time.sleep(0.5)
    services.cancel_execution(execution=execution)
    return TaskExecution.objects.get(pk=execution.pk).started_at is not None


def test_a_stopping_worker_is_not_counted_as_dead_while_it_finishes(start_worker, task, target):
    target.slow = True
    worker = start_worker()
    execution = start_run(task)
    eventually(lambda: target.server.requests)

    worker.send_signal(signal.SIGTERM)
    long_after = clock.database_now() + timedelta(seconds=recovery.DEAD_AFTER_SECONDS / 3)
    held_by = TaskExecution.objects.get(pk=execution.pk).worker
    eventually(lambda: heartbeat(held_by) > long_after, seconds=recovery.DEAD_AFTER_SECONDS)

    assert worker.poll() is None


def test_an_idle_worker_stops_at_once(start_worker):
    worker = start_worker()

    worker.send_signal(signal.SIGTERM)
    stopping = time.monotonic()

    assert worker.wait(30) == 0
    assert time.monotonic() - stopping < LAST_WORDS_SECONDS
    assert workers() == set()


def test_a_worker_that_others_count_as_dead_ends_to_be_started_again(start_worker, task, target):
    target.slow = True
    worker = start_worker()
    execution = start_run(task)
    eventually(lambda: target.server.requests)

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")

    assert worker.wait(30) == 1
    assert attempts(execution) == [(1, "running")] or attempts(execution)[0] == (1, "lost")


def test_a_worker_outlives_the_loss_of_all_its_connections(start_worker, task, target):
    worker = start_worker()
    first = start_run(task)
    eventually(lambda: finished(first))

    cut_all_connections()
    second = start_run(task)
    row = eventually(lambda: finished(second))
    eventually(lambda: len(listeners()) == 1)
    latencies = [latency(task) for _ in range(5)]

    assert (row.status, worker.poll()) == ("success", None)
    assert min(latencies) < 0.3, latencies


def test_a_call_outlives_an_outage_and_holds_up_nothing_after_it(start_worker, task, target):
    target.slow = True
    start_worker()
    long = start_run(task)
    eventually(lambda: target.server.requests)

    with database_away(seconds=4):
        target.slow = False
    other = start_run(task)
    eventually(lambda: finished(other))
    in_between = attempts(long)
    target.release()
    row = eventually(lambda: finished(long))

    assert in_between == [(1, "running")]
    assert (row.status, attempts(long)) == ("success", [(1, "success")])


def test_cancelling_reaches_a_running_call(start_worker, task, target):
    target.slow = True
    start_worker()
    execution = start_run(task)
    eventually(lambda: target.server.requests)

    services.cancel_execution(execution=execution)
    asked = time.monotonic()
    row = eventually(lambda: finished(execution))

    assert (row.status, attempts(execution)) == ("cancelled", [(1, "cancelled")])
    assert time.monotonic() - asked < 5


def heartbeat(worker: int) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_heartbeat FROM procrastinate_workers WHERE id = %s", [worker])
        return cursor.fetchone()[0]


def listeners() -> list[int]:
    """Connections of workers that wait for notifications."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")
        return [row[0] for row in cursor.fetchall()]


def latency(task: ScheduledTask) -> float:
    """Seconds from enqueueing to the start of a run."""
    time.sleep(0.2)
    asked_at = clock.database_now()
    execution = start_run(task)
    row = eventually(lambda: finished(execution))
    return (row.started_at - asked_at).total_seconds()
