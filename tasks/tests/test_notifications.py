"""Messages about failures, recoveries, skipped runs and pauses: who gets which, when, and what is never in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core import mail
from django.db import connection, transaction

from automation_lab.core import clock
from automation_lab.core.execution import recovery, runner
from automation_lab.core.execution.tests.helpers import add_worker, take, together
from automation_lab.core.signing import sign_standard_webhook
from automation_lab.core.tests.servers import StubServer, response
from tasks import outcomes, secrets, services
from tasks.models import Notification, NotificationChannel, ScheduledTask, TaskExecution
from tasks.notifying import channels, notifications
from tasks.notifying.messages import Message, payload
from tasks.scheduling import ticking
from tasks.tests.factories import ScheduledTaskFactory, TaskExecutionFactory

pytestmark = pytest.mark.django_db

PATH = "/services/T000/B000/hook-credential-7421"
EVENTS = ("failure", "recovery", "skipped", "paused")


@pytest.fixture
def hook(settings) -> Iterator[StubServer]:
    """A chat service: keeps what it was sent."""
    server = StubServer()
    settings.OUTBOUND_ALLOW = f"127.0.0.1:{server.port}"
    yield server
    server.close()


@pytest.fixture
def slack(hook) -> NotificationChannel:
    return channels.create_channel(name="ops", kind="slack", target=hook.url + PATH, throttle_seconds=300)


@pytest.fixture
def task(slack) -> ScheduledTask:
    """A task that tells the channel `ops` everything."""
    return ScheduledTaskFactory(name="report", notify={event: ["ops"] for event in EVENTS})


def end(task: ScheduledTask, status: str, error: str = "") -> TaskExecution:
    """A run that comes to its end."""
    run = TaskExecutionFactory(task=ScheduledTask.objects.get(pk=task.pk), status=status)
    with transaction.atomic():
        outcomes.record(run, status=status, now=clock.database_now(), error_message=error)
    return run


def deliver() -> list[str]:
    """Send all that is due, as a worker does; the final states in order."""
    worker, now = add_worker(), clock.database_now()
    due = Notification.objects.filter(status="pending", due_at__lte=now).order_by("id")
    sent = list(due.values_list("pk", flat=True))
    for pk in sent:
        runner.run("tasks.notification", pk, worker=worker)
    return list(Notification.objects.filter(pk__in=sent).order_by("id").values_list("status", flat=True))


def told(hook: StubServer) -> list[str]:
    """The texts that the chat service was sent."""
    return [json.loads(request.partition(b"\r\n\r\n")[2])["text"] for request in hook.requests]


def let_the_throttle_pass() -> None:
    past = clock.database_now() - timedelta(seconds=301)
    Notification.objects.filter(status="success").update(finished_at=past)
    Notification.objects.filter(status="pending").update(due_at=past)


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_failure_is_told_with_what_when_why_and_a_link(task, hook, settings):
    settings.PUBLIC_URL = "https://lab.example.com"
    run = end(task, "failed", "The target answered 500; expected 2xx.")

    assert deliver() == ["success"]

    (text,) = told(hook)
    at = f"{Notification.objects.get().first_at:%Y-%m-%d %H:%M} UTC"
    assert text == (
        "*❌ Task report failed*\nThe target answered 500; expected 2xx.\n"
        f"At {at}.\nhttps://lab.example.com/admin/tasks/taskexecution/{run.pk}/change/"
    )


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("failed", "failure"),
        ("timeout", "failure"),
        ("skipped", "skipped"),
        ("missed", "skipped"),
        ("success", None),
        ("cancelled", None),
    ],
)
def test_the_end_of_a_run_decides_what_is_told(task, status, event):
    end(task, status)

    assert list(Notification.objects.values_list("event", flat=True)) == ([event] if event else [])


def test_only_the_channels_that_a_task_names_for_an_event_are_told(slack):
    task = ScheduledTaskFactory(notify={"recovery": ["ops"]})

    end(task, "failed")

    assert Notification.objects.count() == 0


def test_a_channel_that_is_switched_off_is_not_told(task, slack):
    channels.update_channel(channel=slack, enabled=False)

    end(task, "failed")

    assert Notification.objects.count() == 0


def test_a_recovery_is_told_once_and_after_failures_only(task, hook):
    end(task, "success")
    end(task, "failed", "broken")
    deliver()

    end(task, "success")
    end(task, "success")
    deliver()

    assert [text.splitlines()[0] for text in told(hook)] == ["*❌ Task report failed*", "*✅ Task report works again*"]


def test_a_recovery_is_told_although_the_failure_came_after_the_run_had_begun(task, hook):
    """The run holds the task as it was then, without any failure."""
    run = TaskExecutionFactory(task=ScheduledTask.objects.get(pk=task.pk))
    end(task, "failed")

    outcomes.record(run, status="success", now=clock.database_now())

    assert Notification.objects.filter(event="recovery").count() == 1


def test_a_missed_slot_of_the_ticker_is_told(task):
    now = clock.database_now()
    ScheduledTask.objects.filter(pk=task.pk).update(
        schedule="@hourly", misfire="skip", next_run_at=now.replace(minute=0, second=0, microsecond=0)
    )

    ticking.tick(now + timedelta(hours=3))

    notice = Notification.objects.get()
    assert (notice.event, notice.title) == ("skipped", "Task report missed a run")


def test_a_schedule_that_is_set_aside_is_told_as_paused(task):
    now = clock.database_now()
    ScheduledTask.objects.filter(pk=task.pk).update(schedule="nonsense", next_run_at=now)

    ticking.tick(now)

    notice = Notification.objects.get()
    assert (notice.event, notice.title) == ("paused", "Task report is paused")
    assert "cannot be evaluated" in notice.text


def test_failures_in_a_row_pause_the_task_with_a_note_and_say_so(task):
    ScheduledTask.objects.filter(pk=task.pk).update(
        pause_after_failures=3, schedule="@hourly", next_run_at=clock.database_now()
    )

    for _ in range(3):
        end(task, "failed", "broken")

    task.refresh_from_db()
    assert (task.enabled, task.next_run_at, task.pause_note) == (False, None, "Paused after 3 failures in a row.")
    assert Notification.objects.get(event="paused").text == "Paused after 3 failures in a row."


def test_a_success_between_failures_keeps_the_task_going(task):
    ScheduledTask.objects.filter(pk=task.pk).update(pause_after_failures=3)

    for status in ("failed", "failed", "success", "failed", "timeout"):
        end(task, status)

    task.refresh_from_db()
    assert (task.enabled, task.consecutive_failures) == (True, 2)


def test_a_resumed_task_is_paused_after_as_many_failures_again(task):
    ScheduledTask.objects.filter(pk=task.pk).update(pause_after_failures=2)
    end(task, "failed"), end(task, "failed")
    services.resume_task(task=task)

    states = []
    for _ in range(2):
        end(task, "failed")
        states.append(ScheduledTask.objects.get(pk=task.pk).enabled)

    assert states == [True, False]


# --- throttle and groups ----------------------------------------------------------------------------------------------


def test_failures_within_the_throttle_become_one_message_with_their_number(task, hook):
    end(task, "failed", "the first")
    deliver()
    for number in range(14):
        end(task, "failed", f"error {number}")

    assert deliver() == []
    let_the_throttle_pass()
    assert deliver() == ["success"]

    first, group = told(hook)
    assert "the first" in first
    assert "error 13" in group
    assert "This happened 14 times since " in group
    assert Notification.objects.count() == 2


def test_the_group_waits_until_the_throttle_has_passed(task, slack):
    end(task, "failed")
    deliver()
    sent_at = Notification.objects.get().finished_at

    end(task, "failed")

    assert Notification.objects.get(status="pending").due_at == sent_at + timedelta(seconds=300)


def test_a_failure_while_the_first_message_is_being_sent_waits_too(task):
    end(task, "failed")
    take(Notification.objects.get(), worker=add_worker())

    end(task, "failed")

    waiting = Notification.objects.get(status="pending")
    assert waiting.due_at > clock.database_now() + timedelta(seconds=290)


def test_failures_while_the_channel_cannot_be_reached_are_one_message(task, hook):
    hook.answer = response(503)
    end(task, "failed")
    deliver()

    for _ in range(5):
        end(task, "failed")

    waiting = Notification.objects.get()
    assert (waiting.count, waiting.attempt) == (6, 1)


@pytest.mark.parametrize("other", ["another task", "another event", "another channel"])
def test_the_throttle_is_one_for_each_channel_task_and_event(task, hook, other):
    end(task, "failed")
    deliver()

    if other == "another task":
        end(ScheduledTaskFactory(notify=task.notify), "failed")
    elif other == "another event":
        end(task, "skipped")
    else:
        channels.create_channel(name="dev", kind="slack", target=hook.url + PATH)
        end(ScheduledTaskFactory(pk=None, notify={"failure": ["dev"]}), "failed")

    assert deliver() == ["success"]


def test_a_recovery_takes_the_place_of_failures_that_were_not_told_yet(task, hook):
    end(task, "failed")
    deliver()
    for _ in range(3):
        end(task, "failed")

    end(task, "success")
    let_the_throttle_pass()
    deliver()

    _, recovery = told(hook)
    assert recovery.startswith("*✅ Task report works again*\nIt had failed 3 times more since ")
    assert list(Notification.objects.order_by("id").values_list("event", "status")) == [
        ("failure", "success"),
        ("failure", "cancelled"),
        ("recovery", "success"),
    ]


def test_a_failure_takes_back_a_recovery_that_was_not_told_yet(task, hook):
    for status in ("failed", "success", "failed"):
        end(task, status)
        deliver()
        Notification.objects.filter(event="failure", status="success").delete()
    end(task, "success")  # throttled

    end(task, "failed")

    assert list(Notification.objects.filter(status="pending").values_list("event", flat=True)) == ["failure"]
    assert Notification.objects.filter(event="recovery", status="cancelled").count() == 1


@pytest.mark.django_db(transaction=True)
def test_failures_at_the_same_moment_are_one_message(task):
    results = together([lambda: end(task, "failed") for _ in range(6)])

    assert not [result for result in results if isinstance(result, Exception)]
    assert Notification.objects.get().count == 6


# --- delivery ---------------------------------------------------------------------------------------------------------


def test_a_message_that_cannot_be_delivered_is_tried_again_later(task, hook, slack):
    hook.answer = response(503)
    end(task, "failed")

    assert deliver() == ["pending"]

    waiting = Notification.objects.get()
    slack.refresh_from_db()
    assert (waiting.attempt, waiting.due_at > clock.database_now()) == (1, True)
    assert slack.last_error == "The target answered 503; expected 2xx."

    hook.answer = response(200)
    let_the_throttle_pass()
    assert deliver() == ["success"]
    slack.refresh_from_db()
    assert (slack.last_error, slack.last_sent_at is not None) == ("", True)


def test_a_message_is_given_up_after_six_attempts(task, hook, slack):
    hook.answer = response(503)
    end(task, "failed")

    states = []
    for _ in range(6):
        let_the_throttle_pass()
        states += deliver()

    assert states == ["pending"] * 5 + ["failed"]
    assert Notification.objects.get().attempt == 6


def test_a_message_that_the_channel_refuses_for_good_is_not_repeated(task, hook):
    hook.answer = response(404)
    end(task, "failed")

    assert deliver() == ["failed"]


def test_a_webhook_channel_signs_its_message(hook):
    secret = secrets.set_secret(name="HOOK", value="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    channels.create_channel(name="hook", kind="webhook", target=hook.url + "/in", secret=secret)
    end(ScheduledTaskFactory(name="report", notify={"failure": ["hook"]}), "failed", "broken")

    assert deliver() == ["success"]

    head, _, body = hook.requests[0].partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().lower().splitlines()[1:])
    exact = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    signed = sign_standard_webhook(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers["webhook-id"], int(headers["webhook-timestamp"]), body
    )
    assert signed["webhook-signature"] in exact.values()
    assert json.loads(body)["type"] == "automation_lab.failure"
    assert json.loads(body)["data"]["title"] == "Task report failed"


def test_an_email_channel_sends_a_mail():
    channels.create_channel(name="mail", kind="email", target="ops@example.com")
    end(ScheduledTaskFactory(name="report\nBcc: all@example.com", notify={"failure": ["mail"]}), "failed", "broken")

    assert deliver() == ["success"]

    (message,) = mail.outbox
    assert message.to == ["ops@example.com"]
    assert message.subject == "❌ Task report Bcc: all@example.com failed"
    assert message.bcc == []
    assert message.body.startswith("broken\n")


@pytest.mark.parametrize("kind", NotificationChannel.Kind.values)
def test_every_kind_has_a_form_with_title_text_and_number(kind):
    message = Message("failure", "Task <a> failed", "x < y & @everyone", "https://lab.example.com/", 14, "yesterday")

    text = json.dumps(payload(kind, message), ensure_ascii=False)

    assert "Task" in text
    assert "14" in text
    assert "yesterday" in text
    assert "<a>" not in text or kind != "slack"


def test_a_long_error_is_cut_to_what_discord_takes():
    body = payload("discord", Message("failure", "t" * 300, "e" * 5_000, "https://lab.example.com/", 1, "now"))

    assert len(body["content"]) <= 2000
    assert body["allowed_mentions"] == {"parse": []}


def test_a_worker_that_stops_hands_a_message_back(task, hook):
    end(task, "failed")
    claim = take(Notification.objects.get(), worker=add_worker())
    claim.cancellation.cancel("stopping")

    notifications.NotificationExecutable().run(Notification.objects.select_related("channel").get(), claim)

    waiting = Notification.objects.get()
    assert (waiting.status, waiting.worker, waiting.attempt) == ("pending", None, 0)


@pytest.mark.parametrize(
    ("reason", "message"),
    [("cancelled", "Cancelled."), ("timeout", "Not finished within its time limit.")],
)
def test_a_message_that_is_cut_off_says_why_in_words(task, hook, reason, message):
    end(task, "failed")
    claim = take(Notification.objects.get(), worker=add_worker())
    claim.cancellation.cancel(reason)

    notifications.NotificationExecutable().run(Notification.objects.select_related("channel").get(), claim)

    ended = Notification.objects.get()
    assert (ended.status, ended.error_message) == (reason, message)


def test_a_message_whose_workers_are_lost_again_and_again_is_given_up(task):
    end(task, "failed")

    for _ in range(6):
        take(Notification.objects.get(), worker=add_worker(silent_seconds=60))
        recovery.recover()

    ended = Notification.objects.get()
    assert (ended.status, ended.attempt) == ("failed", 6)
    assert ended.error_message == "Its worker was lost in attempt 6: it is not tried again."


def test_messages_carry_the_same_key_over_their_attempts(hook):
    channels.create_channel(name="hook", kind="webhook", target=hook.url + "/in")
    hook.answer = response(503)
    end(ScheduledTaskFactory(notify={"failure": ["hook"]}), "failed")
    deliver()
    let_the_throttle_pass()
    deliver()

    ids = [line for request in hook.requests for line in request.lower().splitlines() if line.startswith(b"webhook-id")]
    assert len(ids) == 2
    assert len(set(ids)) == 1


# --- the target stays hidden ------------------------------------------------------------------------------------------


def everything_stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(string_agg(n::text, ' '), '') FROM notifications n")
        rows = cursor.fetchone()[0]
        cursor.execute("SELECT coalesce(string_agg(c::text, ' '), '') FROM notification_channels c")
        return rows + cursor.fetchone()[0]


def echo(connection: Any, request: bytes) -> None:
    """Answers with what it was asked, as some services do."""
    connection.sendall(response(500, [("Content-Type", "text/plain")], b"unknown path " + request.split()[1]))


@pytest.mark.parametrize("fault", ["echo", "closed", "refused"])
def test_the_target_is_in_no_row_no_log_and_no_answer(api, task, slack, hook, fault, settings, caplog):
    caplog.set_level(logging.DEBUG)
    if fault == "echo":
        hook.answer = echo
    elif fault == "closed":
        hook.close()
    else:
        settings.OUTBOUND_ALLOW = ""
    end(task, "failed", f"could not call {hook.url}{PATH}")

    deliver()
    answers = [
        api.post(f"/v1/channels/{slack.pk}/test").content.decode(),
        api.get("/v1/channels").content.decode(),
        api.get(f"/v1/channels/{slack.pk}").content.decode(),
    ]

    assert "hook-credential-7421" not in everything_stored()
    assert "hook-credential-7421" not in " ".join(answers)
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore", "django.db"))]
    assert "hook-credential-7421" not in " ".join(record.getMessage() for record in ours)


def test_the_log_settings_keep_the_http_library_quiet(settings):
    for name in ("httpx", "httpcore"):
        assert settings.LOGGING["loggers"][name]["level"] == "WARNING"


def test_a_target_that_cannot_be_decrypted_fails_with_the_channels_name(task, slack):
    NotificationChannel.objects.update(target_ciphertext="k0:broken")
    end(task, "failed")

    assert deliver() == ["failed"]

    slack.refresh_from_db()
    assert slack.last_error == "The target or the signing secret of channel ops cannot be decrypted."


# --- the test message -------------------------------------------------------------------------------------------------


def test_a_test_message_is_sent_at_once_and_throttles_nothing(api, slack, hook):
    answer = api.post(f"/v1/channels/{slack.pk}/test")
    again = api.post(f"/v1/channels/{slack.pk}/test")

    assert (answer.status_code, answer.json()) == (200, {"delivered": True, "error": "", "code": ""})
    assert again.json()["delivered"] is True
    assert "Channel ops of Automation Lab works." in told(hook)[0]
    slack.refresh_from_db()
    assert slack.last_sent_at is not None


def test_a_test_message_says_why_it_was_not_delivered(api, slack, hook):
    hook.answer = response(403)

    answer = api.post(f"/v1/channels/{slack.pk}/test")

    assert answer.json() == {
        "delivered": False,
        "error": "The target answered 403; expected 2xx.",
        "code": "http.403",
    }
    slack.refresh_from_db()
    assert slack.last_error == "The target answered 403; expected 2xx."


# --- settings of a task -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notify", "field", "detail"),
    [
        ({"failed": ["ops"]}, "notify.failed", "Known are failure, recovery, skipped, paused."),
        ({"failure": "ops"}, "notify.failure", "Must be a list of channel names."),
        ({"failure": ["opps"]}, "notify.failure", "There is no channel named 'opps'."),
    ],
)
def test_a_notify_setting_that_would_tell_nobody_is_refused(api, slack, notify, field, detail):
    answer = api.post(
        "/v1/tasks",
        {"name": "t", "task_type": "api_call", "config": {"url": "https://a.example"}, "notify": notify},
    )

    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert error["detail"].startswith(detail)


def test_a_name_near_to_a_channel_is_suggested(slack):
    (fault,) = notifications.faults({"failure": ["op"]})

    assert "ops" in fault["detail"].removeprefix("There is no channel named 'op'.")


def test_queueing_a_message_is_part_of_the_transaction_that_ends_the_run(task):
    with pytest.raises(RuntimeError), transaction.atomic():
        end(task, "failed")
        raise RuntimeError

    assert Notification.objects.count() == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [(200, "The test message is delivered."), (403, "Not delivered: The target answered 403; expected 2xx.")],
)
def test_the_page_of_a_channel_sends_a_test_message_and_tells_how_it_went(console, slack, hook, status, words):
    hook.answer = response(status)

    answer = console.post(
        f"/admin/tasks/notificationchannel/{slack.pk}/test/", {"_form_submitted": "True"}, follow=True
    )

    assert [str(message) for message in answer.context["messages"]] == [words]
    assert len(told(hook)) == 1
    assert LogEntry.objects.get().get_change_message() == "Test message sent."
