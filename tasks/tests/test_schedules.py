from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automation_lab.core.exceptions import Invalid
from tasks.scheduling import schedules
from tasks.scheduling.schedules import Schedule
from tasks.tests.cron_oracle import Oracle

BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def parse(text: str, zone: ZoneInfo = BERLIN, **options) -> Schedule:
    schedule = schedules.parse(text, zone=zone, **options)
    assert schedule is not None
    return schedule


def local_slots(text: str, zone: str, after: str, count: int) -> list[str]:
    """The next slots as `day hour:minute offset` of `zone`."""
    runs = parse(text, ZoneInfo(zone)).preview(datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone)), count)
    return [run.at_local.strftime("%d %H:%M %z") for run in runs]


# What clocks do: Berlin and New York one hour, Lord Howe half an hour, Apia left out 30 December 2011, Casablanca back
# for the month of Ramadan. Fixed times run once; times with a star run whenever the clock shows them.
CHANGES = [
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29 03:00 +0200", "30 02:30 +0200"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["25 02:30 +0200", "26 02:30 +0100"]),
    ("0 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29 03:00 +0200", "30 02:30 +0200"]),
    ("0 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["25 02:30 +0200", "26 02:30 +0100"]),
    ("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["29 03:00 +0200", "29 03:30 +0200", "30 02:00 +0200"]),
    ("30 * * * *", "Europe/Berlin", "2026-03-29T01:00", ["29 01:30 +0100", "29 03:30 +0200", "29 04:30 +0200"]),
    ("30 * * * *", "Europe/Berlin", "2026-10-25T02:00", ["25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"]),
    ("*/30 2 25 10 *", "Europe/Berlin", "2026-10-25T02:00", ["25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100"]),
    ("30 */2 * * *", "Europe/Berlin", "2026-03-29T00:00", ["29 00:30 +0100", "29 04:30 +0200", "29 06:30 +0200"]),
    ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["08 03:00 -0400", "09 02:30 -0400"]),
    ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["01 01:30 -0400", "02 01:30 -0500"]),
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["04 02:30 +1100", "05 02:15 +1100"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["05 01:45 +1100", "06 01:45 +1030"]),
    ("*/30 2 * * *", "Australia/Lord_Howe", "2026-04-05T01:00", ["05 02:00 +1030", "05 02:30 +1030", "06 02:00 +1030"]),
    ("*/30 1 * * *", "Australia/Lord_Howe", "2026-04-05T01:00", ["05 01:30 +1100", "05 01:30 +1030", "06 01:00 +1030"]),
    ("*/30 3 * * *", "Australia/Lord_Howe", "2026-10-04T01:00", ["04 03:00 +1100", "04 03:30 +1100", "05 03:00 +1100"]),
    ("0 9 * * *", "Pacific/Apia", "2011-12-29T08:00", ["29 09:00 -1000", "31 00:00 +1400", "31 09:00 +1400"]),
    ("0 0 * * *", "Pacific/Apia", "2011-12-28T08:00", ["29 00:00 -1000", "31 00:00 +1400", "01 00:00 +1400"]),
    ("0 */12 * * *", "Pacific/Apia", "2011-12-29T08:00", ["29 12:00 -1000", "31 00:00 +1400", "31 12:00 +1400"]),
    ("0 9 * * FRI", "Pacific/Apia", "2011-12-23T12:00", ["31 00:00 +1400", "06 09:00 +1400"]),
    ("30 2 * * *", "Africa/Casablanca", "2026-02-14T12:00", ["15 02:30 +0100", "16 02:30 +0000"]),
    ("30 2 * * *", "Africa/Casablanca", "2026-03-21T12:00", ["22 03:00 +0100", "23 02:30 +0100"]),
    ("*/20 0 * * *", "America/Santiago", "2026-09-05T00:30", ["05 00:40 -0400", "07 00:00 -0300", "07 00:20 -0300"]),
    ("15 0 * * *", "America/Santiago", "2026-09-05T12:00", ["06 01:00 -0300", "07 00:15 -0300"]),
]


@pytest.mark.parametrize(("text", "zone", "after", "expected"), CHANGES)
def test_slots_around_a_change_of_clocks(text, zone, after, expected):
    assert local_slots(text, zone, after, len(expected)) == expected


@pytest.mark.parametrize(("text", "zone", "after", "expected"), CHANGES)
def test_the_table_of_clock_changes_is_what_brute_force_finds(text, zone, after, expected):
    start = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)
    found = Oracle(text, ZoneInfo(zone)).next_runs(start, len(expected), start + timedelta(days=20))

    shown = [run.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z") for run in found]

    assert shown == expected


def test_a_fixed_time_does_not_run_again_while_its_hour_is_repeated():
    in_the_second_pass = utc("2026-10-25T01:10")

    assert parse("30 2 * * *").next_after(in_the_second_pass) == utc("2026-10-26T01:30")


def test_a_run_that_stands_for_a_missing_time_is_not_found_twice():
    schedule = parse("30 2 * * *")
    at_the_change = utc("2026-03-29T01:00")

    assert schedule.next_after(at_the_change - timedelta(microseconds=1)) == at_the_change
    assert schedule.next_after(at_the_change) == utc("2026-03-30T00:30")


def test_a_slot_is_strictly_later_than_the_instant_asked_for():
    schedule = parse("* * * * * *")

    assert schedule.next_after(utc("2026-01-01T00:00:00")) == utc("2026-01-01T00:00:01")
    assert schedule.next_after(utc("2026-01-01T00:00:00.999999")) == utc("2026-01-01T00:00:01")


def test_any_time_zone_of_the_instant_gives_the_same_slot():
    schedule = parse("0 9 * * *")
    instant = utc("2026-01-01T00:00")

    assert schedule.next_after(instant.astimezone(ZoneInfo("Asia/Tokyo"))) == schedule.next_after(instant)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@Annually", "0 0 1 1 *"),
        (" 0   9\t* * mon-fri ", "0 9 * * MON-FRI"),
        ("0 0 9 * * *", "0 9 * * *"),
        ("5-5/2 * * * *", "5 * * * *"),
        ("@every 5m", "PT300S"),
        ("every 15 minutes", "PT900S"),
        ("every minute", "PT60S"),
        ("Every 2 hours and 30 minutes", "PT9000S"),
        ("15m", "PT900S"),
        ("1h30m", "PT5400S"),
        ("1.5h", "PT5400S"),
        ("PT15M", "PT900S"),
        ("P1DT12H", "PT129600S"),
        ("P2W", "PT1209600S"),
        ("90", "PT90S"),
        ("1000ms", "PT1S"),
        ("2030-08-01T09:00", "2030-08-01T07:00:00Z"),
        ("2030-08-01 09:00:30", "2030-08-01T07:00:30Z"),
        ("2030-08-01T09:00:00.000Z", "2030-08-01T09:00:00Z"),
        ("2030-08-01t09:00:00+02:00", "2030-08-01T07:00:00Z"),
    ],
)
def test_spellings_have_one_normal_form_which_is_a_schedule_itself(text, same):
    schedule = parse(text)

    assert schedule.identity == same
    assert parse(schedule.identity) == schedule


def test_no_text_means_only_by_hand():
    assert schedules.parse("  ", zone=BERLIN) is None


def test_start_and_end_are_both_included():
    schedule = parse("0 * * * *", start_at=utc("2027-03-01T10:00"), end_at=utc("2027-03-01T12:00"))

    slots = schedule.slots_between(utc("2020-01-01T00:00"), utc("2030-01-01T00:00"), limit=10)

    assert slots == [utc("2027-03-01T10:00"), utc("2027-03-01T11:00"), utc("2027-03-01T12:00")]


def test_slots_between_excludes_the_first_instant_and_includes_the_last():
    schedule = parse("0 * * * *")

    assert schedule.slots_between(utc("2027-03-01T10:00"), utc("2027-03-01T12:00"), limit=10) == [
        utc("2027-03-01T11:00"),
        utc("2027-03-01T12:00"),
    ]


def test_slots_between_gives_the_first_ones_up_to_its_limit():
    slots = parse("* * * * *").slots_between(utc("2027-03-01T10:00"), utc("2027-03-02T10:00"), limit=2)

    assert slots == [utc("2027-03-01T10:01"), utc("2027-03-01T10:02")]


def test_an_instant_runs_once():
    schedule = parse("2030-08-01T09:00")

    assert schedule.kind == "once"
    assert schedule.next_after(utc("2029-01-01T00:00")) == utc("2030-08-01T07:00")
    assert schedule.next_after(utc("2030-08-01T07:00")) is None


def test_dates_end_in_9999():
    last = utc("9999-12-31T22:30")

    assert parse("0 0 * * *").next_after(last) is None
    assert parse("1h", anchor_at=utc("2027-01-01T00:00")).next_after(last + timedelta(hours=1)) is None


def test_an_interval_starts_at_an_anchor_in_the_future():
    schedule = parse("15m", anchor_at=utc("2030-01-01T00:07:30.5"))

    assert schedule.next_after(utc("2027-01-01T00:00")) == utc("2030-01-01T00:07:30")


def test_an_interval_without_anchor_counts_from_its_start():
    schedule = parse("2 days", start_at=utc("2030-01-01T10:00"))

    assert schedule.next_after(utc("2030-01-02T00:00")) == utc("2030-01-03T10:00")


instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(
    seconds=st.integers(1, 10_000_000), anchor=instants, after=instants, zone=st.sampled_from(["UTC", "Europe/Berlin"])
)
@settings(deadline=None)
def test_intervals_do_not_drift(seconds, anchor, after, zone):
    step, whole = timedelta(seconds=seconds), anchor.replace(microsecond=0)
    schedule = parse(f"{seconds}s", ZoneInfo(zone), anchor_at=anchor)

    slots = [after]
    for _ in range(20):
        slots.append(schedule.next_after(slots[-1]))

    assert all(later > earlier for earlier, later in pairwise(slots))
    assert all(later - earlier == step for earlier, later in pairwise(slots[1:]))
    assert (slots[1] - whole) % step == timedelta()
    assert slots[1] - step <= after or slots[1] == whole


cron_like = st.text(alphabet="0123456789*/-,#LWRHTPmhsdMONFRI@ :.+Zaevry", max_size=30)


@given(text=st.one_of(cron_like, st.text(max_size=20), st.lists(cron_like, min_size=5, max_size=6).map(" ".join)))
@settings(max_examples=500, deadline=None)
def test_any_text_gives_a_schedule_that_explains_itself_or_is_refused(text):
    try:
        schedule = schedules.parse(text, zone=BERLIN)
    except Invalid as refused:
        assert refused.field == "schedule"
        return

    if schedule is not None:
        assert schedule.explain()
        schedule.preview(utc("2026-10-24T00:00"), 3)


def test_jitter_delays_every_slot_by_the_same_time():
    plain, delayed = parse("*/10 * * * *"), parse("*/10 * * * *", jitter_seconds=300, jitter_key="task 7")
    start, end, delay = utc("2027-03-28T00:00"), utc("2027-03-28T06:00"), delayed.delay

    slots = plain.slots_between(start, end, limit=50)
    later = delayed.slots_between(start + delay, end + delay, limit=50)

    assert later == [slot + delay for slot in slots]
    assert timedelta() < delay < timedelta(seconds=300)


def test_jitter_is_spread_over_the_tasks_and_stable():
    delays = [parse("@daily", jitter_seconds=60, jitter_key=f"task {n}").delay for n in range(600)]

    assert len(set(delays)) == 60
    assert max(delays) == timedelta(seconds=59)
    assert parse("@daily", jitter_seconds=60, jitter_key="task 0").delay == delays[0]


def test_jitter_never_hides_the_slot_that_has_just_passed():
    delayed = parse("@hourly", jitter_seconds=3000, jitter_key="task 7")
    hour = utc("2027-03-01T10:00")

    assert delayed.next_after(hour) == hour + delayed.delay
    assert delayed.next_after(hour + delayed.delay) == hour + timedelta(hours=1) + delayed.delay


def test_equal_schedules_have_the_same_slots():
    assert parse("15m") == parse("every 15 minutes")
    assert parse("15m") != parse("15m", anchor_at=utc("2027-01-01T00:01"))
    assert parse("@daily") != parse("@daily", ZoneInfo("UTC"))
    assert parse("@daily") != parse("@daily", end_at=utc("2027-01-01T00:00"))


@pytest.mark.parametrize(
    ("text", "after", "at", "note"),
    [
        ("30 2 * * *", "2027-03-27T12:00", "03:00", "02:30 does not exist on 28 March 2027, runs at 03:00."),
        (
            "0 2,3 * * *",
            "2027-03-27T12:00",
            "03:00",
            "02:00 does not exist on 28 March 2027, the run at 03:00 stands for both.",
        ),
        (
            "0,30 2 * * *",
            "2027-03-27T12:00",
            "03:00",
            "The times from 02:00 to 03:00 do not exist on 28 March 2027, one run at 03:00.",
        ),
        ("30 */2 * * *", "2027-03-28T00:00", "04:30", "02:30 does not exist on 28 March 2027, nothing runs then."),
        (
            "*/15 * * * *",
            "2027-03-28T00:45",
            "03:00",
            "The times from 02:00 to 03:00 do not exist on 28 March 2027, nothing runs then.",
        ),
        ("30 2 * * *", "2027-10-30T12:00", "02:30", "02:30 happens twice on 31 October 2027, runs at the first."),
        ("30 * * * *", "2027-10-31T00:00", "02:30", "02:30 happens twice on 31 October 2027, this is the first."),
        ("30 * * * *", "2027-10-31T01:00", "02:30", "02:30 happens twice on 31 October 2027, this is the second."),
        ("2027-03-28T02:30", "2027-01-01T00:00", "03:00", "02:30 does not exist on 28 March 2027, runs at 03:00."),
        ("2027-10-31T02:30", "2027-01-01T00:00", "02:30", "02:30 happens twice on 31 October 2027, runs at the first."),
        ("2027-10-31T02:30+01:00", "2027-01-01T00:00", "02:30", ""),
        ("24h", "2027-03-28T00:00", "10:00", "The clocks have changed: 24 hours after the run before it is 10:00."),
        ("24h", "2027-03-29T00:00", "10:00", ""),
        ("6h", "2027-03-28T00:00", "04:00", ""),
        ("30 2 * * *", "2027-03-28T12:00", "02:30", ""),
    ],
)
def test_the_preview_says_what_a_change_of_clocks_does(text, after, at, note):
    schedule = parse(text, anchor_at=utc("2027-01-01T08:00"))

    run = schedule.preview(utc(after), 1)[0]

    assert (run.at_local.strftime("%H:%M"), run.note) == (at, note)


def test_the_preview_names_the_day_that_was_left_out():
    run = parse("0 9 * * *", ZoneInfo("Pacific/Apia")).preview(utc("2011-12-29T20:00"), 1)[0]

    assert run.note == "09:00 does not exist on 30 December 2011, runs at 00:00 on 31 December 2011."


def test_the_preview_keeps_its_notes_with_jitter():
    schedule = parse("30 2 * * *", jitter_seconds=30, jitter_key="task 7")

    runs = schedule.preview(utc("2027-03-26T12:00"), 3)

    assert [bool(run.note) for run in runs] == [False, True, False]
    assert runs[1].at_utc == utc("2027-03-28T01:00") + schedule.delay


def test_the_preview_ends_with_the_schedule():
    assert len(parse("2030-08-01T09:00").preview(utc("2027-01-01T00:00"), 5)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 9 * * *", "At 09:00 every day, Europe/Berlin"),
        ("0 9 * * MON-FRI", "At 09:00 on Monday through Friday, Europe/Berlin"),
        ("@hourly", "At the start of every hour, Europe/Berlin"),
        ("15m", "Every 15 minutes, counted from 1 March 2027 at 09:00, Europe/Berlin"),
        ("every minute", "Every minute, counted from 1 March 2027 at 09:00, Europe/Berlin"),
        ("90", "Every 1 minute 30 seconds, counted from 1 March 2027 at 09:00, Europe/Berlin"),
        ("P1D", "Every 24 hours, counted from 1 March 2027 at 09:00, Europe/Berlin"),
        ("2030-08-01T09:00", "Once, on 1 August 2030 at 09:00, Europe/Berlin"),
    ],
)
def test_a_schedule_is_explained_in_words(text, words):
    assert parse(text, anchor_at=utc("2027-03-01T08:00")).explain() == words


def test_the_explanation_names_the_window_and_the_jitter():
    schedule = parse(
        "@daily",
        start_at=utc("2027-03-01T08:00"),
        end_at=utc("2027-04-01T08:00"),
        jitter_seconds=30,
        jitter_key="task 7",
    )

    delay = schedule.delay // timedelta(seconds=1)
    assert schedule.explain() == (
        "At 00:00 every day, Europe/Berlin, from 1 March 2027 at 09:00, until 1 April 2027 at 10:00, "
        f"delayed by {delay} s (jitter)"
    )
