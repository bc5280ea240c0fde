"""The claim protocol, on task executions: the smallest concrete kind."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.utils import IntegrityError

from automation_lab.core import clock, correlation
from automation_lab.core.exceptions import Conflict
from automation_lab.core.execution import queue
from automation_lab.core.execution.claims import CANCELLED, Claim, Replaced
from automation_lab.core.execution.interruptions import End, end_of
from automation_lab.core.execution.tests.helpers import KIND, drop_jobs, jobs, take, together
from tasks.models import ScheduledTask, TaskAttempt, TaskExecution
from tasks.tests.factories import ScheduledTaskFactory, TaskExecutionFactory

HOUR = timedelta(hours=1)


@pytest.fixture
def task() -> ScheduledTask:
    return ScheduledTaskFactory()


@pytest.fixture
def waiting(task) -> TaskExecution:
    return queue.enqueue(TaskExecutionFactory.build(task=task), due_at=clock.database_now())


def stored(execution: TaskExecution) -> TaskExecution:
    return TaskExecution.objects.get(pk=execution.pk)


# --- enqueue ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_execution_is_enqueued_with_its_job(task):
    now = clock.database_now()

    execution = queue.enqueue(TaskExecutionFactory.build(task=task, priority=3), due_at=now)

    [job] = jobs()
    assert (job["status"], job["priority"], job["scheduled_at"]) == ("todo", 3, None)
    assert job["args"] == {"kind": KIND, "execution_id": execution.pk}
    assert (stored(execution).job_id, stored(execution).due_at, stored(execution).status) == (job["id"], now, "pending")


@pytest.mark.django_db
def test_an_execution_for_later_has_a_job_for_later(task):
    due_at = clock.database_now() + HOUR

    queue.enqueue(TaskExecutionFactory.build(task=task), due_at=due_at)

    assert [job["scheduled_at"] for job in jobs()] == [due_at]


@pytest.mark.django_db(transaction=True)
def test_a_rollback_leaves_neither_execution_nor_job(task):
    with pytest.raises(RuntimeError), transaction.atomic():
        queue.enqueue(TaskExecutionFactory.build(task=task), due_at=clock.database_now())
        raise RuntimeError

    assert (TaskExecution.objects.count(), jobs()) == (0, [])


@pytest.mark.django_db(transaction=True)
def test_an_execution_that_cannot_be_stored_leaves_no_job(task):
    TaskExecutionFactory(task=task, idempotency_key="k")

    with pytest.raises(IntegrityError):
        queue.enqueue(TaskExecutionFactory.build(task=task, idempotency_key="k"), due_at=clock.database_now())

    assert jobs() == []


@pytest.mark.django_db
def test_an_execution_carries_the_correlation_id_of_what_started_it(task):
    with correlation.bind("from-a-webhook"):
        execution = queue.enqueue(TaskExecutionFactory.build(task=task), due_at=clock.database_now())

    assert stored(execution).correlation_id == "from-a-webhook"


@pytest.mark.django_db
def test_a_batch_is_enqueued_with_a_job_each(task, django_assert_num_queries):
    executions = TaskExecutionFactory.build_batch(20, task=task)
    now = clock.database_now()

    with django_assert_num_queries(3):
        created = queue.enqueue_many(executions, due_at=now)

    found = jobs()
    rows = TaskExecution.objects.order_by("pk")
    assert [row.pk for row in created] == [row.pk for row in rows]
    assert {row.pk: row.job_id for row in rows} == {job["args"]["execution_id"]: job["id"] for job in found}
    assert {row.due_at for row in rows} == {now}


# --- claim --------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_claim_makes_the_execution_the_workers(waiting):
    now = clock.database_now()

    epoch = queue.claim(waiting, worker=7, now=now)

    row = stored(waiting)
    assert (epoch, row.epoch) == (1, 1)
    assert (row.status, row.worker, row.started_at) == ("running", 7, now)


@pytest.mark.django_db(transaction=True)
def test_exactly_one_of_many_racing_workers_gets_an_execution(task):
    executions = [queue.enqueue(TaskExecutionFactory.build(task=task), due_at=clock.database_now()) for _ in range(15)]

    def work(worker: int) -> list[int | None]:
        return [queue.claim(execution, worker=worker, now=clock.database_now()) for execution in executions]

    results = together([lambda worker=worker: work(worker) for worker in range(1, 9)])

    winners = [[worker for worker, epochs in enumerate(results, 1) if epochs[n] is not None] for n in range(15)]
    assert [len(workers) for workers in winners] == [1] * 15
    assert [stored(execution).worker for execution in executions] == [workers[0] for workers in winners]
    assert {stored(execution).epoch for execution in executions} == {1}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "state",
    [
        {"due_at": HOUR},
        {"due_at": None},
        {"due_at": -HOUR, "status": "success"},
        {"due_at": -HOUR, "status": "cancelled"},
        {"due_at": -HOUR, "status": "missed"},
        {"due_at": -HOUR, "status": "running", "worker": 5},
        {"due_at": -HOUR, "expires_at": -HOUR},
        {"due_at": -HOUR, "concurrency_keys": ["task:1"], "concurrency_limits": [1]},
    ],
    ids=["not due", "waits for an event", "success", "cancelled", "missed", "held", "expired", "not admitted"],
)
def test_what_may_not_run_is_not_claimed(task, state):
    now = clock.database_now()
    instants = {name: now + value for name, value in state.items() if isinstance(value, timedelta)}
    execution = TaskExecutionFactory(task=task, **{**state, **instants})

    assert queue.claim(execution, worker=7, now=now) is None
    assert stored(execution).epoch == 0


@pytest.mark.django_db
def test_an_execution_that_has_begun_does_not_expire(task):
    now = clock.database_now()
    execution = TaskExecutionFactory(task=task, due_at=now, expires_at=now - HOUR, started_at=now - 2 * HOUR)

    assert queue.claim(execution, worker=7, now=now) == 1
    assert stored(execution).started_at == now - 2 * HOUR


# --- writes of a worker -------------------------------------------------------------------------------------------------


def stale(claim: Claim) -> list[Claim]:
    """Claims that are not the one in force: an older epoch, another worker."""
    return [
        Claim(model=claim.model, pk=claim.pk, epoch=claim.epoch - 1, worker=claim.worker),
        Claim(model=claim.model, pk=claim.pk, epoch=claim.epoch, worker=claim.worker + 1),
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("number", [0, 1], ids=["epoch", "worker"])
def test_a_replaced_worker_can_write_nothing(waiting, number):
    old = stale(take(waiting))[number]
    now = clock.database_now()
    before = TaskExecution.objects.filter(pk=waiting.pk).values().get()

    with transaction.atomic(), pytest.raises(Replaced):
        queue.guard(old)
    with transaction.atomic(), pytest.raises(Replaced):
        queue.park(old, due_at=now, now=now)
    with transaction.atomic(), pytest.raises(Replaced):
        queue.finish(old, status="success", now=now)

    assert TaskExecution.objects.filter(pk=waiting.pk).values().get() == before


@pytest.mark.django_db
def test_a_result_is_recorded_once(waiting):
    claim = take(waiting)
    now = clock.database_now() + timedelta(seconds=2)

    queue.finish(claim, status="success", now=now, output_data={"a": 1})
    with pytest.raises(Replaced):
        queue.finish(claim, status="failed", now=now)

    row = stored(waiting)
    assert (row.status, row.worker, row.due_at, row.finished_at) == ("success", None, None, now)
    assert row.output_data == {"a": 1}
    assert row.duration_ms == pytest.approx((now - row.started_at).total_seconds() * 1000, abs=1)


@pytest.mark.django_db
def test_a_parked_execution_frees_its_worker_and_sends_a_job_for_its_time(waiting):
    claim = take(waiting)
    drop_jobs()
    now = clock.database_now()

    queue.park(claim, due_at=now + HOUR, now=now, status="pending", error_message="http.503")

    row = stored(waiting)
    [job] = jobs()
    assert (row.status, row.worker, row.due_at, row.error_message) == ("pending", None, now + HOUR, "http.503")
    assert (row.job_id, job["scheduled_at"]) == (job["id"], now + HOUR)


@pytest.mark.django_db
def test_an_execution_parked_for_an_event_has_no_job(waiting):
    claim = take(waiting)
    drop_jobs()

    queue.park(claim, due_at=None, now=clock.database_now())

    assert (stored(waiting).status, stored(waiting).due_at, stored(waiting).job_id) == ("running", None, None)
    assert jobs() == []


@pytest.mark.django_db(transaction=True)
def test_a_guard_holds_off_who_wants_to_take_over_until_its_transaction_ends(waiting):
    claim = take(waiting)
    guarded, order = threading.Event(), []

    def worker() -> None:
        with transaction.atomic():
            queue.guard(claim)
            guarded.set()
            time.sleep(0.3)
            order.append("guard")

    def other() -> None:
        guarded.wait(30)
        with transaction.atomic():
            TaskExecution.objects.select_for_update().get(pk=waiting.pk)
            order.append("other")

    together([worker, other])

    assert order == ["guard", "other"]


# --- events and cancelling ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_event_makes_a_parked_execution_due(waiting):
    queue.park(take(waiting), due_at=None, now=clock.database_now())
    drop_jobs()
    now = clock.database_now()

    assert queue.wake(waiting, now=now) is True
    assert stored(waiting).due_at == now
    assert [job["id"] for job in jobs()] == [stored(waiting).job_id]


@pytest.mark.django_db
@pytest.mark.parametrize("state", [{"status": "running", "worker": 5}, {"status": "success"}])
def test_an_event_moves_neither_a_held_nor_a_finished_execution(task, state):
    execution = TaskExecutionFactory(task=task, **state)

    assert queue.wake(execution, now=clock.database_now()) is False
    assert (jobs(), stored(execution).due_at) == ([], None)


@pytest.mark.django_db
def test_a_waiting_execution_is_cancelled_at_once(waiting):
    row = queue.cancel(waiting, now=clock.database_now(), reason="Not wanted.")

    assert (row.status, row.error_message, row.duration_ms) == ("cancelled", "Not wanted.", None)
    assert stored(waiting).finished_at is not None
    assert queue.claim(waiting, worker=7, now=clock.database_now()) is None


@pytest.mark.django_db
def test_a_running_execution_is_asked_to_stop_and_the_first_asking_counts(waiting):
    take(waiting)
    now = clock.database_now()

    queue.cancel(waiting, now=now)
    queue.cancel(waiting, now=now + HOUR)

    assert (stored(waiting).status, stored(waiting).cancel_requested_at) == ("running", now)


@pytest.mark.django_db
def test_a_running_execution_ends_with_the_reason_for_which_it_was_asked_to_stop(waiting):
    claim = take(waiting)

    queue.cancel(waiting, now=clock.database_now(), reason="Not wanted.")

    assert end_of(claim, CANCELLED) == End("cancelled", "Not wanted.")


@pytest.mark.django_db
def test_a_finished_execution_cannot_be_cancelled(waiting):
    queue.finish(take(waiting), status="success", now=clock.database_now())

    with pytest.raises(Conflict, match="finished already: success"):
        queue.cancel(waiting, now=clock.database_now())


@pytest.mark.django_db
@pytest.mark.parametrize("changes", [{}, {"error_message": "http.503"}])
def test_what_is_not_parked_but_cancelled_keeps_the_reason(waiting, changes):
    claim = take(waiting)
    now = clock.database_now()
    queue.cancel(waiting, now=now, reason="Started again.")

    queue.park(claim, due_at=None, now=now, **changes)

    assert (stored(waiting).status, stored(waiting).error_message) == ("cancelled", "Started again.")


@pytest.mark.django_db
@pytest.mark.parametrize("later", [HOUR, None], ids=["retry", "event"])
def test_what_was_asked_to_cancel_ends_instead_of_being_parked(waiting, later):
    claim = take(waiting)
    now = clock.database_now()
    queue.cancel(waiting, now=now)
    drop_jobs()

    queue.park(claim, due_at=later and now + later, now=now, status="pending")

    assert (stored(waiting).status, stored(waiting).due_at) == ("cancelled", None)
    assert jobs() == []


@pytest.mark.django_db(transaction=True)
def test_cancelling_and_finishing_at_the_same_moment_leaves_one_result(task):
    for _ in range(10):
        execution = queue.enqueue(TaskExecutionFactory.build(task=task), due_at=clock.database_now())
        claim = take(execution)

        cancelled, finished = together(
            [
                lambda execution=execution: queue.cancel(execution, now=clock.database_now()),
                lambda claim=claim: queue.finish(claim, status="success", now=clock.database_now()),
            ]
        )

        assert finished is None
        assert stored(execution).status == "success"
        assert isinstance(cancelled, Conflict | TaskExecution)


# --- writing while the database goes away -------------------------------------------------------------------------------


def cut_own_connection() -> None:
    """What a restart of PostgreSQL does to this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with connection.copy().cursor() as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        other.connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_write_is_tried_again_when_the_connection_is_cut_before_its_commit(waiting):
    claim = take(waiting)
    pauses: list[float] = []
    tries = []

    def write() -> None:
        tries.append(1)
        TaskAttempt.objects.create(
            execution=waiting, number=1, epoch=claim.epoch, worker=1, started_at=clock.database_now()
        )
        if len(tries) < 3:
            cut_own_connection()
        queue.finish(claim, status="success", now=clock.database_now())

    queue.persist(write, sleep=pauses.append)

    assert (len(tries), pauses) == (3, [0.2, 0.4])
    assert (stored(waiting).status, TaskAttempt.objects.count()) == ("success", 1)


@pytest.mark.django_db(transaction=True)
def test_a_write_whose_commit_was_not_confirmed_is_not_done_twice(waiting):
    claim = take(waiting)
    ScheduledTask.objects.update(success_count=0)
    unconfirmed = iter([OperationalError("server closed the connection unexpectedly")])

    def lose_the_answer() -> None:
        for error in unconfirmed:
            raise error

    def write() -> None:
        queue.finish(claim, status="success", now=clock.database_now())
        ScheduledTask.objects.update(success_count=1 + ScheduledTask.objects.get().success_count)
        transaction.on_commit(lose_the_answer)

    with pytest.raises(Replaced):
        queue.persist(write, sleep=lambda seconds: None)

    assert (stored(waiting).status, ScheduledTask.objects.get().success_count) == ("success", 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_patience_with_a_database_that_stays_away_ends(error):
    pauses: list[float] = []

    def write() -> None:
        raise error("away")

    with pytest.raises(error):
        queue.persist(write, patience_seconds=10, sleep=pauses.append)

    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]


@pytest.mark.django_db(transaction=True)
def test_other_errors_are_not_tried_again():
    tries = []

    def write() -> None:
        tries.append(1)
        raise IntegrityError

    with pytest.raises(IntegrityError):
        queue.persist(write)

    assert tries == [1]
