"""Which of the slots that are due run, and which are missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tasks.scheduling import schedules, slots
from tasks.scheduling.slots import Missed, SlotPlan

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def plan(
    schedule: str = "* * * * *", *, late: timedelta, grace: float = 60, misfire: str = "run_once", limit: int = 10
) -> SlotPlan:
    """The plan for the slots since NOON, looked at `late` after it."""
    parsed = schedules.parse(schedule, zone=ZoneInfo("UTC"))
    return slots.plan(parsed, due_from=NOON, now=NOON + late, grace_seconds=grace, misfire=misfire, misfire_limit=limit)


def test_a_slot_that_is_due_now_runs_and_the_next_one_follows():
    assert plan(late=timedelta()) == SlotPlan(runs=[NOON], next_at=NOON + MINUTE)


@pytest.mark.parametrize("misfire", ["run_once", "skip", "run_all"])
def test_slots_within_the_grace_run_each_whatever_the_rule(misfire):
    found = plan(late=3 * MINUTE, grace=180, misfire=misfire)

    assert found.runs == [NOON + n * MINUTE for n in range(4)]
    assert found.missed is None


@pytest.mark.parametrize(
    ("misfire", "runs", "missed"),
    [
        ("run_once", [8, 9, 10], Missed(NOON, 8)),
        ("skip", [9, 10], Missed(NOON, 9)),
        ("run_all", [6, 7, 8, 9, 10], Missed(NOON, 6)),
    ],
)
def test_older_slots_follow_the_rule_and_the_rest_is_missed(misfire, runs, missed):
    found = plan(late=10 * MINUTE, grace=60, misfire=misfire, limit=3)

    assert found.runs == [NOON + n * MINUTE for n in runs]
    assert found.missed == missed


def test_without_grace_only_a_slot_of_this_very_instant_is_in_time():
    assert plan(late=MINUTE, grace=0, misfire="skip") == SlotPlan(
        runs=[NOON + MINUTE], missed=Missed(NOON, 1), next_at=NOON + 2 * MINUTE
    )


def test_a_slot_exactly_as_old_as_the_grace_is_in_time():
    assert plan("2027-03-01T12:00:00Z", late=timedelta(seconds=60), misfire="skip").runs == [NOON]


def test_a_single_missed_slot_that_runs_leaves_none_missed():
    assert plan("@daily", late=timedelta(hours=5)) == SlotPlan(runs=[NOON], next_at=datetime(2027, 3, 2, tzinfo=UTC))


def test_run_all_with_few_slots_runs_them_all():
    found = plan("0 * * * *", late=timedelta(hours=3), misfire="run_all")

    assert (len(found.runs), found.missed) == (4, None)


def test_nothing_follows_the_only_instant():
    assert plan("2027-03-01T12:00:00Z", late=timedelta(hours=2)) == SlotPlan(runs=[NOON], next_at=None)


def whole(schedule: str, *, late: timedelta, **options) -> tuple[list[datetime], int, int]:
    """All rounds together: the runs, the number missed, and the rounds."""
    parsed = schedules.parse(schedule, zone=ZoneInfo("UTC"))
    due_from, runs, missed, rounds = NOON, [], 0, 0
    while due_from is not None and due_from <= NOON + late:
        found = slots.plan(parsed, due_from=due_from, now=NOON + late, **options)
        runs += found.runs
        missed += found.missed.count if found.missed else 0
        due_from, rounds = found.next_at, rounds + 1
    return runs, missed, rounds


@pytest.mark.parametrize(("misfire", "made_up"), [("run_once", 1), ("skip", 0), ("run_all", 5)])
def test_no_slot_of_a_long_outage_is_lost(misfire, made_up):
    late = timedelta(hours=6)

    runs, missed, rounds = whole("* * * * * *", late=late, grace_seconds=60, misfire=misfire, misfire_limit=5)

    assert len(runs) + missed == 6 * 3600 + 1
    assert runs == [NOON + late - n * SECOND for n in range(60 + made_up, -1, -1)]
    assert rounds == 3


def test_a_grace_of_hours_gives_each_slot_its_run_in_several_rounds():
    runs, missed, rounds = whole(
        "1s", late=timedelta(hours=4), grace_seconds=86_400, misfire="run_once", misfire_limit=1
    )

    assert runs == [NOON + n * SECOND for n in range(4 * 3600 + 1)]
    assert (missed, rounds) == (0, 15)


def test_a_grace_within_a_long_outage_cuts_between_missed_and_run():
    runs, missed, _ = whole("1s", late=timedelta(hours=4), grace_seconds=3 * 3600, misfire="skip", misfire_limit=1)

    assert missed == 3600
    assert runs == [NOON + n * SECOND for n in range(3600, 4 * 3600 + 1)]


def test_more_runs_than_one_round_takes_are_all_made_up():
    runs, missed, rounds = whole("1s", late=timedelta(hours=4), grace_seconds=0, misfire="run_all", misfire_limit=1_000)

    assert runs == [NOON + timedelta(hours=4) - n * SECOND for n in range(1_000, -1, -1)]
    assert missed == 4 * 3600 - 1_000
    assert rounds == 3
