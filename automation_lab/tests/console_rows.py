"""Rows for every table of the console, many at once, for the tests that open all of its pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Model
from knox.crypto import hash_token
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

from apilogs.models import ApiLogDrop, ApiLogHour
from apilogs.tests.factories import ApiLogFactory
from automation_lab.models import ApiToken
from inbox.models import Forward, ForwardAttempt, RateWindow, Replay, SavedView
from inbox.tests.factories import SourceFactory, WebhookFactory
from tasks.models import Notification
from tasks.tests import factories as tasks
from workflows.tests import factories as workflows

NOW = datetime.now(UTC)


def _batch(factory: Any, number: int, **values: Any) -> list[Model]:
    return factory._meta.model._base_manager.bulk_create(factory.build_batch(number, **values))


def _webhooks(number: int) -> list[Model]:
    headers = [["Content-Type", "application/json"]]
    return _batch(WebhookFactory, number, body={"n": 1}, headers=headers, verification="verified", matched_secret="s1")


def _forwards(number: int) -> list[Model]:
    webhook = WebhookFactory()
    return Forward.objects.bulk_create(Forward(webhook=webhook, target="https://example.com") for _ in range(number))


def _forward_attempts(number: int) -> list[Model]:
    forward = Forward.objects.create(webhook=WebhookFactory(), target="https://example.com")
    return ForwardAttempt.objects.bulk_create(
        ForwardAttempt(forward=forward, number=n, epoch=n, worker=1, status="failed", started_at=NOW)
        for n in range(1, number + 1)
    )


def _views(number: int) -> list[Model]:
    owner = User.objects.create(username="viewer")
    return SavedView.objects.bulk_create(SavedView(owner=owner, name=f"view {n}") for n in range(number))


def _task_executions(number: int) -> list[Model]:
    return _batch(tasks.TaskExecutionFactory, number, task=tasks.ScheduledTaskFactory(), input_data={"n": 1})


def _notifications(number: int) -> list[Model]:
    channel = tasks.NotificationChannelFactory()
    return Notification.objects.bulk_create(
        Notification(channel=channel, event="failure", subject="task:1", title="Daily Report failed", first_at=NOW)
        for _ in range(number)
    )


def _workflow_executions(number: int) -> list[Model]:
    workflow = workflows.WorkflowFactory()
    version = workflows.WorkflowVersionFactory(workflow=workflow)
    return _batch(workflows.WorkflowExecutionFactory, number, workflow=workflow, version=version)


def _versions(number: int) -> list[Model]:
    workflow = workflows.WorkflowFactory()
    factory = workflows.WorkflowVersionFactory
    rows = [factory.build(workflow=workflow, number=n) for n in range(1, number + 1)]
    return factory._meta.model.objects.bulk_create(rows)


def _hours(number: int) -> list[Model]:
    return ApiLogHour.objects.bulk_create(
        ApiLogHour(hour=NOW - timedelta(hours=n), route="/v1/tasks", status_class=2, count=1) for n in range(number)
    )


def _tokens(number: int) -> list[Model]:
    user = User.objects.create(username="token-owner")
    return ApiToken.objects.bulk_create(
        ApiToken(digest=hash_token(f"token {n}"), token_key="lab_12345678901", user=user, name=f"token {n}")
        for n in range(number)
    )


def _audit(number: int) -> list[Model]:
    user = User.objects.create(username="auditor")
    kind = ContentType.objects.get_for_model(User)
    return LogEntry.objects.bulk_create(
        LogEntry(user=user, content_type=kind, object_id=str(user.pk), object_repr="auditor", action_flag=2)
        for _ in range(number)
    )


def _jobs(number: int) -> list[Model]:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args) "
            "SELECT 'default', 'run', '{}' FROM generate_series(1, %s)",
            [number],
        )
    return list(ProcrastinateJob.objects.all())


def _workers(number: int) -> list[Model]:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers SELECT FROM generate_series(1, %s)", [number])
    return list(ProcrastinateWorker.objects.all())


def _accesses(model: Any, **values: Any) -> Callable[[int], list[Model]]:
    return lambda number: model.objects.bulk_create(
        model(username=f"user{n}", ip_address="192.0.2.1", user_agent="curl", path_info="/admin/login/", **values)
        for n in range(number)
    )


ROWS: dict[str, Callable[[int], list[Model]]] = {
    "inbox.webhook": _webhooks,
    "inbox.source": lambda number: _batch(SourceFactory, number),
    "inbox.forward": _forwards,
    "inbox.forwardattempt": _forward_attempts,
    "inbox.replay": lambda number: Replay.objects.bulk_create(
        Replay(target="workflow", webhook_ids=[1], total_count=1, options={"workflow": 1}) for _ in range(number)
    ),
    "inbox.savedview": _views,
    "inbox.ratewindow": lambda number: RateWindow.objects.bulk_create(
        RateWindow(key=f"github {n}", window_at=NOW) for n in range(number)
    ),
    "tasks.scheduledtask": lambda number: _batch(tasks.ScheduledTaskFactory, number),
    "tasks.taskexecution": _task_executions,
    "tasks.taskattempt": lambda number: _batch(
        tasks.TaskAttemptFactory, number, execution=tasks.TaskExecutionFactory(), answer={"status": 200}
    ),
    "tasks.tasklog": lambda number: _batch(tasks.TaskLogFactory, number, execution=tasks.TaskExecutionFactory()),
    "tasks.secret": lambda number: _batch(tasks.SecretFactory, number),
    "tasks.notificationchannel": lambda number: _batch(tasks.NotificationChannelFactory, number),
    "tasks.notification": _notifications,
    "workflows.workflow": lambda number: _batch(workflows.WorkflowFactory, number),
    "workflows.workflowversion": _versions,
    "workflows.workflowexecution": _workflow_executions,
    "workflows.stepexecution": lambda number: _batch(
        workflows.StepExecutionFactory, number, execution=workflows.WorkflowExecutionFactory(), output={"n": 1}
    ),
    "workflows.stepattempt": lambda number: _batch(
        workflows.StepAttemptFactory, number, step=workflows.StepExecutionFactory()
    ),
    "workflows.workflowlog": lambda number: _batch(
        workflows.WorkflowLogFactory, number, execution=workflows.WorkflowExecutionFactory()
    ),
    "workflows.messagetemplate": lambda number: _batch(workflows.MessageTemplateFactory, number),
    "workflows.namedschema": lambda number: _batch(workflows.NamedSchemaFactory, number),
    "workflows.waittoken": lambda number: _batch(
        workflows.WaitTokenFactory, number, step=workflows.StepExecutionFactory()
    ),
    "apilogs.apilog": lambda number: _batch(ApiLogFactory, number, response_body='{"n": 1}'),
    "apilogs.apiloghour": _hours,
    "apilogs.apilogdrop": lambda number: ApiLogDrop.objects.bulk_create(
        ApiLogDrop(at=NOW, process="web 1", count=3, reason="queue full") for _ in range(number)
    ),
    "automation_lab.apitoken": _tokens,
    "auth.user": lambda number: User.objects.bulk_create(User(username=f"person{n}") for n in range(number)),
    "auth.group": lambda number: Group.objects.bulk_create(Group(name=f"group {n}") for n in range(number)),
    "admin.logentry": _audit,
    "procrastinate.procrastinatejob": _jobs,
    "procrastinate.procrastinateworker": _workers,
    "axes.accessattempt": _accesses(AccessAttempt, failures_since_start=3, get_data="", post_data=""),
    "axes.accessfailurelog": _accesses(AccessFailureLog),
    "axes.accesslog": _accesses(AccessLog),
}
"""Model label -> what makes so many rows of it."""
