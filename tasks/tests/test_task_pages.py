"""The pages of tasks and their runs: what they show, previews, copies, backfills."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tasks import services
from tasks.models import ScheduledTask, TaskExecution
from tasks.tests.factories import (
    NotificationChannelFactory,
    ScheduledTaskFactory,
    TaskExecutionFactory,
)
from tasks.tests.test_admin import BACKEND, CANARY, page, said, submitted, task_form

pytestmark = pytest.mark.django_db


def text_of(response):
    return response.content.decode()


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_says_schedules_in_words_and_the_next_run_in_both_ways(console):
    ScheduledTaskFactory(
        schedule="30 2 * * *", timezone="Europe/Berlin", next_run_at=datetime.now(UTC) + timedelta(hours=3, minutes=1)
    )

    html = text_of(console.get(page("scheduledtask", "changelist")))

    assert "At 02:30 every day, Europe/Berlin" in html
    assert "in 3 h" in html
    assert re.search(r"\d\d:\d\d:\d\d CES?T", html)


def test_the_list_shows_runs_as_cells_that_say_what_happened(console):
    task = ScheduledTaskFactory()
    good = TaskExecutionFactory(task=task, status="success", duration_ms=1200)
    bad = TaskExecutionFactory(task=task, status="failed", error_message=CANARY)

    html = text_of(console.get(page("scheduledtask", "changelist")))

    assert html.index(page("taskexecution", "change", good.pk)) < html.index(page("taskexecution", "change", bad.pk))
    assert f"#{bad.pk} failed" in html
    assert "The latest runs: 1 success, 1 failed" in html
    assert "<script>alert" not in html


def test_runs_say_which_slots_they_stand_for(console):
    slot = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    missed = TaskExecutionFactory(status="missed", trigger="schedule", scheduled_for=slot, count=3)

    for url in (page("taskexecution", "changelist"), page("scheduledtask", "change", missed.task_id)):
        html = text_of(console.get(url))
        assert re.search(r"2026-03-01 09:30:00 UTC</span><span>[^<]*</span></time> and 2 more", html)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "on"),
        ({"enabled": False, "pause_note": "moving house"}, "paused"),
        ({"schedule_error": "never"}, "set aside"),
        ({"archived_at": datetime.now(UTC)}, "archived"),
    ],
)
def test_the_list_shows_the_state_of_a_task(console, fields, word):
    ScheduledTaskFactory(**fields)

    html = text_of(console.get(page("scheduledtask", "changelist")))

    assert re.search(rf'lab-state lab-\w+">{word}<', html)


@pytest.mark.parametrize(
    "fields",
    [
        {"timezone": "US/Pacific-New"},  # the database had it until 2020
        {"timezone": "Pacific/Kiritimati", "end_at": datetime.max.replace(tzinfo=UTC)},
    ],
)
def test_a_task_that_cannot_be_shown_in_its_zone_keeps_no_page_from_opening(console, fields):
    task = ScheduledTaskFactory(schedule="0 9 * * *", next_run_at=datetime.now(UTC), **fields)

    for url in (page("scheduledtask", "changelist"), page("scheduledtask", "change", task.pk)):
        assert console.get(url).status_code == 200
    assert console.get(f"/admin/tasks/scheduledtask/{task.pk}/backfill/").status_code == 200


def test_a_schedule_that_cannot_be_evaluated_says_why_in_the_list(console):
    ScheduledTaskFactory(schedule="0 0 31 2 *")

    assert "never fires" in text_of(console.get(page("scheduledtask", "changelist")))


# --- one task ---------------------------------------------------------------------------------------------------------


def test_a_task_shows_its_next_five_runs_with_what_changes_of_clocks_do(console):
    sundays_of_march = ScheduledTaskFactory(schedule="30 2 * 3 0", timezone="Europe/Berlin")

    html = text_of(console.get(page("scheduledtask", "change", sundays_of_march.pk)))

    assert "Next runs: At 02:30" in html
    assert "02:30 does not exist" in html


def test_a_task_without_a_schedule_says_so(console):
    task = ScheduledTaskFactory(schedule="")

    assert "Only by hand." in text_of(console.get(page("scheduledtask", "change", task.pk)))


def test_a_copy_begins_with_everything_but_the_name_and_is_off(console):
    task = ScheduledTaskFactory(name="Nightly", schedule="@daily", retry_policy={"max_attempts": 3})

    response = console.get(reverse("admin:tasks_scheduledtask_duplicate", args=[task.pk]), follow=True)

    initial = response.context["adminform"].form.initial
    assert (initial["name"], initial["enabled"], initial["schedule"]) == ("Nightly (copy)", False, "@daily")
    assert (initial["config"], initial["retry_policy"]) == (task.config, {"max_attempts": 3})
    assert ScheduledTask.objects.count() == 1


def test_a_copy_is_saved_through_the_form(console):
    task = ScheduledTaskFactory(name="Nightly", schedule="@daily")
    url = f"{page('scheduledtask', 'add')}?copy_of={task.pk}"
    form = {name: value for name, value in task_form(console, url).items() if name != "enabled"}

    console.post(page("scheduledtask", "add"), form)

    copy = ScheduledTask.objects.get(name="Nightly (copy)")
    assert (copy.enabled, copy.schedule, copy.next_run_at) == (False, "@daily", None)


@pytest.mark.parametrize("value", ["999999", "abc", "", "1 OR 1=1"])
def test_a_copy_of_nothing_is_an_empty_form(console, value):
    response = console.get(page("scheduledtask", "add"), {"copy_of": value})

    assert response.status_code == 200
    assert "name" not in response.context["adminform"].form.initial


def test_an_operator_may_not_duplicate_or_backfill(operator):
    task = ScheduledTaskFactory(schedule="@daily")

    copied = operator.get(reverse("admin:tasks_scheduledtask_duplicate", args=[task.pk]))
    filled = operator.post(reverse("admin:tasks_scheduledtask_backfill", args=[task.pk]), submitted())

    assert (copied.status_code, filled.status_code) == (403, 403)


# --- notify -----------------------------------------------------------------------------------------------------------


def test_channels_are_chosen_for_each_event(console):
    NotificationChannelFactory(name="ops")
    NotificationChannelFactory(name="mail")
    url = page("scheduledtask", "add")
    form = task_form(console, url, name="Daily", task_type="api_call")

    console.post(url, {**form, "notify-failure": ["ops", "mail"], "notify-recovery": "ops"})

    assert ScheduledTask.objects.get().notify == {"failure": ["ops", "mail"], "recovery": ["ops"]}


def test_nothing_ticked_tells_nobody(console):
    NotificationChannelFactory(name="ops")
    task = ScheduledTaskFactory(notify={"failure": ["ops"]})
    url = page("scheduledtask", "change", task.pk)

    html = text_of(console.get(url))
    console.post(url, task_form(console, url))

    assert 'name="notify-failure" value="ops" checked' in html
    assert ScheduledTask.objects.get().notify == {}


def test_a_channel_that_is_gone_is_shown_as_gone(console):
    task = ScheduledTaskFactory(notify={"failure": ["closed"]})

    html = text_of(console.get(page("scheduledtask", "change", task.pk)))

    assert re.search(r"closed <small>gone", html)


# --- backfill ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hourly():
    return ScheduledTaskFactory(schedule="0 * * * *", timezone="Europe/Berlin", overlap="allow")


PERIOD = {"from_at": "2026-01-10T00:00", "to_at": "2026-01-10T03:00"}


def backfill(console, task, **values):
    return console.post(reverse("admin:tasks_scheduledtask_backfill", args=[task.pk]), submitted(**values))


def test_a_backfill_is_counted_before_it_runs(console, hourly):
    slot = datetime(2026, 1, 10, 0, 0, tzinfo=UTC)
    TaskExecutionFactory(task=hourly, status="missed", scheduled_for=slot)

    html = text_of(backfill(console, hourly, **PERIOD))

    assert "4 slots: 1 were missed or skipped, 3 have no run, 0 have run" in html
    assert "Run 4" in html
    assert TaskExecution.objects.count() == 1


def test_a_period_without_slots_says_so_and_runs_nothing(console, hourly):
    html = text_of(backfill(console, hourly, from_at="2026-01-10T00:10", to_at="2026-01-10T00:20"))

    assert "no slot in this period" in html
    assert 'name="counted" value="' not in html


def test_a_counted_backfill_runs_in_the_zone_of_the_task(console, hourly):
    counted = re.search(r'name="counted" value="([^"]+)"', text_of(backfill(console, hourly, **PERIOD)))[1]

    backfill(console, hourly, **PERIOD, counted=counted)

    slots = TaskExecution.objects.order_by("scheduled_for").values_list("scheduled_for", "trigger")
    assert slots[0] == (datetime(2026, 1, 9, 23, 0, tzinfo=UTC), "backfill")
    assert len(slots) == 4
    assert LogEntry.objects.get().get_change_message() == "Backfilled 4 slots."


def test_another_period_is_counted_anew(console, hourly):
    counted = re.search(r'name="counted" value="([^"]+)"', text_of(backfill(console, hourly, **PERIOD)))[1]

    html = text_of(backfill(console, hourly, **{**PERIOD, "to_at": "2026-01-10T05:00"}, counted=counted))

    assert "Run 6" in html
    assert not TaskExecution.objects.exists()


@pytest.mark.parametrize(
    ("period", "reason"),
    [
        ({"from_at": "2026-01-10T03:00", "to_at": "2026-01-10T00:00"}, "Must not be earlier than from."),
        ({"from_at": "2026-01-10T03:00", "to_at": "2999-01-10T00:00"}, "Must not be in the future"),
        ({"from_at": "2016-01-10T03:00", "to_at": "2026-01-10T00:00"}, "More than 1000 slots"),
        ({"from_at": "yesterday", "to_at": "2026-01-10T00:00"}, "valid date"),
        ({}, "required"),
    ],
)
def test_a_period_that_cannot_be_filled_is_refused_in_the_dialog(console, hourly, period, reason):
    response = backfill(console, hourly, **period)

    assert response.status_code == 200
    assert reason in text_of(response)
    assert not TaskExecution.objects.exists()


def test_looking_at_the_backfill_dialog_does_nothing(console, hourly):
    response = console.get(reverse("admin:tasks_scheduledtask_backfill", args=[hourly.pk]), PERIOD)

    assert "Europe/Berlin, the zone of the task" in text_of(response)
    assert not TaskExecution.objects.exists()


def test_a_task_that_is_gone_has_no_backfill(console):
    url = reverse("admin:tasks_scheduledtask_backfill", args=[99])

    assert console.post(url, submitted(**PERIOD)).status_code == 404


# --- previews ---------------------------------------------------------------------------------------------------------


def test_the_form_of_a_task_carries_its_previews(console):
    html = text_of(console.get(page("scheduledtask", "add")))

    assert f'data-preview="{reverse("task-preview-schedule")}"' in html
    assert f'data-preview="{reverse("admin:preview_retry_policy")}"' in html
    assert re.search(r'<script src="[^"]*preview\.js" type="module">', html)
    assert '<option value="Europe/Berlin">' in html


def test_an_interval_is_previewed_from_where_its_task_counts(console):
    task = ScheduledTaskFactory(schedule="every 2 hours")

    html = unescape(text_of(console.get(page("scheduledtask", "change", task.pk))))

    assert f'data-defaults="{{"anchor_at": "{task.created_at.isoformat()}"}}"' in html


def test_a_schedule_is_previewed_with_the_session_of_the_console(console):
    body = json.dumps({"schedule": "every 15m", "timezone": "UTC", "start_at": None, "end_at": None, "anchor_at": None})

    answer = console.post(reverse("task-preview-schedule"), body, content_type="application/json").json()

    assert answer["explanation"].startswith("Every 15 minutes")
    assert len(answer["runs"]) == 5


def preview_retries(client, body, **extra):
    return client.post(reverse("admin:preview_retry_policy"), body, content_type="application/json", **extra)


def test_a_retry_policy_is_previewed(console):
    answer = preview_retries(console, '{"retry_policy": {"max_attempts": 3, "jitter": "none"}}').json()

    assert answer["explanation"].startswith("Up to 3 attempts; the next tries come after 2 s and 4 s.")


@pytest.mark.parametrize("body", ["", "[", "[]", "{}", '{"retry_policy": 5}', '{"retry_policy": {"max_attempts": 99}}'])
def test_a_retry_policy_that_is_none_is_answered_with_the_reason(console, body):
    response = preview_retries(console, body)

    assert response.status_code == 400
    assert response.json()["errors"]


def test_previews_are_for_signed_in_users_who_post_from_the_console(console):
    stranger = Client(enforce_csrf_checks=True)
    user = User.objects.get()
    stranger.force_login(user, backend=BACKEND)

    assert preview_retries(Client(), "{}").status_code == 302
    assert preview_retries(stranger, "{}").status_code == 403
    assert console.get(reverse("admin:preview_retry_policy")).status_code == 405


# --- one run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "is_live"), [("pending", True), ("running", True), ("success", False), ("missed", False)]
)
def test_the_page_of_a_run_follows_it_while_it_goes_on(console, status, is_live):
    run = TaskExecutionFactory(status=status)

    html = text_of(console.get(page("taskexecution", "change", run.pk)))

    assert ("data-live" in html) == is_live


def test_a_run_leads_to_its_trace(console):
    run = TaskExecutionFactory(correlation_id="c-9")

    assert reverse("admin:trace", args=["c-9"]) in text_of(console.get(page("taskexecution", "change", run.pk)))


def test_a_refused_action_is_said_on_the_page(console, hourly):
    ScheduledTask.objects.update(archived_at=datetime.now(UTC))

    response = console.post(reverse("admin:tasks_scheduledtask_run_now", args=[hourly.pk]), submitted(), follow=True)

    assert said(response) == ["This task is archived."]


# --- two at once ------------------------------------------------------------------------------------------------------


def test_a_form_that_is_older_than_the_task_overwrites_it_only_when_it_is_saved_again(console):
    """The form holds every field: saved without a word it would resume a task that has been paused meanwhile."""
    task = ScheduledTaskFactory(schedule="@daily")
    url = page("scheduledtask", "change", task.pk)
    form = task_form(console, url, description="Mine.")
    services.pause_task(task=task, note="It does harm.")

    refused = console.post(url, form)

    task.refresh_from_db()
    assert (task.enabled, task.description) == (False, "")
    shown = refused.context["adminform"].form
    assert "has changed since this page was opened" in shown.non_field_errors()[0]
    assert shown["description"].value() == "Mine."
    console.post(url, {**form, "seen_version": shown["seen_version"].value()})
    task.refresh_from_db()
    assert (task.enabled, task.description) == (True, "Mine.")
