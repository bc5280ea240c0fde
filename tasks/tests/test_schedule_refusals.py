from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from automation_lab.core.exceptions import Invalid
from tasks.scheduling import schedules

BERLIN = ZoneInfo("Europe/Berlin")

NEVER = "This schedule never fires: "
REFUSED = [
    ("0 0 31 2 *", NEVER + "no date matches"),
    ("0 0 30 2 *", NEVER + "no date matches"),
    ("0 0 31 4,6,9,11 *", NEVER + "no date matches"),
    ("* * */20 * 1L", NEVER + "no date matches"),
    ("60 * * * *", "Minute: '60' is not accepted. Write 0-59"),
    ("0 24 * * *", "Hour: '24' is not accepted. Write 0-23"),
    ("0 0 0 * *", "Day of month: '0' is not accepted. Write 1-31"),
    ("0 0 * 13 *", "Month: '13' is not accepted. Write 1-12 or JAN-DEC"),
    ("0 0 * * 8", "Day of week: '8' is not accepted. Write 0-7"),
    ("60 0 0 * * *", "Second: '60' is not accepted"),
    ("*/0 * * * *", "Minute: '*/0' is not accepted"),
    ("1,,2 * * * *", "Minute: '' is not accepted"),
    ("*/90 * * * *", "Minute: the step 90 is longer than the field"),
    ("0 22-2 * * *", "two parts: 22-23,0-2"),
    ("0 0 * * SAT-MON", "two parts: SAT,SUN-MON"),
    ("0 0 * * MONDAY", "Write MON."),
    ("0 0 * JANUARY *", "Write JAN."),
    ("0 0 * * L5", "written 5L"),
    ("R * * * *", "Random (R) and hashed (H) times are not supported"),
    ("R(0-5) * * * *", "set jitter_seconds"),
    ("H H * * *", "Random (R) and hashed (H) times are not supported"),
    ("0 0 15W * *", "LW is the last weekday"),
    ("0 0 ? * MON", "Write * instead"),
    ("* * * *", "this has 4"),
    ("0 0 9 * * ? 2030", "A year field is not supported"),
    ("* * * * * * * *", "this has 8"),
    ("tomorrow", "Write a cron expression"),
    ("daily", "Did you mean @daily?"),
    ("@dayly", 'did you mean "@daily"?'),
    ("@reboot", "no single machine"),
    ("@every 5", "Write a number and a unit"),
    ("0", "at least 1 second"),
    ("0.5", "at least 1 second"),
    ("500ms", "at least 1 second"),
    ("PT0S", "at least 1 second"),
    ("1.5", "whole number of seconds"),
    ("3661 days", "at most ten years"),
    ("9" * 120, "at most ten years"),
    ("-5m", "is not an interval"),
    ("every 5", "Write a number and a unit"),
    ("every monday", "0 9 * * MON for every Monday"),
    ("every day at 9", "0 9 * * MON for every Monday"),
    ("5 parsecs", "write seconds, minutes, hours, days or weeks"),
    ("1h 2h", "stands in this interval twice"),
    ("1 month", "Months and years have no fixed length"),
    ("P1M", "Minutes stand after a T: PT15M"),
    ("P1Y", "Months and years have no fixed length"),
    ("PT", "is not an ISO 8601 duration"),
    ("P1DT", "is not an ISO 8601 duration"),
    ("2030-08-01", "Write date and time"),
    ("2030-02-30T00:00", "is not an instant: day is out of range"),
    ("2030-08-01T24:00", "is not an instant: hour must be"),
    ("2030-12-31T23:59:60Z", "a leap second"),
    ("10000-01-01T00:00", "year is outside 0001 to 9999"),
    ("9999-12-31T23:59-12:00", "is not an instant: date value out of range"),
    ("9999-12-31T23:59:59Z", NEVER + "the instant is out of reach"),
    ("1815-12-10T09:00", NEVER + "the instant is out of reach"),
    ("x" * 121, "at most 120 characters; this has 121"),
    ("\u0665 * * * *", "(U+0665) cannot stand in a schedule"),
    ("\uff15 * * * *", "(U+FF15) cannot stand in a schedule"),
    ("0 9 * *\u00a0*", "(U+00A0) cannot stand in a schedule"),
    ("0 9 *\n* *", "(U+000A) cannot stand in a schedule"),
    ("0 9 * * *\x00", "(U+0000) cannot stand in a schedule"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_a_schedule_that_cannot_be_meant_is_refused_with_the_reason(text, reason):
    with pytest.raises(Invalid) as refused:
        schedules.parse(text, zone=BERLIN)

    assert refused.value.field == "schedule"
    assert reason in refused.value.message


@pytest.mark.parametrize("text", ["0 9 1 1 *", "2030-08-01T09:00", "every 10 days"])
def test_a_schedule_without_a_slot_between_start_and_end_is_refused(text):
    window = {
        "start_at": datetime(2027, 3, 1, tzinfo=UTC),
        "end_at": datetime(2027, 3, 5, tzinfo=UTC),
        "anchor_at": datetime(2027, 2, 25, tzinfo=UTC),
    }

    with pytest.raises(Invalid, match=r"never fires: no (run|instant) lies between start_at and end_at") as refused:
        schedules.parse(text, zone=BERLIN, **window)

    assert refused.value.code == "never_fires"


@pytest.mark.parametrize("instant", [datetime.min, datetime.max])
@pytest.mark.parametrize("name", ["anchor_at", "start_at", "end_at"])
def test_an_instant_at_the_end_of_the_calendar_is_refused(name, instant):
    """It could be shown in no other zone, and the page of all tasks shows it in the task's."""
    with pytest.raises(Invalid, match=f"{name} must lie in the years 1900 to 9998.") as refused:
        schedules.parse("every 15 minutes", zone=ZoneInfo("Pacific/Kiritimati"), **{name: instant.replace(tzinfo=UTC)})

    assert refused.value.field == name
