"""Due schedules become rows: each slot once, whatever the clock, other tickers and editors do."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from automation_lab.core import clock
from automation_lab.core.execution import runner
from automation_lab.core.execution.tests.helpers import KIND, add_worker, jobs, take, together
from tasks import services
from tasks.models import ScheduledTask, TaskExecution
from tasks.scheduling import ticking
from tasks.tests.factories import ScheduledTaskFactory, TaskExecutionFactory

pytestmark = pytest.mark.django_db

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def task(schedule: str = "* * * * *", **fields: Any) -> ScheduledTask:
    """A task that is due at NOON."""
    return ScheduledTaskFactory(**{"schedule": schedule, "next_run_at": NOON, "anchor_at": NOON, **fields})


def rows(task: ScheduledTask) -> list[tuple[datetime, str, int]]:
    found = task.executions.order_by("scheduled_for")
    return list(found.values_list("scheduled_for", "status", "count"))


def statuses(task: ScheduledTask) -> list[str]:
    return list(task.executions.order_by("scheduled_for").values_list("status", flat=True))


def next_run(task: ScheduledTask) -> datetime | None:
    task.refresh_from_db()
    return task.next_run_at


# --- one slot ---------------------------------------------------------------------------------------------------------


def test_a_due_slot_becomes_a_pending_run_with_its_job_and_the_schedule_moves_on():
    report = task(priority=3)

    ticking.tick(NOON)

    run = report.executions.get()
    assert (run.status, run.trigger, run.scheduled_for, run.due_at) == ("pending", "schedule", NOON, NOON)
    assert [(job["args"]["execution_id"], job["priority"]) for job in jobs()] == [(run.pk, 3)]
    assert run.job_id == jobs()[0]["id"]
    assert next_run(report) == NOON + MINUTE


@pytest.mark.parametrize("early", [SECOND, SECOND / 1000])
def test_a_tick_before_the_slot_does_nothing_and_returns_the_slot(early):
    report = task()

    assert ticking.tick(NOON - early) == NOON
    assert rows(report) == []


def test_a_second_tick_at_the_same_instant_does_nothing():
    report = task()

    ticking.tick(NOON)
    ticking.tick(NOON)

    assert rows(report) == [(NOON, "pending", 1)]


def test_the_earliest_next_slot_of_all_tasks_is_returned():
    task("@hourly")
    task("every 10 seconds")

    assert ticking.tick(NOON) == NOON + 10 * SECOND


def test_without_any_schedule_there_is_nothing_to_wait_for():
    ScheduledTaskFactory(schedule="")

    assert ticking.tick(NOON) is None


def test_an_end_beyond_the_calendar_is_none():
    report = task(end_at=datetime(9999, 12, 31, tzinfo=UTC))

    ticking.tick(NOON)

    report.refresh_from_db()
    assert (len(rows(report)), report.schedule_error) == (1, "")


@pytest.mark.parametrize("fields", [{"enabled": False}, {"archived_at": NOON}, {"next_run_at": None}])
def test_a_task_that_is_switched_off_archived_or_over_does_not_fire(fields):
    report = task(**fields)

    ticking.tick(NOON)

    assert rows(report) == []


def test_a_single_instant_fires_once_and_is_over():
    report = task("2027-03-01T12:00:00Z")

    ticking.tick(NOON + SECOND)

    assert rows(report) == [(NOON, "pending", 1)]
    assert next_run(report) is None


def test_nothing_fires_after_the_end():
    report = task("* * * * *", end_at=NOON + MINUTE, overlap="allow")

    ticking.tick(NOON + 3 * MINUTE)

    assert [slot for slot, *_ in rows(report)] == [NOON, NOON + MINUTE]
    assert next_run(report) is None


def test_jitter_delays_every_slot_of_a_task_by_the_same_time():
    report = task("* * * * *", jitter_seconds=30)
    first = ticking.next_run_at(report, now=NOON)
    ScheduledTask.objects.filter(pk=report.pk).update(next_run_at=first)

    ticking.tick(first)

    assert NOON <= first < NOON + MINUTE + 30 * SECOND
    assert rows(report) == [(first, "pending", 1)]
    assert next_run(report) == first + MINUTE


def test_an_interval_does_not_drift_when_the_ticker_is_late():
    report = task("every 10 seconds")

    ticking.tick(NOON + 3 * SECOND)

    assert next_run(report) == NOON + 10 * SECOND


# --- late -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misfire", "found"),
    [
        ("run_once", [(0, "missed", 8), (8, "pending", 1), (9, "pending", 1), (10, "pending", 1)]),
        ("skip", [(0, "missed", 9), (9, "pending", 1), (10, "pending", 1)]),
        ("run_all", [(0, "missed", 7), *((n, "pending", 1) for n in range(7, 11))]),
    ],
)
def test_late_slots_follow_the_misfire_rule_and_missed_ones_are_one_row_with_a_count(misfire, found):
    report = task(misfire=misfire, misfire_limit=2, overlap="allow")

    ticking.tick(NOON + 10 * MINUTE)

    assert rows(report) == [(NOON + n * MINUTE, status, count) for n, status, count in found]
    assert next_run(report) == NOON + 11 * MINUTE


def test_a_missed_row_says_why_and_is_finished():
    report = task(misfire="skip", grace_seconds=30)

    ticking.tick(NOON + 50 * SECOND)

    missed = report.executions.get()
    assert (missed.status, missed.error_message) == ("missed", "Missed: more than 30 s late.")
    assert missed.finished_at == NOON + 50 * SECOND
    assert jobs() == []


def test_a_long_outage_of_a_one_second_schedule_loses_no_slot():
    report = task("1s", misfire="run_once", grace_seconds=5, overlap="allow")

    ticking.tick(NOON + 6 * HOUR)

    counts = {status: sum(count for _, name, count in rows(report) if name == status) for status in statuses(report)}
    assert counts == {"missed": 6 * 3600 - 6, "pending": 7}
    assert next_run(report) == NOON + 6 * HOUR + SECOND


def test_a_run_that_must_not_be_late_expires():
    strict, patient = task(misfire="skip", grace_seconds=30), task()

    ticking.tick(NOON + 2 * SECOND)

    assert strict.executions.get().expires_at == NOON + 32 * SECOND
    assert patient.executions.get().expires_at is None


def test_the_clock_set_forward_fires_once_for_all_that_it_passed_over():
    report = task("*/5 * * * *")
    ticking.tick(NOON)
    TaskExecution.objects.update(status="success", due_at=None)

    ticking.tick(NOON + 6 * HOUR)
    ticking.tick(NOON + 6 * HOUR + SECOND)

    assert rows(report) == [
        (NOON, "success", 1),
        (NOON + 5 * MINUTE, "missed", 70),
        (NOON + 6 * HOUR - 5 * MINUTE, "pending", 1),
        (NOON + 6 * HOUR, "skipped", 1),
    ]


def test_the_clock_set_back_fires_no_slot_again():
    report = task("*/5 * * * *", overlap="allow")
    ticking.tick(NOON)

    for minute in range(-60, 6):
        ticking.tick(NOON + minute * MINUTE)

    assert rows(report) == [(NOON, "pending", 1), (NOON + 5 * MINUTE, "pending", 1)]


def test_the_clock_set_back_before_an_edit_fires_no_slot_again():
    """The edit counts from the clock as it is now, so the same slots come up again."""
    report = task("*/5 * * * *", overlap="allow")
    ticking.tick(NOON)
    ScheduledTask.objects.update(next_run_at=NOON - 10 * MINUTE)

    for minute in range(-12, 6):
        ticking.tick(NOON + minute * MINUTE)

    assert [slot for slot, *_ in rows(report)] == [NOON + n * MINUTE for n in (-10, -5, 0, 5)]


# --- overlap ----------------------------------------------------------------------------------------------------------


def running(task: ScheduledTask) -> TaskExecution:
    run = TaskExecutionFactory(task=task, due_at=clock.database_now())
    take(run, worker=add_worker())
    return run


def test_skip_leaves_out_a_slot_while_a_run_goes_on_and_says_which():
    report = task(overlap="skip")
    earlier = running(report)

    ticking.tick(NOON)

    skipped = report.executions.get(scheduled_for=NOON)
    assert (skipped.status, skipped.finished_at) == ("skipped", NOON)
    assert skipped.error_message == f"Skipped: run {earlier.pk} is still going on."


def test_skip_fires_again_after_the_run_has_ended():
    report = task(overlap="skip")
    run = running(report)
    ticking.tick(NOON)
    TaskExecution.objects.filter(pk=run.pk).update(status="success", worker=None)

    ticking.tick(NOON + MINUTE)

    assert statuses(report)[:2] == ["skipped", "pending"]


def test_queue_one_lets_one_run_wait_and_skips_the_others():
    report = task(overlap="queue_one")
    running(report)

    for minute in range(3):
        ticking.tick(NOON + minute * MINUTE)

    assert [status for _, status, _ in rows(report) if _] == ["pending", "skipped", "skipped", "running"]
    assert "is waiting already" in report.executions.get(scheduled_for=NOON + MINUTE).error_message


def test_queue_all_lets_every_run_wait_one_at_a_time():
    report = task(overlap="queue_all")
    running(report)

    ticking.tick(NOON + 2 * MINUTE)

    waiting = report.executions.filter(status="pending")
    assert waiting.count() == 3
    assert {(*run.concurrency_keys, *run.concurrency_limits) for run in waiting} == {(f"task:{report.pk}", 1)}


def test_cancel_previous_asks_the_running_one_to_stop_and_ends_the_waiting_one():
    report = task(overlap="cancel_previous")
    busy = running(report)
    ticking.tick(NOON)

    ticking.tick(NOON + MINUTE)

    busy.refresh_from_db()
    assert (busy.status, busy.cancel_requested_at) == ("running", NOON)
    assert rows(report)[:2] == [(NOON, "cancelled", 1), (NOON + MINUTE, "pending", 1)]
    assert report.executions.get(scheduled_for=NOON).error_message == "Cancelled: the next run of its task was due."


def test_cancel_previous_runs_only_the_last_of_several_slots_due_at_once():
    report = task(overlap="cancel_previous")

    ticking.tick(NOON + MINUTE)

    assert statuses(report) == ["skipped", "pending"]
    assert report.executions.get(scheduled_for=NOON).error_message == (
        "Skipped: a later slot was due at the same time."
    )


def test_allow_starts_a_run_beside_the_one_that_goes_on():
    report = task(overlap="allow")
    running(report)

    ticking.tick(NOON)

    assert report.executions.get(scheduled_for=NOON).status == "pending"


def test_max_concurrency_limits_a_task_that_allows_overlap():
    report = task(overlap="allow", max_concurrency=3)

    ticking.tick(NOON)

    assert report.executions.get().concurrency_limits == [3]


# --- what stops a schedule --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schedule": "0 0 30 2 *"}, "never fires"),
        ({"schedule": "nonsense"}, "is not a schedule"),
        ({"timezone": "Mars/Base"}, "Mars/Base"),
        ({"misfire": "unheard"}, "unheard"),
    ],
)
def test_a_schedule_that_cannot_be_evaluated_is_set_aside_and_stops_no_other(fields, reason):
    broken, fine = task(**fields), task()

    ticking.tick(NOON)
    ticking.tick(NOON + MINUTE)

    broken.refresh_from_db()
    assert broken.next_run_at is None
    assert broken.schedule_error.startswith("The schedule cannot be evaluated: ")
    assert reason in broken.schedule_error
    assert rows(broken) == []
    assert len(rows(fine)) == 2


def test_an_edit_takes_up_a_schedule_that_was_set_aside():
    broken = task(timezone="Mars/Base")
    ticking.tick(NOON)

    services.update_task(task=broken, changes={"timezone": "UTC", "schedule": "* * * * *"})

    broken.refresh_from_db()
    assert (broken.schedule_error, broken.next_run_at is None) == ("", False)


@pytest.fixture
def half_past(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The instant at which the clock stands: away from full hours, within whose grace a slot would still run."""
    instant = NOON + 30 * MINUTE + 10 * SECOND
    monkeypatch.setattr(clock, "database_now", lambda: instant)
    return instant


def due_ago(seconds: float, **fields: Any) -> ScheduledTask:
    """A task whose slot of every minute was due so long ago, by the clock."""
    slot = clock.database_now().replace(second=0, microsecond=0)
    return task(**{"next_run_at": slot - seconds * SECOND, **fields})


def test_pausing_and_resuming_fires_no_slot_of_the_pause():
    report = services.create_task(
        fields={"name": "report", "task_type": "api_call", "schedule": "1s", "config": {"url": "https://a.example"}}
    )
    services.pause_task(task=report)
    before = TaskExecution.objects.count()
    ticking.tick(clock.database_now() + HOUR)

    services.resume_task(task=report)

    assert TaskExecution.objects.count() == before
    assert next_run(report) > clock.database_now() - SECOND


@pytest.mark.usefixtures("half_past")
def test_pausing_after_an_outage_runs_nothing_but_says_what_was_missed():
    report = due_ago(3 * 3600, schedule="0 * * * *", grace_seconds=60)
    slot = next_run(report)

    services.pause_task(task=report)

    assert {status for _, status, _ in rows(report)} == {"missed"}
    assert rows(report)[0][0] == slot
    assert next_run(report) is None


def test_an_edit_of_the_schedule_after_an_outage_runs_nothing_of_the_past(half_past):
    report = due_ago(3 * 3600, schedule="0 * * * *", grace_seconds=60)

    services.update_task(task=report, changes={"schedule": "30 4 1 1 *"})

    assert {status for _, status, _ in rows(report)} == {"missed"}
    assert next_run(report) > half_past


@pytest.mark.parametrize("changes", [{"description": "better words"}, {"schedule": "0 * * * *", "enabled": True}])
@pytest.mark.usefixtures("half_past")
def test_an_edit_that_leaves_the_schedule_as_it_is_leaves_the_late_slot_to_the_ticker(changes):
    report = due_ago(3 * 3600, schedule="0 * * * *")
    slot = next_run(report)

    services.update_task(task=report, changes=changes)

    assert rows(report) == []
    assert next_run(report) == slot


@pytest.mark.usefixtures("half_past")
def test_a_slot_that_is_due_at_the_edit_still_runs():
    report = due_ago(0, schedule="* * * * *", grace_seconds=90)
    slot = next_run(report)

    services.update_task(task=report, changes={"schedule": "30 4 1 1 *"})

    assert rows(report) == [(slot, "pending", 1)]


# --- several at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", ["skip", "queue_all", "allow"])
def test_a_tick_asks_as_often_for_fifty_tasks_as_for_one(overlap):
    task(overlap=overlap)
    with CaptureQueriesContext(connection) as for_one:
        ticking.tick(NOON)
    tasks = [task(overlap=overlap, next_run_at=NOON + HOUR) for _ in range(50)]
    TaskExecution.objects.update(status="success", due_at=None)

    with CaptureQueriesContext(connection) as for_many:
        ticking.tick(NOON + HOUR)

    assert all(rows(each) == [(NOON + HOUR, "pending", 1)] for each in tasks)
    assert len(for_many) <= len(for_one) + 1  # the first task has missed slots, which are one insert more
    assert len(for_one) <= 12


def test_a_tick_reads_no_outputs():
    """One may have 256 KB, and a batch 200 tasks, every second."""
    report = task()

    with CaptureQueriesContext(connection) as queries:
        ticking.tick(NOON)

    assert statuses(report) == ["pending"]
    assert not any('"last_output"' in query["sql"] for query in queries)


def test_more_than_one_batch_is_recorded_in_one_tick(monkeypatch):
    monkeypatch.setattr(ticking, "BATCH", 3)
    tasks = [task() for _ in range(8)]

    ticking.tick(NOON)

    assert [len(rows(each)) for each in tasks] == [1] * 8


@pytest.mark.django_db(transaction=True)
def test_two_tickers_at_the_same_instant_write_each_slot_once():
    tasks = [task("1s", grace_seconds=120, overlap="allow") for _ in range(20)]

    results = together([lambda second=second: ticking.tick(NOON + second * SECOND) for second in (0, 0, 1, 1, 2, 2)])

    assert not [result for result in results if isinstance(result, Exception)]
    ticking.tick(NOON + 2 * SECOND)
    assert [[slot for slot, *_ in rows(each)] for each in tasks] == [[NOON + n * SECOND for n in range(3)]] * 20


@pytest.mark.django_db(transaction=True)
def test_a_task_that_somebody_else_holds_is_looked_at_again_soon():
    report = task()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            ScheduledTask.objects.select_for_update().get(pk=report.pk)
            held.set()
            release.wait(10)

    def look() -> datetime | None:
        held.wait(10)
        try:
            return ticking.tick(NOON)
        finally:
            release.set()

    _, again_at = together([hold, look])

    assert rows(report) == []
    assert NOON < again_at <= NOON + SECOND


@pytest.mark.django_db(transaction=True)
def test_an_edit_in_the_same_second_as_its_slot_neither_swallows_nor_doubles_it(monkeypatch):
    """200 slots of a one-second schedule; around each a ticker and an edit race, at instants of their own."""
    report = task("1s", grace_seconds=60, overlap="allow", next_run_at=NOON)
    draw = random.Random(5)
    instants = [
        (NOON + n * SECOND + draw.random() * SECOND, NOON + n * SECOND + draw.random() * SECOND) for n in range(200)
    ]
    both = threading.Barrier(2)

    def edit() -> None:
        for number, (edited_at, _) in enumerate(instants):
            monkeypatch.setattr(services.clock, "database_now", lambda edited_at=edited_at: edited_at)
            both.wait(10)
            services.update_task(task=report, changes={"schedule": ["* * * * * *", "every 1 second"][number % 2]})
            both.wait(10)

    def tick() -> None:
        for _, ticked_at in instants:
            both.wait(10)
            ticking.tick(ticked_at)
            both.wait(10)

    results = together([edit, tick])

    assert results == [None, None]
    ticking.tick(NOON + 200 * SECOND)
    assert rows(report) == [(NOON + n * SECOND, "pending", 1) for n in range(201)]
    report.refresh_from_db()
    assert report.version == 201


@pytest.mark.django_db(transaction=True)
def test_cancelling_the_previous_run_while_it_ends_does_not_deadlock():
    """Runs end in one thread while the ticker of another cancels them for the next slot."""
    report = task("1s", overlap="cancel_previous", grace_seconds=600, config={"url": "http://127.0.0.1:9/refused"})
    worker = add_worker()
    ticked = threading.Event()

    def end_runs() -> None:
        while not ticked.is_set():
            for pk in TaskExecution.objects.filter(status="pending", worker=None).values_list("pk", flat=True):
                runner.run(KIND, pk, worker=worker)

    def tick() -> None:
        try:
            for second in range(30):
                ticking.tick(NOON + second * SECOND)
        finally:
            ticked.set()

    results = together([end_runs, tick])

    assert results == [None, None]
    assert len(rows(report)) == 30
    assert not TaskExecution.objects.filter(status="running").exists()
