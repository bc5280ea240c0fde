"""Taking over from dead workers, ending what is past its time, sending lost jobs again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from automation_lab.core import clock
from automation_lab.core.execution import queue, recovery
from automation_lab.core.execution.claims import Claim, held
from automation_lab.core.execution.tests.helpers import KIND, add_worker, drop_jobs, jobs, take, together
from automation_lab.core.registry import executables
from tasks.models import ScheduledTask, TaskExecution
from tasks.tests.factories import ScheduledTaskFactory, TaskAttemptFactory, TaskExecutionFactory

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def task() -> ScheduledTask:
    return ScheduledTaskFactory()


@pytest.fixture
def now() -> datetime:
    return clock.database_now()


def running(task: ScheduledTask, *, worker: int, **values: Any) -> TaskExecution:
    """A run in the hands of `worker`, with its open attempt."""
    execution = TaskExecutionFactory(task=task, due_at=clock.database_now(), **values)
    claim = take(execution, worker=worker)
    TaskAttemptFactory(execution=execution, epoch=claim.epoch, worker=worker, status="running")
    execution.refresh_from_db()
    return execution


def stored(execution: TaskExecution) -> TaskExecution:
    return TaskExecution.objects.get(pk=execution.pk)


def executable() -> Any:
    return executables.get(KIND)


@pytest.fixture
def claimed() -> Iterator[list[Claim]]:
    """Claims that this process holds for as long as the test runs."""
    claims: list[Claim] = []
    yield claims
    for claim in claims:
        held.remove(claim)


# --- dead workers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent_seconds", [None, 15.5, 3600], ids=["no row", "just too old", "long ago"])
def test_what_a_dead_worker_held_is_taken_over(task, silent_seconds):
    worker = 4711 if silent_seconds is None else add_worker(silent_seconds=silent_seconds)
    execution = running(task, worker=worker)

    recovery.recover()

    row = stored(execution)
    [job] = jobs()
    assert (row.status, row.worker, row.epoch) == ("running", None, 2)
    assert row.due_at <= clock.database_now()
    assert (row.job_id, job["args"]["execution_id"]) == (job["id"], execution.pk)
    [attempt] = execution.attempts.all()
    assert (attempt.status, attempt.error_class) == ("lost", "runtime.worker_lost")
    assert attempt.finished_at is not None


def test_the_next_claim_has_a_new_epoch_and_the_dead_workers_writes_are_refused(task):
    execution = running(task, worker=4711)
    old = Claim(model=TaskExecution, pk=execution.pk, epoch=1, worker=4711)

    recovery.recover()
    new = take(execution, worker=5)

    assert new.epoch == 3
    with pytest.raises(queue.Replaced):
        queue.finish(old, status="success", now=clock.database_now())
    assert stored(execution).status == "running"


@pytest.mark.parametrize("silent_seconds", [0, 14])
def test_what_a_live_worker_holds_is_left_alone(task, silent_seconds):
    execution = running(task, worker=add_worker(silent_seconds=silent_seconds))
    before = TaskExecution.objects.filter(pk=execution.pk).values().get()

    assert recovery.recover() == 0
    assert TaskExecution.objects.filter(pk=execution.pk).values().get() == before
    assert execution.attempts.get().status == "running"


def test_a_task_may_ask_to_fail_when_its_worker_is_lost(task):
    ScheduledTask.objects.update(on_lost_worker="fail")
    execution = running(task, worker=4711)

    recovery.recover()

    row = stored(execution)
    task.refresh_from_db()
    assert (row.status, row.worker, row.due_at) == ("failed", None, None)
    assert "worker was lost" in row.error_message
    assert row.finished_at is not None
    assert execution.attempts.get().status == "lost"
    assert (task.failure_count, task.consecutive_failures, jobs()) == (1, 1, [])


def test_a_run_that_takes_five_workers_with_it_is_given_up(task):
    execution = TaskExecutionFactory(task=task, due_at=clock.database_now())
    for worker in range(5):
        claim = take(execution, worker=4700 + worker)
        TaskAttemptFactory(execution=execution, epoch=claim.epoch, worker=claim.worker, status="running")
        recovery.recover()

    assert stored(execution).status == "failed"
    assert stored(execution).error_message.startswith("5 workers were lost")
    assert set(execution.attempts.values_list("status", flat=True)) == {"lost"}


def test_what_was_asked_to_cancel_does_not_run_again_after_its_worker_died(task, now):
    execution = running(task, worker=4711)
    queue.cancel(execution, now=now)
    drop_jobs()

    recovery.recover()

    task.refresh_from_db()
    assert (stored(execution).status, jobs()) == ("cancelled", [])
    assert (task.failure_count, execution.attempts.get().status) == (0, "lost")


@pytest.mark.django_db(transaction=True)
def test_several_recoveries_at_once_do_nothing_twice(task):
    executions = [running(task, worker=4711) for _ in range(30)]
    drop_jobs()

    moved = together([recovery.recover] * 4)

    assert sum(moved) == 30
    assert {stored(execution).epoch for execution in executions} == {2}
    assert sorted(job["args"]["execution_id"] for job in jobs()) == sorted(execution.pk for execution in executions)


@pytest.mark.django_db(transaction=True)
def test_several_recoveries_at_once_end_a_run_once(task):
    ScheduledTask.objects.update(on_lost_worker="fail")
    for _ in range(20):
        running(task, worker=4711)

    together([recovery.recover] * 4)

    task.refresh_from_db()
    assert task.failure_count == 20


def test_one_row_that_cannot_be_moved_on_holds_up_no_other(task, now, monkeypatch, caplog):
    broken, other = running(task, worker=4711), running(task, worker=4711)
    overdue = TaskExecutionFactory(task=task, deadline_at=now - SECOND)
    taken_over = executable().taken_over

    def fragile(execution: TaskExecution, **given: Any) -> str:
        if execution.pk == broken.pk:
            raise RuntimeError("broken row")
        return taken_over(execution, **given)

    monkeypatch.setattr(executable(), "taken_over", fragile)
    recovery.recover()

    assert (stored(broken).worker, stored(broken).epoch) == (4711, 1)
    assert (stored(other).worker, stored(other).epoch, stored(overdue).status) == (None, 2, "timeout")
    assert "could not be moved on" in caplog.text


# --- this process's own -------------------------------------------------------------------------------------------------


def test_a_row_of_ones_own_that_no_thread_runs_is_taken_over_after_a_while(task, now):
    worker = add_worker()
    execution = running(task, worker=worker)

    early = recovery.take_over_own(executable(), workers=[worker], now=now + 14 * SECOND)
    late = recovery.take_over_own(executable(), workers=[worker], now=now + 20 * SECOND)

    assert (early, late) == (0, 1)
    assert (stored(execution).worker, stored(execution).epoch) == (None, 2)
    assert execution.attempts.get().status == "lost"


def test_a_row_of_ones_own_that_is_running_is_left_alone(task, now, claimed):
    worker = add_worker()
    execution = running(task, worker=worker)
    claimed.append(Claim(model=TaskExecution, pk=execution.pk, epoch=execution.epoch, worker=worker))
    held.add(claimed[0])

    assert recovery.take_over_own(executable(), workers=[worker], now=now + HOUR) == 0
    assert stored(execution).worker == worker


def test_rows_of_other_live_workers_are_not_ones_own(task, now):
    execution = running(task, worker=add_worker())

    assert recovery.take_over_own(executable(), workers=[add_worker()], now=now + HOUR) == 0
    assert stored(execution).epoch == 1


# --- lost jobs ----------------------------------------------------------------------------------------------------------


def test_a_due_run_without_job_gets_one_after_a_while(task, now):
    execution = queue.enqueue(TaskExecutionFactory.build(task=task), due_at=now)
    drop_jobs()

    early = recovery.resend_jobs(executable(), now=now + 4 * SECOND)
    late = recovery.resend_jobs(executable(), now=now + 6 * SECOND)
    again = recovery.resend_jobs(executable(), now=now + 7 * SECOND)

    assert (early, late, again) == (0, 1, 0)
    assert [job["id"] for job in jobs()] == [stored(execution).job_id]


def test_a_due_run_whose_job_waits_is_not_sent_again(task, now):
    queue.enqueue(TaskExecutionFactory.build(task=task), due_at=now)

    assert recovery.resend_jobs(executable(), now=now + HOUR) == 0
    assert len(jobs()) == 1


def test_a_job_that_was_taken_without_claiming_counts_as_lost(task, now):
    queue.enqueue(TaskExecutionFactory.build(task=task), due_at=now)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")

    assert recovery.resend_jobs(executable(), now=now + HOUR) == 1


@pytest.mark.parametrize(
    "state",
    [{"due_at": HOUR}, {"due_at": None}, {"due_at": -HOUR, "status": "success"}],
    ids=["later", "event", "finished"],
)
def test_what_is_not_due_gets_no_job(task, now, state):
    TaskExecutionFactory(task=task, **{**state, "due_at": state["due_at"] and now + state["due_at"]})

    assert recovery.recover() == 0
    assert jobs() == []


# --- past their time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        {"status": "pending", "due_at": -HOUR},
        {"status": "pending", "due_at": HOUR},
        {"status": "running", "due_at": HOUR},
        {"status": "running", "due_at": None},
    ],
    ids=["waits for a worker", "waits for a retry", "waits for an instant", "waits for an event"],
)
def test_a_waiting_run_past_its_deadline_ends(task, now, state):
    due_at = state["due_at"] and now + state["due_at"]
    execution = TaskExecutionFactory(
        task=task, status=state["status"], due_at=due_at, started_at=now - 2 * SECOND, deadline_at=now - SECOND
    )

    recovery.recover()

    row = stored(execution)
    task.refresh_from_db()
    assert (row.status, row.due_at, row.error_message) == ("timeout", None, "Not finished within its time limit.")
    assert row.duration_ms == pytest.approx(2_000, abs=500)
    assert task.failure_count == 1


def test_a_run_before_its_deadline_goes_on(task, now):
    execution = TaskExecutionFactory(task=task, status="running", deadline_at=now + HOUR)

    recovery.recover()

    assert stored(execution).status == "running"


def test_a_held_run_past_its_deadline_is_left_to_its_worker(task, now):
    execution = running(task, worker=add_worker(), deadline_at=now - SECOND)

    recovery.recover()

    assert stored(execution).status == "running"


def test_a_run_that_was_not_started_in_time_is_missed(task, now):
    execution = TaskExecutionFactory(task=task, due_at=now - HOUR, expires_at=now - SECOND)

    recovery.recover()

    task.refresh_from_db()
    assert (stored(execution).status, stored(execution).duration_ms) == ("missed", None)
    assert task.failure_count == 0


def test_a_run_that_has_been_started_is_not_missed(task, now):
    execution = TaskExecutionFactory(task=task, due_at=now + HOUR, started_at=now - HOUR, expires_at=now - SECOND)

    recovery.recover()

    assert stored(execution).status == "pending"


# --- the queue itself ---------------------------------------------------------------------------------------------------


def test_jobs_of_dead_workers_are_dropped(task, now):
    live, dead = add_worker(), add_worker(silent_seconds=60)
    for _ in range(4):
        queue.enqueue(TaskExecutionFactory.build(task=task, status="success"), due_at=now)
    ids = [job["id"] for job in jobs()]
    with connection.cursor() as cursor:
        for job_id, worker in zip(ids[:3], (live, dead, None), strict=True):
            cursor.execute(
                "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id = %s", [worker, job_id]
            )

    recovery.recover()

    assert [job["id"] for job in jobs()] == [ids[0], ids[3]]


def test_a_quiet_round_costs_the_same_however_much_is_going_on(task, now):
    with CaptureQueriesContext(connection) as empty:
        recovery.recover()
    for _ in range(20):
        running(task, worker=add_worker())
        queue.enqueue(TaskExecutionFactory.build(task=task), due_at=now)

    with CaptureQueriesContext(connection) as busy:
        moved = recovery.recover()

    assert (moved, len(busy)) == (0, len(empty))
