"""Tasks, their runs, secrets and channels in the console."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from automation_lab.core import crypto
from tasks.models import NotificationChannel, ScheduledTask, Secret, TaskExecution
from tasks.tests.factories import (
    NotificationChannelFactory,
    ScheduledTaskFactory,
    SecretFactory,
    TaskAttemptFactory,
    TaskExecutionFactory,
    TaskLogFactory,
)

BACKEND = "django.contrib.auth.backends.ModelBackend"
CANARY = "<script>alert('canary')</script>"

pytestmark = pytest.mark.django_db


def page(model, name, *args):
    return reverse(f"admin:tasks_{model}_{name}", args=args)


def submitted(**values):
    """What a dialog posts when it is confirmed."""
    return {"_form_submitted": "True", **values}


def said(response):
    return [str(message) for message in response.context["messages"]]


def task_form(console, url, **changes):
    """The fields as the page shows them, with changes."""
    form = console.get(url).context["adminform"].form
    values = {}
    for field in form:
        if field.name in form.fields and field.value() is not None:
            values[field.name] = field.value()
    for name in ("anchor_at", "start_at", "end_at"):
        values |= {f"{name}_0": "", f"{name}_1": ""}
    return {**values, "config": '{"url": "https://api.example.com/report"}', **changes}


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_a_task_is_made_through_the_form(console):
    form = task_form(
        console, page("scheduledtask", "add"), name="Daily Report", task_type="api_call", schedule="@daily"
    )

    console.post(page("scheduledtask", "add"), form)

    task = ScheduledTask.objects.get()
    assert (task.name, task.schedule) == ("Daily Report", "@daily")
    assert task.config["url"] == "https://api.example.com/report"
    assert LogEntry.objects.get().is_addition()


def test_faults_stand_at_their_fields(console):
    url = page("scheduledtask", "add")
    form = task_form(console, url, name="Daily", task_type="api_call", schedule="every blue moon", timezone="Mars/Base")

    response = console.post(url, form)

    assert "timezone" in response.context["adminform"].form.errors
    assert not ScheduledTask.objects.exists()


def test_a_change_goes_through_the_service(console):
    task = ScheduledTaskFactory()
    form = task_form(console, page("scheduledtask", "change", task.pk), schedule="0 9 * * *")

    console.post(page("scheduledtask", "change", task.pk), form)

    changed = ScheduledTask.objects.get()
    assert changed.schedule == "0 9 * * *"
    assert changed.version == task.version + 1


def test_a_task_is_run_with_input(console):
    task = ScheduledTaskFactory()

    response = console.post(
        reverse("admin:tasks_scheduledtask_run_now", args=[task.pk]), submitted(input_data='{"a": 1}'), follow=True
    )

    run = TaskExecution.objects.get()
    assert (run.task, run.trigger, run.input_data, run.status) == (task, "manual", {"a": 1}, "pending")
    assert said(response) == [f"Run #{run.pk} is queued."]
    assert LogEntry.objects.get().get_change_message() == f"Run #{run.pk} is queued."


def test_a_dialog_posted_by_htmx_is_sent_to_the_page(console):
    task = ScheduledTaskFactory()

    response = console.post(
        reverse("admin:tasks_scheduledtask_run_now", args=[task.pk]), submitted(), headers={"HX-Request": "true"}
    )

    assert response.headers["HX-Redirect"] == page("scheduledtask", "change", task.pk)


@pytest.mark.parametrize("text", ["[1]", "{", "5", '"text"'])
def test_input_that_is_no_object_is_refused_in_the_dialog(console, text):
    task = ScheduledTaskFactory()

    response = console.post(reverse("admin:tasks_scheduledtask_run_now", args=[task.pk]), submitted(input_data=text))

    assert response.status_code == 200
    assert not TaskExecution.objects.exists()


def test_looking_at_a_dialog_does_nothing(console):
    task = ScheduledTaskFactory()

    console.get(reverse("admin:tasks_scheduledtask_run_now", args=[task.pk]))
    console.get(reverse("admin:tasks_scheduledtask_pause", args=[task.pk]))

    assert not TaskExecution.objects.exists()
    assert ScheduledTask.objects.get().enabled


def test_a_task_is_paused_with_a_note_and_resumed(console):
    task = ScheduledTaskFactory()

    console.post(reverse("admin:tasks_scheduledtask_pause", args=[task.pk]), submitted(note="maintenance"))
    paused = ScheduledTask.objects.get()
    console.post(reverse("admin:tasks_scheduledtask_resume", args=[task.pk]), submitted())

    assert (paused.enabled, paused.pause_note) == (False, "maintenance")
    assert ScheduledTask.objects.get().enabled


def test_a_viewer_sees_a_task_and_runs_nothing(viewer):
    task = ScheduledTaskFactory()

    html = viewer.get(page("scheduledtask", "change", task.pk)).content.decode()
    response = viewer.post(reverse("admin:tasks_scheduledtask_run_now", args=[task.pk]), submitted())

    assert "Run now" not in html
    assert response.status_code == 403
    assert not TaskExecution.objects.exists()


def test_a_task_with_a_live_run_is_not_deleted(console):
    execution = TaskExecutionFactory()

    response = console.post(page("scheduledtask", "delete", execution.task_id), {"post": "yes"}, follow=True)

    assert ScheduledTask.objects.exists()
    assert "cancel them first" in said(response)[0]


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_shows_its_attempts_and_its_log_escaped(console):
    execution = TaskExecutionFactory(input_data={"x": CANARY}, error_message=CANARY)
    TaskAttemptFactory(execution=execution, answer={"body": CANARY}, error_message="connect timed out")
    TaskLogFactory(execution=execution, text=f"GET {CANARY}")

    html = console.get(page("taskexecution", "change", execution.pk)).content.decode()

    assert "connect timed out" in html
    assert "&lt;script&gt;" in html
    assert "<script>alert" not in html


def test_a_pending_run_is_cancelled(console):
    execution = TaskExecutionFactory()

    console.post(reverse("admin:tasks_taskexecution_cancel", args=[execution.pk]), submitted())

    assert TaskExecution.objects.get().status == "cancelled"


def test_a_finished_run_cannot_be_cancelled_and_the_reason_is_said(console):
    execution = TaskExecutionFactory(status="success")

    html = console.get(page("taskexecution", "change", execution.pk)).content.decode()
    response = console.post(reverse("admin:tasks_taskexecution_cancel", args=[execution.pk]), submitted(), follow=True)

    assert "/cancel/" not in html
    assert len(said(response)) == 1
    assert TaskExecution.objects.get().status == "success"
    assert not LogEntry.objects.exists()


def test_a_failed_run_is_retried_as_a_new_one(console):
    execution = TaskExecutionFactory(status="failed", input_data={"a": 1})

    console.post(reverse("admin:tasks_taskexecution_retry", args=[execution.pk]), submitted())

    retry = TaskExecution.objects.exclude(pk=execution.pk).get()
    assert (retry.retry_of, retry.input_data) == (execution, {"a": 1})


def test_many_runs_are_cancelled_at_once(console):
    runs = TaskExecutionFactory.create_batch(3)
    finished = TaskExecutionFactory(status="success")
    data = {"action": "cancel_selected", "_selected_action": [run.pk for run in [*runs, finished]]}

    response = console.post(page("taskexecution", "changelist"), data, follow=True)

    assert TaskExecution.objects.filter(status="cancelled").count() == 3
    assert said(response)[0] == "Cancel requested. 3 task executions."
    assert said(response)[1].startswith("1 not changed: ")


def test_an_action_on_a_run_that_is_gone_is_not_found(console):
    assert console.post(reverse("admin:tasks_taskexecution_cancel", args=[99]), submitted()).status_code == 404


# --- secrets and channels ---------------------------------------------------------------------------------------------


def test_a_secret_is_stored_encrypted_and_never_shown(console):
    data = {"name": "CRM_TOKEN", "description": "", "value": "canary-value-1234", "allowed_hosts": "api.example.com"}

    response = console.post(page("secret", "add"), data, follow=True)

    secret = Secret.objects.get()
    assert crypto.decrypt(secret.ciphertext, bind="secret:CRM_TOKEN") == "canary-value-1234"
    assert (secret.last4, secret.allowed_hosts) == ("1234", ["api.example.com"])
    assert b"canary-value" not in response.content
    assert b"canary-value" not in console.get(page("secret", "change", secret.pk)).content


def test_a_new_secret_needs_a_value_and_an_old_one_keeps_its_own(console):
    refused = console.post(page("secret", "add"), {"name": "EMPTY", "value": "", "allowed_hosts": ""})
    secret = SecretFactory(value="first-value-0001")

    data = {"description": "changed", "value": "", "allowed_hosts": ""}
    console.post(page("secret", "change", secret.pk), data)

    assert "value" in refused.context["adminform"].form.errors
    changed = Secret.objects.get(pk=secret.pk)
    assert (changed.description, changed.ciphertext) == ("changed", secret.ciphertext)


def test_a_value_is_kept_as_it_was_typed(console):
    console.post(page("secret", "add"), {"name": "SPACES", "value": " a b  ", "allowed_hosts": ""})

    assert crypto.decrypt(Secret.objects.get().ciphertext, bind="secret:SPACES") == " a b  "


def test_a_host_that_is_none_is_refused_at_its_field(console):
    response = console.post(page("secret", "add"), {"name": "A", "value": "x", "allowed_hosts": "https://a.b/c"})

    assert "allowed_hosts" in response.context["adminform"].form.errors
    assert not Secret.objects.exists()


def test_hosts_stand_one_a_line_or_between_commas(console):
    data = {"name": "A", "value": "x", "allowed_hosts": "a.example.com\r\n*.b.example.com, c.example.com "}

    console.post(page("secret", "add"), data)

    secret = Secret.objects.get()
    assert secret.allowed_hosts == ["a.example.com", "*.b.example.com", "c.example.com"]
    form = console.get(page("secret", "change", secret.pk)).context["adminform"].form
    assert form["allowed_hosts"].value() == "a.example.com\n*.b.example.com\nc.example.com"
    console.post(page("secret", "change", secret.pk), {"description": "", "value": "", "allowed_hosts": ""})
    assert Secret.objects.get().allowed_hosts == []


def test_the_page_of_a_secret_names_what_uses_it(console):
    secret = SecretFactory(name="CRM")
    task = ScheduledTaskFactory(name="Sync <1>", config={"url": "https://a.b/{{ secrets.CRM }}"})
    channel = NotificationChannelFactory(kind="webhook", secret=secret)

    html = console.get(page("secret", "change", secret.pk)).content.decode()

    assert re.search(rf"{page('scheduledtask', 'change', task.pk)}[^>]*>Sync &lt;1&gt;</a>", html)
    assert f'href="{page("notificationchannel", "change", channel.pk)}"' in html


def test_a_secret_that_a_channel_signs_with_is_not_deleted(console):
    secret = SecretFactory()
    NotificationChannelFactory(kind="webhook", secret=secret)

    response = console.post(page("secret", "delete", secret.pk), {"post": "yes"}, follow=True)

    assert Secret.objects.exists()
    assert "channel" in said(response)[0]


def test_the_target_of_a_channel_is_write_only(console):
    target = "https://hooks.example.com/services/T0/B0/canary"
    data = {"name": "ops", "kind": "slack", "target": target, "enabled": "on", "throttle_seconds": 300}

    console.post(page("notificationchannel", "add"), data)

    channel = NotificationChannel.objects.get()
    html = console.get(page("notificationchannel", "change", channel.pk)).content.decode()
    assert crypto.decrypt(channel.target_ciphertext, bind="channel:ops") == target
    assert "B0/canary" not in html
    assert "https://hooks.example.com/…" in html


def test_another_kind_of_channel_needs_its_target(console):
    channel = NotificationChannelFactory(kind="slack")
    data = {"kind": "email", "target": "", "enabled": "on", "throttle_seconds": 300}

    response = console.post(page("notificationchannel", "change", channel.pk), data)

    assert "target" in response.context["adminform"].form.errors
    assert NotificationChannel.objects.get().kind == "slack"


def test_who_may_only_look_sees_that_values_are_set(as_role):
    secret = SecretFactory(value="canary-value-1234", last4="1234")
    channel = NotificationChannelFactory(kind="slack", target_hint="https://hooks.example.com/…")
    viewer = as_role("viewer")

    assert "…1234" in viewer.get(page("secret", "change", secret.pk)).content.decode()
    assert (
        "https://hooks.example.com/…" in viewer.get(page("notificationchannel", "change", channel.pk)).content.decode()
    )
