"""Messages about failures, recoveries, skipped runs and pauses: one row each, throttled and grouped per channel.

Rows are written in the transaction of what they report; the worker sends them, as executions of their own. While a
channel is quiet about something, further events of the same kind only count up on the next message. The last word
holds: a recovery takes the place of failures that were not told yet, and a failure that of an untold recovery.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet

from automation_lab.core import clock
from automation_lab.core.cancellation import Cancellation
from automation_lab.core.execution import queue, retry
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.failures import Interrupted, RunError, internal_error
from automation_lab.core.execution.interruptions import end_of
from automation_lab.core.execution.models import Execution
from automation_lab.core.execution.results import masked_text
from automation_lab.core.execution.runner import Executable
from automation_lab.core.expressions import nearest_hint
from automation_lab.core.http import HttpClient
from tasks.models import Notification, NotificationChannel, ScheduledTask, TaskExecution
from tasks.notifying import sending
from tasks.notifying.messages import Message

Status = Notification.Status
EVENTS = ("failure", "recovery", "skipped", "paused")
OPPOSITES = {"failure": "recovery", "recovery": "failure"}
TASK_EVENTS = {"failed": "failure", "timeout": "failure", "skipped": "skipped", "missed": "skipped"}
WITHDRAWN = "Not sent: overtaken by what happened next."
POLICY = retry.RetryPolicy(max_attempts=6, delay_seconds=5, max_delay_seconds=600, max_total_seconds=6 * 3600)


def announce(*, names: Iterable[str], event: str, subject: str, title: str, text: str, url: str, now: datetime) -> None:
    """Record a message for every enabled channel of `names`. `subject` names what it is about, such as task:5."""
    for channel in NotificationChannel.objects.filter(name__in=list(names), enabled=True).order_by("id"):
        _take_turns(channel, subject)
        untold = _withdraw(channel, OPPOSITES[event], subject, now=now) if event in OPPOSITES else []
        words = masked_text(_with_untold(text, untold) if event == "recovery" else text)
        if _waiting(channel, event, subject).update(count=F("count") + 1, text=words, url=url, updated_at=now):
            continue
        notification = Notification(
            channel=channel, event=event, subject=subject, title=title, text=words, url=url, first_at=now
        )
        queue.enqueue(notification, due_at=_quiet_until(channel, event, subject, now))


def _take_turns(channel: NotificationChannel, subject: str) -> None:
    """Of two that report at the same moment, the second sees the first one's message and counts it up."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7403))", [f"{channel.pk}:{subject}"])


def _waiting(channel: NotificationChannel, event: str, subject: str) -> QuerySet[Notification]:
    return Notification.objects.filter(channel=channel, event=event, subject=subject, status=Status.PENDING)


def _withdraw(channel: NotificationChannel, event: str, subject: str, *, now: datetime) -> list[Notification]:
    """Take back messages that nobody has tried to send yet: what happened since makes them wrong."""
    waiting = _waiting(channel, event, subject).filter(attempt=0, worker__isnull=True)
    withdrawn = list(waiting.select_for_update(no_key=True, skip_locked=True))
    Notification.objects.filter(pk__in=[each.pk for each in withdrawn]).update(
        status=Status.CANCELLED, due_at=None, finished_at=now, updated_at=now, error_message=WITHDRAWN
    )
    return withdrawn


def _with_untold(text: str, untold: Sequence[Notification]) -> str:
    failures = sum(each.count for each in untold)
    if not failures:
        return text
    since = min(each.first_at for each in untold)
    times = "once" if failures == 1 else f"{failures} times"
    return f"{text}\nIt had failed {times} more since {instant_text(since)}.".strip()


def task_finished(sender: Any, execution: TaskExecution, now: datetime, recovered: bool = False, **kwargs: Any) -> None:
    """Receiver of `tasks.signals.execution_finished`."""
    task = execution.task
    event = TASK_EVENTS.get(execution.status, "recovery" if recovered else "")
    names = task.notify.get(event, []) if event else []
    if names:
        title = {"failure": "failed", "skipped": f"{execution.status} a run", "recovery": "works again"}[event]
        announce(
            names=names,
            event=event,
            subject=f"task:{task.pk}",
            title=f"Task {task.name} {title}",
            text=execution.error_message,
            url=console_url("tasks", "taskexecution", execution.pk),
            now=now,
        )


def task_paused(sender: Any, task: ScheduledTask, reason: str, now: datetime, **kwargs: Any) -> None:
    """Receiver of `tasks.signals.task_paused`."""
    announce(
        names=task.notify.get("paused", []),
        event="paused",
        subject=f"task:{task.pk}",
        title=f"Task {task.name} is paused",
        text=reason,
        url=console_url("tasks", "scheduledtask", task.pk),
        now=now,
    )


def instant_text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def console_url(app: str, model: str, pk: int) -> str:
    """A link into the console; relative when PUBLIC_URL is not set."""
    return f"{settings.PUBLIC_URL}/admin/{app}/{model}/{pk}/change/"


def faults(notify: Any) -> list[dict[str, str]]:
    """What keeps a `notify` setting from being saved."""
    if not isinstance(notify, dict):
        return [{"field": "notify", "code": "invalid", "detail": "Must be an object."}]
    found = []
    for event, names in notify.items():
        if event not in EVENTS:
            found.append({"field": f"notify.{event}", "code": "unknown", "detail": f"Known are {', '.join(EVENTS)}."})
        elif not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            detail = "Must be a list of channel names."
            found.append({"field": f"notify.{event}", "code": "invalid", "detail": detail})
        else:
            found += [
                {"field": f"notify.{event}", "code": "unknown", "detail": detail} for detail in _unknown_channels(names)
            ]
    return found


def _unknown_channels(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    known = set(NotificationChannel.objects.values_list("name", flat=True))
    missing = [name for name in names if name not in known]
    return [f"There is no channel named {name!r}.{nearest_hint(name, known)}" for name in missing]


def send_test(*, channel: NotificationChannel, http: HttpClient | None = None) -> dict[str, Any]:
    """Send a test message now, outside any transaction. Raises RunError with what went wrong."""
    message = Message("test", "Test message", f"Channel {channel.name} of Automation Lab works.")
    now = clock.database_now()
    key = f"test-{channel.pk}-{now.timestamp():.0f}"
    try:
        answer = sending.send(channel, message, http=http or HttpClient(), key=key, cancellation=Cancellation())
    except RunError as error:
        _note_result(channel.pk, error=masked_text(error.message), now=now)
        raise
    _note_result(channel.pk, error="", now=now)
    return answer


def send_now(
    *,
    name: str,
    message: Message,
    http: HttpClient,
    key: str,
    cancellation: Cancellation,
    subject: str = "",
    quiet_seconds: float = 0,
) -> dict[str, Any]:
    """Send to the channel `name` at once, outside any transaction: for a caller that wants to know how it went.

    With a `subject`, nothing is sent within `quiet_seconds` of the last message about it. Returns `{"status": "sent"}` or
    `{"status": "throttled"}`. Raises RunError, also when the channel cannot be used, or Interrupted.
    """
    channel = NotificationChannel.objects.select_related("secret").filter(name=name, enabled=True).first()
    if channel is None:
        raise RunError(f"There is no channel named {name!r} that is switched on.", code="configuration.channel")
    now = clock.database_now()
    about = {"channel": channel, "event": message.event, "subject": subject}
    since = now - timedelta(seconds=quiet_seconds)
    if subject and Notification.objects.filter(**about, status=Status.SUCCESS, finished_at__gt=since).exists():
        return {"status": "throttled"}
    try:
        sending.send(channel, message, http=http, key=f"{key}-{channel.pk}", cancellation=cancellation)
    except RunError as error:
        _note_result(channel.pk, error=masked_text(error.message), now=now)
        raise
    _note_result(channel.pk, error="", now=now)
    if subject:
        words = {"title": message.title[:300], "text": message.text, "url": message.url}
        Notification.objects.create(**about, **words, status=Status.SUCCESS, first_at=now, finished_at=now)
    return {"status": "sent"}


class NotificationExecutable(Executable):
    """Sends notifications. `http` is the outbound client, replaced in tests."""

    model = Notification

    def __init__(self, http: HttpClient | None = None) -> None:
        self.http = http or HttpClient()

    def rows(self) -> QuerySet[Notification]:
        return Notification.objects.select_related("channel")

    def run(self, execution: Execution, claim: Claim) -> None:
        assert isinstance(execution, Notification)  # noqa: S101 - the registry pairs model and executable
        attempt = execution.attempt + 1
        message = Message(
            execution.event,
            execution.title,
            execution.text,
            execution.url,
            execution.count,
            instant_text(execution.first_at),
        )
        failure: Interrupted | RunError | None = None
        try:
            sending.send(
                execution.channel,
                message,
                http=self.http,
                key=execution.effect_key(),
                cancellation=claim.cancellation,
            )
        except (Interrupted, RunError) as error:
            failure = error
        queue.persist(lambda: _settle(execution, claim, attempt, failure))

    def crashed(self, execution: Execution, claim: Claim, *, now: datetime, error: Exception) -> None:
        queue.finish(claim, status=Status.FAILED, now=now, error_message=internal_error(error))

    def taken_over(self, execution: Execution, *, worker: int, now: datetime) -> str:
        """The lost attempt counts: the message may have been sent, and may be what its worker died of."""
        attempt = execution.attempt + 1
        Notification.objects.filter(pk=execution.pk).update(attempt=attempt)
        given_up = attempt >= POLICY.max_attempts
        return f"Its worker was lost in attempt {attempt}: it is not tried again." if given_up else ""

    def ended(self, execution: Execution, *, now: datetime) -> None:
        """Nothing hangs on a notification."""


def _quiet_until(channel: NotificationChannel, event: str, subject: str, now: datetime) -> datetime:
    """When the channel may speak about this again: the throttle counts from its last message, also one being sent."""
    told = Notification.objects.filter(channel=channel, event=event, subject=subject)
    last = told.filter(status__in=(Status.SUCCESS, Status.RUNNING)).order_by("-id").only("finished_at").first()
    return max(now, (last.finished_at or now) + timedelta(seconds=channel.throttle_seconds)) if last else now


def _settle(notification: Notification, claim: Claim, attempt: int, failure: Interrupted | RunError | None) -> None:
    if isinstance(failure, Interrupted):
        _settle_interruption(claim, failure)
        return
    if failure is not None:
        _settle_error(notification, claim, attempt, failure)
        return
    now = clock.database_now()
    queue.finish(claim, status=Status.SUCCESS, now=now, attempt=attempt)
    _note_result(notification.channel_id, error="", now=now)


def _settle_error(notification: Notification, claim: Claim, attempt: int, error: RunError) -> None:
    now = clock.database_now()
    text = masked_text(error.message)
    decision = retry.decide(
        POLICY,
        attempt=attempt,
        failure=error.as_failure(),
        first_started_at=notification.started_at or now,
        now=now,
    )
    if decision.at is not None:
        queue.park(claim, due_at=decision.at, now=now, status=Status.PENDING, attempt=attempt, error_message=text)
    else:
        queue.finish(claim, status=Status.FAILED, now=now, attempt=attempt, error_message=text)
    _note_result(notification.channel_id, error=text, now=now)


def _settle_interruption(claim: Claim, interrupted: Interrupted) -> None:
    end, now = end_of(claim, interrupted.reason), clock.database_now()
    if end is None:
        queue.park(claim, due_at=now, now=now, status=Status.PENDING)
    else:
        queue.finish(claim, status=end.status, now=now, error_message=end.error_message)


@transaction.atomic
def _note_result(channel_id: int, *, error: str, now: datetime) -> None:
    values: dict[str, Any] = {"last_error": error, "updated_at": now}
    if not error:
        values["last_sent_at"] = now
    NotificationChannel.objects.filter(pk=channel_id).update(**values)
