"""Worker processes that are killed at random: no slot of a schedule and no run is lost, and none happens twice.

The small form runs always; `LAB_FULL_CHAOS=1` adds the form that the promise is measured by.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection

from automation_lab.core import clock
from automation_lab.core.tests.servers import StubServer, response
from automation_lab.serving import servers
from automation_lab.tests.waiting import eventually
from tasks import services
from tasks.models import ScheduledTask, TaskAttempt, TaskExecution
from tasks.tests.factories import ScheduledTaskFactory

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SECOND = timedelta(seconds=1)
START_SECONDS = 60
ANSWER_SECONDS = 0.5
SEED = 20270301
full = pytest.mark.skipif(os.environ.get("LAB_FULL_CHAOS") != "1", reason="takes minutes; set LAB_FULL_CHAOS=1")


class Slots(NamedTuple):
    workers: int
    schedules: int
    kills: int
    seconds: float


class Runs(NamedTuple):
    workers: int
    executions: int
    kills: int
    within_seconds: float


class Fleet:
    """Worker processes; one that is killed is followed by another at once, as the supervisor does it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.processes: list[subprocess.Popen[bytes]] = []
        self.killed = 0

    def start(self, count: int) -> None:
        self.processes += [self._spawn() for _ in range(count)]
        deadline = time.monotonic() + START_SECONDS
        while heartbeats() < count:
            assert time.monotonic() < deadline, "the workers do not start"
            time.sleep(0.1)

    def kill_one(self, draw: random.Random) -> None:
        number = draw.randrange(len(self.processes))
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self._spawn()
        self.killed += 1

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "manage.py", "worker"],
            env=self.environment,
            cwd=servers.BASE_DIR,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def heartbeats() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_workers")
        return cursor.fetchone()[0]


class Target(StubServer):
    """Answers slowly, and nothing at all before `answering` is set."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        super().__init__(self._answer)

    def _answer(self, connection: Any, request: bytes) -> None:
        self.answering.wait(START_SECONDS)
        time.sleep(ANSWER_SECONDS)
        connection.sendall(response(200, [("Content-Type", "application/json")], b'{"ok": true}'))


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target()
    yield server
    server.answering.set()
    server.close()


@pytest.fixture
def fleet(process_environment: dict[str, str], target: Target) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        fleet = Fleet(
            {
                **process_environment,
                **servers.process_environment("worker", "127.0.0.1"),
                "OUTBOUND_ALLOW": f"127.0.0.1:{target.port}",
                "TASKS_CONCURRENCY": "5",
                "LOG_LEVEL": "error",
            }
        )
        stack.callback(fleet.stop)
        yield fleet


def recorded(task: ScheduledTask) -> list[tuple[datetime, int]]:
    return list(task.executions.order_by("scheduled_for").values_list("scheduled_for", "count"))


@pytest.mark.parametrize("size", [Slots(2, 30, 4, 10), pytest.param(Slots(4, 300, 20, 60), marks=full)])
def test_every_slot_has_exactly_one_row_however_often_workers_are_killed(fleet, size):
    draw = random.Random(SEED)
    tasks = [
        ScheduledTaskFactory(schedule="1s", task_type="cron", config={"job": "none"}, grace_seconds=600)
        for _ in range(size.schedules)
    ]
    first = clock.database_now().replace(microsecond=0) + SECOND
    ScheduledTask.objects.update(next_run_at=first)

    fleet.start(size.workers)
    for _ in range(size.kills):
        time.sleep(size.seconds / size.kills * draw.uniform(0.5, 1.5))
        fleet.kill_one(draw)
    ended_at = clock.database_now()
    eventually(lambda: not ScheduledTask.objects.filter(next_run_at__lte=ended_at).exists(), seconds=120)
    fleet.stop()

    assert fleet.killed == size.kills
    for task in tasks:
        found = recorded(task)
        assert found == [(first + n * SECOND, 1) for n in range(len(found))]
        assert found[-1][0] >= ended_at - SECOND
    print(f"\n{size}: {TaskExecution.objects.count()} slots, {statuses()}")


@pytest.mark.parametrize("size", [Runs(2, 60, 3, 120), pytest.param(Runs(3, 300, 15, 240), marks=full)])
def test_every_run_succeeds_once_however_often_workers_are_killed(fleet, target, size):
    draw = random.Random(SEED)
    task = ScheduledTaskFactory(config={"url": f"{target.url}/hook", "method": "POST", "body": {"a": 1}})
    fleet.start(size.workers)
    started = time.monotonic()

    for _ in range(size.executions):
        services.start_execution(task=task)
    eventually(lambda: busy_workers() == size.workers)  # so that the first kill meets one in the middle of its work
    fleet.kill_one(draw)
    target.answering.set()
    for _ in range(size.kills - 1):
        time.sleep(draw.uniform(1, 2) * ANSWER_SECONDS)
        fleet.kill_one(draw)
    while TaskExecution.objects.filter(status__in=["pending", "running"]).exists():
        assert time.monotonic() - started < size.within_seconds, statuses()
        time.sleep(0.2)
    seconds = time.monotonic() - started
    fleet.stop()

    successes = Counter(TaskAttempt.objects.filter(status="success").values_list("execution_id", flat=True))
    lost = TaskAttempt.objects.filter(status="lost").count()
    task.refresh_from_db()
    assert statuses() == {"success": size.executions}
    assert (len(successes), set(successes.values())) == (size.executions, {1})
    assert (task.success_count, task.failure_count) == (size.executions, 0)
    assert set(TaskAttempt.objects.values_list("status", flat=True)) <= {"success", "lost"}
    assert not TaskAttempt.objects.filter(finished_at=None).exists()
    assert lost > 0
    print(f"\n{size}: {lost} attempts lost, {len(target.requests)} requests, all ended after {seconds:.1f} s")


def busy_workers() -> int:
    return TaskAttempt.objects.filter(status="running").values("worker").distinct().count()


def statuses() -> dict[str, int]:
    return dict(Counter(TaskExecution.objects.values_list("status", flat=True)))
