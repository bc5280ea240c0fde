"""Workers killed in the middle of workflow runs: everything finishes, nothing that is on record is done again."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from automation_lab.core import clock
from automation_lab.core.execution import recovery
from automation_lab.core.execution.hints import kind_of
from automation_lab.core.registry import executables
from automation_lab.core.tests.servers import StubServer, response
from automation_lab.serving import servers
from automation_lab.tests.servers import HOST, database_environment
from automation_lab.tests.waiting import eventually
from workflows import services
from workflows.models import StepAttempt, StepExecution, Workflow, WorkflowExecution

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

FINISH_SECONDS = 120
START_SECONDS = 60


class Target:
    """Counts requests by path and Idempotency-Key; answers after `delay_seconds`, and while `answering` is set."""

    def __init__(self) -> None:
        self.delay_seconds = 0.0
        self.answering = threading.Event()
        self.answering.set()
        self.calls: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.server = StubServer(self._answer)

    def _answer(self, connection: Any, request: bytes) -> None:
        path = request.split(b" ", 2)[1].decode()
        key = re.search(rb"(?i)\r\nidempotency-key: (\S+)", request)
        with self._lock:
            self.calls[path, key[1].decode() if key else ""] += 1
            is_first = sum(self.keys(path).values()) == 1
        time.sleep(self.delay_seconds)
        self.answering.wait(FINISH_SECONDS)
        status = 503 if path.startswith("/flaky/") and is_first else 200
        connection.sendall(response(status, [("Content-Type", "application/json")], b'{"ok": true}'))

    def keys(self, path: str) -> dict[str, int]:
        return {key: count for (called, key), count in self.calls.items() if called == path}


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.server.close()


@pytest.fixture
def spawn(target: Target) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []

    def spawn(*command: str, **variables: str) -> subprocess.Popen[bytes]:
        environment = {
            **database_environment(),
            **servers.process_environment("worker", HOST),
            "OUTBOUND_ALLOW": f"127.0.0.1:{target.server.port}",
            "TASKS_CONCURRENCY": "8",
            "TASKS_GRACE_SECONDS": "1",
            "LOG_LEVEL": "warning",
            **variables,
        }
        process = subprocess.Popen(
            [sys.executable, *(command or ("manage.py", "worker"))], env=environment, cwd=servers.BASE_DIR
        )
        processes.append(process)
        return process

    yield spawn
    for process in processes:
        process.kill()
        process.wait()


def call(target: Target, step_id: str, path: str) -> dict[str, Any]:
    return {
        "type": "api_call",
        "id": step_id,
        "config": {"method": "POST", "url": f"{target.server.url}/{path}/{{{{ execution.id }}}}", "body": {}},
    }


def workflow_of(*steps: dict[str, Any]) -> Workflow:
    return services.create_workflow(fields={"name": "Crash", "steps": list(steps), "timeout_seconds": 600})


def branching(target: Target) -> Workflow:
    return workflow_of(
        {"type": "set", "id": "begin", "config": {"values": {"n": 1}}},
        call(target, "first", "first"),
        {
            "type": "condition",
            "id": "branch",
            "config": {"if": "vars.n == 1", "then": [call(target, "inside", "inside")]},
        },
        {"type": "set", "id": "end", "config": {"values": {"n": "{{ vars.n + 1 }}"}}},
    )


def everything(target: Target) -> Workflow:
    """Branch, loop, retry and wait."""
    return workflow_of(
        {"type": "set", "id": "begin", "config": {"values": {"n": 1}}},
        call(target, "first", "first"),
        {
            "type": "condition",
            "id": "branch",
            "config": {"if": "vars.n == 1", "then": [call(target, "inside", "inside")]},
        },
        {
            "type": "for_each",
            "id": "loop",
            "config": {
                "items": "{{ [1, 2, 3] }}",
                "concurrency": 2,
                "steps": [call(target, "item", "item/{{ item }}")],
            },
        },
        {**call(target, "flaky", "flaky"), "retry": {"delay_seconds": 0.3, "jitter": "none", "max_attempts": 5}},
        {"type": "delay", "id": "pause", "config": {"seconds": 1}},
        {"type": "set", "id": "end", "config": {"values": {"n": "{{ vars.n + 1 }}"}}},
    )


def wait_until_ended(executions: list[WorkflowExecution], seconds: float = FINISH_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    ids = [execution.pk for execution in executions]
    while WorkflowExecution.objects.filter(pk__in=ids, status__in=["pending", "running"]).exists():
        assert time.monotonic() < deadline, list(
            WorkflowExecution.objects.filter(pk__in=ids).values("id", "status", "waiting_for", "due_at", "worker")
        )
        time.sleep(0.2)


def assert_consistent(executions: list[WorkflowExecution]) -> None:
    rows = WorkflowExecution.objects.filter(pk__in=[execution.pk for execution in executions])
    assert Counter(rows.values_list("status", flat=True)) == {"success": len(executions)}
    steps = StepExecution.objects.filter(execution__in=rows)
    assert set(steps.values_list("status", flat=True)) <= {"success", "skipped"}
    assert not StepAttempt.objects.filter(step__in=steps, status="running").exists()
    results = StepAttempt.objects.filter(step__in=steps, status="success").values_list("step_id", flat=True)
    assert max(Counter(results).values()) == 1


MOMENTS = [
    "claimed:{id}:0",
    "before_commit:{id}:1",  # before the attempt of the first call is on record
    "after_commit:{id}:1",  # the attempt is on record, nothing was sent
    "answered:{id}:0",  # the target has answered, the result is not on record
    "before_commit:{id}:2",
    "after_commit:{id}:2",  # the first call's result is on record
    "after_commit:{id}:3",  # the second call's attempt, inside the branch
    "before_commit:{id}:5",  # the end of the run
]


def test_a_kill_at_every_moment_is_survived(target, spawn):
    workflow = branching(target)
    executions = []
    for moment in MOMENTS:
        execution = services.start_execution(workflow=workflow)
        executions.append(execution)
        worker = spawn("-m", "automation_lab.tests.failpoint_worker", FAILPOINT=moment.format(id=execution.pk))
        assert worker.wait(START_SECONDS) == -9, f"{moment} was not reached"

    spawn()
    wait_until_ended(executions)

    assert_consistent(executions)
    assert all(execution.variables == {"n": 2} for execution in WorkflowExecution.objects.all())
    for moment, execution in zip(MOMENTS, executions, strict=True):
        for path in ("first", "inside"):
            keys = target.keys(f"/{path}/{execution.pk}")
            assert len(keys) == 1, f"{moment}: one step, one key"
    # Its result was on record before the kill, so it is not sent again.
    on_record = executions[MOMENTS.index("after_commit:{id}:2")]
    assert list(target.keys(f"/first/{on_record.pk}").values()) == [1]
    sent_twice = executions[MOMENTS.index("answered:{id}:0")]
    assert list(target.keys(f"/first/{sent_twice.pk}").values()) == [2]


def test_random_kills_over_running_executions_lose_and_double_nothing(target, spawn):
    """CRASH_RUNS and CRASH_KILLS make it longer, by hand."""
    count, kills = int(os.environ.get("CRASH_RUNS", "20")), int(os.environ.get("CRASH_KILLS", "4"))
    chance = random.Random(7)
    target.delay_seconds = 0.15
    workflow = everything(target)
    executions = [services.start_execution(workflow=workflow) for _ in range(count)]
    workers = [spawn(), spawn()]
    for _ in range(kills):
        time.sleep(chance.uniform(1.5, 3.0))
        victim = workers.pop(0)
        victim.kill()
        victim.wait()
        workers.append(spawn())

    wait_until_ended(executions, seconds=120 + kills)

    assert_consistent(executions)
    for execution in executions:
        for path in ("first", "inside", "item/1", "item/2", "item/3", "flaky"):
            assert len(target.keys(f"/{path}/{execution.pk}")) == 1, "repeats carry the same key"


def test_runs_that_wait_survive_the_death_of_their_worker(target, spawn):
    """The wait is longer than anything here takes, so that all of them are in it at once; then it is made to be over."""
    workflow = workflow_of(
        call(target, "first", "first"),
        {"type": "delay", "id": "pause", "config": {"seconds": 500}},
        call(target, "last", "last"),
    )
    executions = [services.start_execution(workflow=workflow) for _ in range(50)]
    worker = spawn()
    eventually(lambda: WorkflowExecution.objects.filter(waiting_for="delay").count() == 50, seconds=FINISH_SECONDS)

    held = WorkflowExecution.objects.filter(worker__isnull=False).count()
    worker.kill()
    worker.wait()
    end_delays()
    spawn()
    wait_until_ended(executions)

    assert held == 0, "a wait holds no worker"
    assert_consistent(executions)
    assert all(sum(target.keys(f"/last/{execution.pk}").values()) == 1 for execution in executions)


def end_delays() -> None:
    """What waits is due now: runs, steps and the jobs that are to wake them."""
    with transaction.atomic(), connection.cursor() as cursor:
        for table, field in (
            ("workflow_executions", "due_at"),
            ("step_executions", "next_attempt_at"),
            ("procrastinate_jobs", "scheduled_at"),
        ):
            cursor.execute(f"UPDATE {table} SET {field} = clock_timestamp() WHERE {field} > clock_timestamp()")


def test_a_replaced_worker_cannot_write(target, spawn):
    """A worker that was counted as dead and comes back: its epoch is over."""
    target.answering.clear()
    execution = services.start_execution(workflow=workflow_of(call(target, "first", "first")))
    spawn()
    eventually(lambda: target.calls, seconds=START_SECONDS)

    with transaction.atomic(), connection.cursor() as cursor:  # the worker's next heartbeat waits for the end of it
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '1 hour'")
        moved = recovery.take_over_dead(executables.get(kind_of(WorkflowExecution)), now=clock.database_now())
        # Nobody else may see it dead: the worker itself would take over what it claims next.
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = clock_timestamp()")
    target.answering.set()
    wait_until_ended([execution])

    assert moved == 1
    assert_consistent([execution])
    attempts = StepAttempt.objects.filter(step__execution=execution).order_by("number")
    assert list(attempts.values_list("number", "status")) == [(1, "lost"), (2, "success")]
    assert list(target.keys(f"/first/{execution.pk}").values()) == [2], "sent again, with the same key"
