"""Cron slots against brute force: 10,000 random expressions and their next 50, 100 expressions over a whole year."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from random import Random
from zoneinfo import ZoneInfo

import pytest

from automation_lab.core.exceptions import Invalid
from tasks.scheduling import schedules
from tasks.tests import random_cron
from tasks.tests.cron_oracle import Oracle, only_offset

# Apia left out a day in 2011; Lord Howe shifts by half an hour, Troll by two hours; Casablanca changes four times a
# year by the moon; Santiago and Havana change at midnight; Chatham is 45 minutes off.
ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca",
    "America/Santiago", "America/Havana", "Antarctica/Troll", "Pacific/Chatham", "UTC",
)  # fmt: skip
YEARS = (2010, 2011, 2012, 2026, 2027)
EXPRESSIONS_PER_ZONE = 1000
EXPRESSIONS_PER_YEAR = 10


@cache
def days_of_change(zone: ZoneInfo) -> list[date]:
    days = [date(year, 1, 1) + timedelta(days=n) for year in YEARS for n in range(365)]
    return [day for day in days if only_offset(day, zone) is None]


def random_start(random: Random, zone: ZoneInfo) -> datetime:
    """Half of the time within the two days before clocks change."""
    changes = days_of_change(zone)
    if changes and random.random() < 0.5:
        change = random.choice(changes)
        return datetime(change.year, change.month, change.day) - timedelta(seconds=random.randrange(2 * 86_400))
    return datetime(random.choice(YEARS), 1, 1) + timedelta(seconds=random.randrange(365 * 86_400))


def slots(text: str, zone: ZoneInfo, after: datetime, until: datetime, count: int) -> list[datetime]:
    try:
        schedule = schedules.parse(text, zone=zone)
    except Invalid as error:
        assert error.code == "never_fires", text
        return []
    assert schedule is not None
    found = schedule.slots_between(after.replace(tzinfo=UTC), until.replace(tzinfo=UTC), limit=count)
    return [slot.replace(tzinfo=None) for slot in found]


@pytest.mark.parametrize("name", ZONES)
def test_the_next_50_slots_of_random_expressions_are_those_of_brute_force(name):
    random, zone = Random(f"next 50 {name}"), ZoneInfo(name)

    for _ in range(EXPRESSIONS_PER_ZONE):
        text, after = random_cron.expression(random), random_start(random, zone)
        until = after.replace(year=after.year + 6, day=1)

        assert slots(text, zone, after, until, 50) == Oracle(text, zone).next_runs(after, 50, until), (text, after)


@pytest.mark.parametrize("name", ZONES)
def test_all_slots_of_a_year_are_those_of_brute_force(name):
    random, zone = Random(f"year {name}"), ZoneInfo(name)
    after = datetime(2011 if name == "Pacific/Apia" else 2026, 3, 1)
    until = after.replace(year=after.year + 1)

    for _ in range(EXPRESSIONS_PER_YEAR):
        text = random_cron.expression(random)
        expected = Oracle(text, zone).next_runs(after, 1_000_000, until)

        assert slots(text, zone, after, until, 1_000_000) == expected, text
