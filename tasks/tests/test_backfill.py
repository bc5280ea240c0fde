"""Runs for slots of the past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.execution.tests.helpers import jobs, together
from tasks.models import ScheduledTask, TaskExecution
from tasks.scheduling import ticking
from tasks.scheduling.backfill import Backfill, backfill
from tasks.tests.factories import ScheduledTaskFactory, TaskExecutionFactory

pytestmark = pytest.mark.django_db

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def task() -> ScheduledTask:
    """Runs every hour; NOON is its first slot that is due."""
    return ScheduledTaskFactory(schedule="0 * * * *", next_run_at=NOON)


def run(task: ScheduledTask, hours: range, **options: Any) -> Backfill:
    return backfill(task=task, from_at=NOON + hours[0] * HOUR, to_at=NOON + hours[-1] * HOUR, **options)


def rows(task: ScheduledTask) -> list[tuple[int, str, int]]:
    """(hours after NOON, status, count), in the order of the slots."""
    found = task.executions.order_by("scheduled_for").values_list("scheduled_for", "status", "count")
    return [((slot - NOON) // HOUR, status, count) for slot, status, count in found]


def after_an_outage(task: ScheduledTask, hours: int) -> None:
    """One row stands for the slots of that many hours from NOON on."""
    ScheduledTask.objects.filter(pk=task.pk).update(misfire="skip")
    ticking.tick(NOON + (hours - 0.5) * HOUR)
    assert rows(task) == [(0, "missed", hours)]


def test_a_slot_without_a_row_gets_a_run_that_is_due_now(task):
    assert run(task, range(3)) == Backfill(slots=3, revived=0, created=3, kept=0)

    found = list(task.executions.order_by("scheduled_for"))
    assert [row.scheduled_for for row in found] == [NOON, NOON + HOUR, NOON + 2 * HOUR]
    assert {(row.status, row.trigger) for row in found} == {("pending", "backfill")}
    assert [job["args"]["execution_id"] for job in jobs()] == [row.pk for row in found]


def test_a_period_of_the_beginning_of_the_calendar_has_no_slots(task):
    first = datetime.min.replace(tzinfo=UTC)

    assert backfill(task=task, from_at=first, to_at=first + HOUR) == Backfill(slots=0, revived=0, created=0, kept=0)


@pytest.mark.parametrize("status", ["missed", "skipped"])
def test_a_row_that_did_not_run_is_pending_again(task, status):
    old = TaskExecutionFactory(
        task=task, scheduled_for=NOON, status=status, finished_at=NOON, error_message="Not then.", trigger="schedule"
    )

    assert run(task, range(1)) == Backfill(slots=1, revived=1, created=0, kept=0)

    old.refresh_from_db()
    assert (old.status, old.trigger, old.error_message, old.finished_at) == ("pending", "backfill", "", None)
    assert old.due_at is not None
    assert [job["args"]["execution_id"] for job in jobs()] == [old.pk]
    assert old.job_id == jobs()[0]["id"]


@pytest.mark.parametrize("status", ["pending", "success", "failed", "cancelled", "timeout"])
def test_a_slot_that_has_run_or_is_going_to_is_kept(task, status):
    TaskExecutionFactory(task=task, scheduled_for=NOON, status=status)

    assert run(task, range(1)) == Backfill(slots=1, revived=0, created=0, kept=1)
    assert rows(task) == [(0, status, 1)]
    assert jobs() == []


def test_a_dry_run_counts_and_changes_nothing(task):
    after_an_outage(task, 5)

    assert run(task, range(1, 8), dry_run=True) == Backfill(slots=7, revived=0, created=7, kept=0)
    assert rows(task) == [(0, "missed", 5)]
    assert jobs() == []


def test_a_second_backfill_of_the_same_period_changes_nothing(task):
    run(task, range(3))

    assert run(task, range(3)) == Backfill(slots=3, revived=0, created=0, kept=3)


def test_a_row_for_several_missed_slots_gives_each_its_own_run(task):
    after_an_outage(task, 5)

    assert run(task, range(5)) == Backfill(slots=5, revived=1, created=4, kept=0)
    assert rows(task) == [(n, "pending", 1) for n in range(5)]


@pytest.mark.parametrize(
    ("hours", "left"),
    [
        (range(2), [(2, "missed", 4)]),
        (range(4, 6), [(0, "missed", 4)]),
        (range(2, 4), [(0, "missed", 2), (4, "missed", 2)]),
        (range(5, 8), [(0, "missed", 5)]),
        (range(7, 9), [(0, "missed", 6)]),
    ],
)
def test_missed_slots_outside_the_period_stay_missed(task, hours, left):
    after_an_outage(task, 6)

    run(task, hours)

    assert [row for row in rows(task) if row[1] == "missed"] == left
    assert [n for n, status, _ in rows(task) if status == "pending"] == list(hours)


def test_what_is_left_of_a_missed_row_says_why_it_was_missed(task):
    after_an_outage(task, 3)

    run(task, range(1))

    left = task.executions.get(status="missed")
    assert left.error_message == "Missed: more than 60 s late."
    assert left.finished_at is not None


def test_missed_slots_of_a_schedule_that_has_changed_since_are_left_alone(task):
    after_an_outage(task, 3)
    ScheduledTask.objects.filter(pk=task.pk).update(schedule="30 9 * * *")
    task.refresh_from_db()

    backfill(task=task, from_at=NOON - 24 * HOUR, to_at=NOON + 24 * HOUR)

    assert (0, "missed", 3) in rows(task)


@pytest.mark.parametrize(("overlap", "limits"), [("skip", [1]), ("queue_all", [1]), ("allow", [])])
def test_the_runs_go_one_after_the_other_unless_the_task_lets_them_overlap(task, overlap, limits):
    TaskExecutionFactory(task=task, scheduled_for=NOON, status="missed")
    ScheduledTask.objects.filter(pk=task.pk).update(overlap=overlap)

    run(task, range(2))

    assert [row.concurrency_limits for row in task.executions.all()] == [limits, limits]


def test_a_task_that_must_not_be_late_runs_late_when_asked_to(task):
    ScheduledTask.objects.filter(pk=task.pk).update(misfire="skip")

    run(task, range(2))

    assert set(task.executions.values_list("expires_at", flat=True)) == {None}


def test_a_paused_task_can_be_backfilled(task):
    ScheduledTask.objects.filter(pk=task.pk).update(enabled=False, next_run_at=None)

    assert run(task, range(2)).created == 2


@pytest.mark.parametrize(
    ("schedule", "from_at", "to_at", "field"),
    [
        ("", NOON, NOON, "schedule"),
        ("0 * * * *", NOON, NOON - HOUR, "to"),
        ("0 * * * *", NOON, NOON + 10_000 * 24 * HOUR, "to"),
        ("* * * * *", NOON, NOON + 24 * HOUR, "from"),
    ],
)
def test_a_period_that_makes_no_sense_is_refused(task, schedule, from_at, to_at, field):
    ScheduledTask.objects.filter(pk=task.pk).update(schedule=schedule)

    with pytest.raises(Invalid) as caught:
        backfill(task=task, from_at=from_at, to_at=to_at)

    assert caught.value.field == field
    assert TaskExecution.objects.count() == 0


def test_an_archived_task_is_refused(task):
    ScheduledTask.objects.filter(pk=task.pk).update(archived_at=clock.database_now())

    with pytest.raises(Conflict):
        run(task, range(1))


def test_a_period_without_slots_does_nothing(task):
    minute = timedelta(minutes=1)

    assert backfill(task=task, from_at=NOON + minute, to_at=NOON + 2 * minute) == Backfill(0, 0, 0, 0)


def test_over_the_api(api, task):
    period = {"from": "2025-03-01T12:00:00Z", "to": "2025-03-01T14:00:00Z"}

    counted = api.post(f"/v1/tasks/{task.pk}/backfill", {**period, "dry_run": True})
    done = api.post(f"/v1/tasks/{task.pk}/backfill", period)

    assert (counted.status_code, counted.json()) == (200, {"slots": 3, "revived": 0, "created": 3, "kept": 0})
    assert (done.status_code, done.json()) == (202, counted.json())
    assert len(rows(task)) == 3


def test_a_hundred_slots_take_as_many_queries_as_one(task, django_assert_max_num_queries):
    TaskExecution.objects.bulk_create(
        TaskExecution(task=task, scheduled_for=NOON + n * HOUR, status="missed") for n in range(100)
    )

    with django_assert_max_num_queries(14):
        run(task, range(200))


@pytest.mark.django_db(transaction=True)
def test_a_backfill_waits_for_no_run_that_is_ending(task):
    """A worker that ends a run holds its row and then wants the task's, which the backfill holds."""
    going = TaskExecutionFactory(task=task, scheduled_for=NOON, status="running")

    def give_up_soon_and_run() -> Backfill:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '3s'")
        return run(task, range(2))

    with transaction.atomic():
        TaskExecution.objects.select_for_update(no_key=True).get(pk=going.pk)
        assert together([give_up_soon_and_run]) == [Backfill(slots=2, revived=0, created=1, kept=1)]
