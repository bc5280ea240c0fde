"""What a schedule means and when it runs next, before and after it is saved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from automation_lab.core import clock
from automation_lab.core.exceptions import Invalid
from tasks.scheduling import previews
from tasks.tests.factories import ScheduledTaskFactory

NOW = datetime(2027, 3, 1, 12, 0, 30, tzinfo=UTC)


def of_text(text: str, **options: Any) -> dict[str, Any]:
    return previews.of_text(text, **{"timezone": "UTC", "now": NOW, "count": 3, **options})


def test_the_next_runs_come_with_words_and_both_times():
    found = of_text("0 9 * * *", timezone="Europe/Berlin", count=1)

    assert found == {
        "schedule": "0 9 * * *",
        "timezone": "Europe/Berlin",
        "explanation": "At 09:00 every day, Europe/Berlin",
        "runs": [
            {"at_utc": datetime(2027, 3, 2, 8, tzinfo=UTC), "at_local": "2027-03-02T09:00:00+01:00", "note": ""},
        ],
    }


def test_a_run_that_the_clocks_skip_has_a_note():
    runs = of_text("30 2 * * *", timezone="Europe/Berlin", count=28)["runs"]

    assert [run["note"] for run in runs if run["note"]] == ["02:30 does not exist on 28 March 2027, runs at 03:00."]


def test_an_interval_counts_from_now_unless_it_has_an_anchor():
    assert [run["at_utc"] for run in of_text("every 15 minutes")["runs"]] == [
        NOW + n * timedelta(minutes=15) for n in (1, 2, 3)
    ]
    anchored = of_text("every 15 minutes", anchor_at=NOW.replace(minute=5, second=0))
    assert anchored["runs"][0]["at_utc"] == NOW.replace(minute=5, second=0)


def test_start_and_end_are_kept_to():
    found = of_text("0 * * * *", start_at=NOW + timedelta(days=1), end_at=NOW + timedelta(days=1, hours=2), count=9)

    assert len(found["runs"]) == 2
    assert "until" in found["explanation"]


def test_no_schedule_is_only_by_hand():
    assert of_text("") == {"schedule": "", "timezone": "UTC", "explanation": "Only by hand.", "runs": []}


@pytest.mark.parametrize(
    ("text", "options", "field"),
    [
        ("nonsense", {}, "schedule"),
        ("0 0 30 2 *", {}, "schedule"),
        ("500 ms", {}, "schedule"),
        ("* * * * *", {"timezone": "Europe/Berln"}, "timezone"),
        ("* * * * *", {"timezone": "../../etc/passwd"}, "timezone"),
        ("* * * * *", {"timezone": ""}, "timezone"),
        ("* * * * *", {"timezone": "localtime"}, "timezone"),
    ],
)
def test_what_cannot_run_is_refused_with_its_field(text, options, field):
    with pytest.raises(Invalid) as caught:
        of_text(text, **options)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("written", "meant"),
    [("europe/berlin", "Europe/Berlin"), ("America/NewYork", "America/New_York"), ("Lord_Howe", "Australia/Lord_Howe")],
)
def test_a_time_zone_that_is_nearly_right_is_named(written, meant):
    with pytest.raises(Invalid, match=f"Did you mean `{meant}`"):
        of_text("* * * * *", timezone=written)


@pytest.mark.django_db
def test_a_task_with_jitter_shows_its_own_delay():
    task = ScheduledTaskFactory(pk=1, schedule="0 * * * *", jitter_seconds=600)

    found = previews.of_task(task, now=NOW, count=1)

    at = found["runs"][0]["at_utc"]
    delay = at.minute * 60 + at.second
    assert 0 < delay < 600
    assert found["explanation"].endswith(f"delayed by {delay} s (jitter)")


@pytest.mark.django_db
def test_over_the_api(api):
    task = ScheduledTaskFactory(schedule="@hourly")

    preview = api.post("/v1/tasks/preview-schedule", {"schedule": "0 9 * * MON", "timezone": "Asia/Tokyo", "count": 2})
    runs = api.get(f"/v1/tasks/{task.pk}/next-runs?count=2")

    assert preview.status_code == runs.status_code == 200
    assert [run["at_local"][10:] for run in preview.json()["runs"]] == ["T09:00:00+09:00"] * 2
    assert len(runs.json()["runs"]) == 2
    assert runs.json()["runs"][0]["at_utc"] > f"{clock.database_now():%Y-%m-%dT%H:%M}"


@pytest.mark.django_db
@pytest.mark.parametrize("count", ["0", "101", "many", "-1", "1.5", ""])
def test_a_count_out_of_range_is_refused(api, count):
    task = ScheduledTaskFactory(schedule="@hourly")

    assert api.get(f"/v1/tasks/{task.pk}/next-runs?count={count}").status_code == 400


@pytest.mark.django_db
def test_the_next_runs_of_a_schedule_that_cannot_be_evaluated_are_refused(api):
    for broken in (
        ScheduledTaskFactory(schedule="nonsense"),
        ScheduledTaskFactory(schedule="@daily", timezone="Mars/Base"),
    ):
        assert api.get(f"/v1/tasks/{broken.pk}/next-runs").status_code == 400
