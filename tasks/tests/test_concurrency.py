"""How many runs go on at a time: judged when one is claimed, passed on when one leaves."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.db import connection

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict
from automation_lab.core.execution import queue, runner
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.tests.helpers import add_worker, drop_jobs, jobs
from tasks import services
from tasks.models import ScheduledTask, TaskExecution
from tasks.tests.factories import ScheduledTaskFactory

pytestmark = pytest.mark.django_db


def start(task: ScheduledTask, count: int = 1) -> list[TaskExecution]:
    return [services.start_execution(task=task) for _ in range(count)]


def claim(execution: TaskExecution) -> Claim | None:
    """What a worker does with the hint for `execution`."""
    epoch = runner._claim(execution, worker=1)
    if epoch is None:
        return None
    execution.refresh_from_db()
    keys = execution.concurrency_keys
    return Claim(model=TaskExecution, pk=execution.pk, epoch=epoch, worker=1, concurrency_keys=keys)


def finish(claim: Claim) -> None:
    queue.persist(lambda: queue.finish(claim, status="success", now=clock.database_now()))


def due(execution: TaskExecution) -> bool:
    execution.refresh_from_db()
    return execution.due_at is not None


def hinted() -> list[int]:
    """The executions that the queue has hints for, in its order."""
    return [job["args"]["execution_id"] for job in jobs()]


def test_a_task_without_rule_runs_any_number_at_a_time():
    first, second = start(ScheduledTaskFactory(overlap="allow"), 2)

    assert claim(first)
    assert claim(second)


@pytest.mark.parametrize("overlap", ["queue_one", "queue_all", "cancel_previous"])
def test_a_rule_that_queues_runs_one_at_a_time(overlap):
    first, second = start(ScheduledTaskFactory(overlap=overlap), 2)

    assert claim(first)
    assert claim(second) is None
    assert not due(second)


def test_a_limit_counts_runs_of_its_task_only():
    one, other = ScheduledTaskFactory(max_concurrency=1), ScheduledTaskFactory(max_concurrency=1)

    assert claim(*start(one))
    assert claim(*start(other))


def test_as_many_run_as_the_limit_says():
    runs = start(ScheduledTaskFactory(max_concurrency=2), 4)

    assert [bool(claim(run)) for run in runs] == [True, True, False, False]


def test_the_next_one_becomes_due_when_one_ends():
    first, second, third = start(ScheduledTaskFactory(overlap="queue_all"), 3)
    held = claim(first)
    claim(second), claim(third)
    drop_jobs()

    finish(held)

    assert (due(second), due(third)) == (True, False)
    assert hinted() == [second.pk]


def test_the_next_one_becomes_due_when_one_is_parked_for_a_retry():
    first, second = start(ScheduledTaskFactory(overlap="queue_all"), 2)
    held = claim(first)
    claim(second)

    now = clock.database_now()
    queue.persist(lambda: queue.park(held, due_at=now.replace(year=2100), now=now, status="pending"))

    assert claim(second)


def test_the_next_one_becomes_due_when_a_pending_one_is_cancelled():
    first, second = start(ScheduledTaskFactory(overlap="queue_all"), 2)
    claim(second)

    services.cancel_execution(execution=first)

    assert claim(second)


def test_a_new_run_does_not_overtake_the_one_that_has_just_become_due():
    task = ScheduledTaskFactory(overlap="queue_all")
    first, second = start(task, 2)
    held = claim(first)
    claim(second)
    (third,) = start(task)

    finish(held)

    assert claim(third) is None
    assert claim(second)


def test_the_run_of_the_higher_priority_goes_first():
    task = ScheduledTaskFactory(overlap="queue_all")
    first, second = start(task, 2)
    held = claim(first)
    task.priority = 5
    (urgent,) = start(task)
    claim(second), claim(urgent)

    finish(held)

    assert (due(urgent), due(second)) == (True, False)


def test_a_place_that_one_cannot_take_for_another_limit_goes_to_the_next():
    """Of three runs at one host, the second waits for its task; the third must not wait for the second."""
    busy, other, last = ScheduledTaskFactory.create_batch(3, max_concurrency=1)
    runs = [*start(busy, 2), *start(other), *start(last)]
    for run in runs:
        run.concurrency_keys = [*run.concurrency_keys, "host:api.example.com"]
        run.concurrency_limits = [*run.concurrency_limits, 2]
        run.save()
    first, second, third, fourth = runs
    held = claim(first)
    claim(second)
    running = claim(third)
    claim(fourth)

    finish(running)
    drop_jobs()
    assert claim(second) is None  # its task is busy

    assert (due(fourth), hinted()) == (True, [fourth.pk])
    assert claim(fourth)
    finish(held)
    assert claim(second)


def test_runs_of_one_task_go_one_after_the_other_in_order():
    runs = start(ScheduledTaskFactory(overlap="queue_all"), 8)
    order: list[int] = []
    running = most = 0

    for _ in range(100):
        waiting = hinted()
        drop_jobs()
        if not waiting:
            break
        claims = [found for pk in waiting if (found := claim(TaskExecution.objects.get(pk=pk)))]
        running = len(claims)
        most = max(most, running)
        for held in claims:
            order.append(held.pk)
            finish(held)

    assert order == [run.pk for run in runs]
    assert most == 1


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("https://API.example.com:8443/report", ["host:api.example.com"]),
        ("https://api.example.com./{{ input.path }}", ["host:api.example.com"]),
        ("https://{{ input.host }}/report", []),
        ("https://{{ input.name }}.example.com/report", []),
        ("{{ input.url }}", []),
        ("https://[broken", []),
        ("nonsense", []),
    ],
)
def test_a_host_that_is_written_out_has_a_limit_of_its_own(settings, url, keys):
    settings.TASKS_PER_HOST = 2
    (run,) = start(ScheduledTaskFactory(config={"url": url}))

    assert (run.concurrency_keys, run.concurrency_limits) == (keys, [2] * len(keys))


def test_tasks_of_one_host_share_its_limit(settings):
    settings.TASKS_PER_HOST = 2
    runs = [run for task in ScheduledTaskFactory.create_batch(3) for run in start(task)]

    assert [bool(claim(run)) for run in runs] == [True, True, False]


def test_without_the_setting_a_host_has_no_limit():
    (run,) = start(ScheduledTaskFactory())

    assert run.concurrency_keys == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("limit", [1, 3])
def test_racing_workers_lose_no_run_and_keep_to_the_limit(limit):
    """Eight threads take hints like workers; every run comes to its turn without recovery."""
    add_worker()
    runs = start(ScheduledTaskFactory(overlap="queue_all", max_concurrency=limit), 24)
    lock, full = threading.Lock(), threading.Event()
    running = most = 0
    errors: list[Exception] = []

    def take_hint() -> int | None:
        with lock, connection.cursor() as cursor:
            cursor.execute("DELETE FROM procrastinate_jobs WHERE id = (SELECT min(id) FROM procrastinate_jobs)"
                           " RETURNING (args->>'execution_id')::int")  # fmt: skip
            row = cursor.fetchone()
        return row[0] if row else None

    def work() -> None:
        nonlocal running, most
        idle_since = time.monotonic()
        try:
            while time.monotonic() - idle_since < 1:
                pk = take_hint()
                held = claim(TaskExecution.objects.get(pk=pk)) if pk else None
                if held is None:
                    time.sleep(0.002)
                    continue
                with lock:
                    running += 1
                    most = max(most, running)
                    if running >= limit:
                        full.set()
                full.wait(30)  # the first ones: so that they are as many at once as may be
                time.sleep(0.005)
                with lock:
                    running -= 1
                finish(held)
                idle_since = time.monotonic()
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(work)

    assert errors == []
    assert {row.status for row in TaskExecution.objects.filter(pk__in=[run.pk for run in runs])} == {"success"}
    assert most == limit


@pytest.mark.django_db(transaction=True)
def test_cancelling_while_the_queue_moves_on_leaves_nothing_behind():
    """One thread ends runs, one cancels the waiting ones, one claims: no deadlock, and every run ends."""
    runs = start(ScheduledTaskFactory(overlap="queue_all"), 30)
    errors: list[Exception] = []
    stop = threading.Event()

    def guarded(work) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            connection.close()

    def move_on() -> None:
        while not stop.is_set():
            for pk in hinted():
                held = claim(TaskExecution.objects.get(pk=pk))
                if held:
                    finish(held)

    def cancel_every_third() -> None:
        for run in runs[::3]:
            with suppress(Conflict):  # it has finished already
                services.cancel_execution(execution=run)

    with ThreadPoolExecutor(4) as pool:
        movers = [pool.submit(guarded, move_on) for _ in range(2)]
        cancellers = [pool.submit(guarded, cancel_every_third) for _ in range(2)]
        for future in cancellers:
            future.result(30)
        deadline = time.monotonic() + 60
        while TaskExecution.objects.filter(status="pending").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        for future in movers:
            future.result(30)

    assert errors == []
    assert set(TaskExecution.objects.values_list("status", flat=True)) <= {"success", "cancelled"}
