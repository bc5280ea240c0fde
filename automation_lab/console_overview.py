"""The first page of the console: the last day in numbers, what needs somebody, and for an empty lab the first step.

Every number is counted over an index and to a limit, so the page costs the same with a thousand rows and with millions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, F, Max, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateWorker

from automation_lab.core.console import display as show
from inbox.models import Source
from tasks.models import ScheduledTask, TaskExecution
from workflows.models import Workflow, WorkflowExecution

LIMIT = 10_000
DAY = timedelta(days=1)
DEAD_AFTER = timedelta(seconds=15)
ROWS = 6
BAD = ("failed", "timeout")

_COUNT = "(SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT {limit}) AS found)"
_COUNTS = {
    "webhooks": ("webhook_inbox", "received_at >= %(since)s"),
    "refused": ("webhook_inbox", "status = 'rejected' AND received_at >= %(since)s"),
    "workflow_runs": ("workflow_executions", "created_at >= %(since)s"),
    "workflow_failures": ("workflow_executions", "status IN ('failed', 'timeout') AND created_at >= %(since)s"),
    "workflow_live": ("workflow_executions", "status IN ('pending', 'running')"),
    "task_runs": ("task_executions", "created_at >= %(since)s"),
    "task_failures": ("task_executions", "status IN ('failed', 'timeout') AND created_at >= %(since)s"),
    "task_live": ("task_executions", "status IN ('pending', 'running')"),
    "requests": ("api_logs", "created_at >= %(since)s"),
    "request_errors": ("api_logs", "status_code >= 400 AND created_at >= %(since)s"),
    "any_webhook": ("webhook_inbox", "true"),
    "any_workflow": ("workflows", "true"),
    "any_task": ("scheduled_tasks", "true"),
}
_STATEMENT = "SELECT " + ", ".join(
    _COUNT.format(table=table, condition=condition, limit=1 if name.startswith("any_") else LIMIT + 1)
    for name, (table, condition) in _COUNTS.items()
)


@dataclass(frozen=True)
class Card:
    title: str
    value: str
    note: str
    url: str
    alarming: bool = False


@dataclass(frozen=True)
class Trouble:
    """One thing that needs somebody: what, why, since when, and where to go."""

    label: Any
    title: str
    reason: Any
    when: Any
    url: str


def build(request: HttpRequest, may_view: Callable[[HttpRequest, str], bool]) -> dict[str, Any]:
    now = timezone.now()
    counts = _count(now - DAY)
    return {
        "cards": [card for label, card in _cards(counts) if may_view(request, label)],
        "troubles": [trouble for label, trouble in _troubles(now) if may_view(request, label)],
        "is_empty": not (counts["any_webhook"] or counts["any_workflow"] or counts["any_task"]),
        "curl": show.first_command(show.origin(request)),
    }


def is_alive(worker: ProcrastinateWorker, now: datetime | None = None) -> bool:
    return bool(worker.last_heartbeat > (now or timezone.now()) - DEAD_AFTER)


def _count(since: datetime) -> dict[str, int]:
    """All numbers in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENT, {"since": since})
        return dict(zip(_COUNTS, cursor.fetchone(), strict=True))


def _cards(counts: dict[str, int]) -> list[tuple[str, Card]]:
    errors, requests = counts["request_errors"], counts["requests"]
    share = f"{100 * errors / requests:.1f} %" if requests and requests <= LIMIT else _number(errors)
    refused = f"{_number(counts['refused'])} refused" if counts["refused"] else "none refused"
    return [
        ("inbox.webhook", Card("Webhooks", _number(counts["webhooks"]), refused, show.list_url("inbox.webhook"))),
        (
            "workflows.workflowexecution",
            _runs("Workflow runs", "workflows.workflowexecution", counts["workflow_runs"], counts["workflow_live"]),
        ),
        (
            "workflows.workflowexecution",
            _failures("Failed workflow runs", "workflows.workflowexecution", counts["workflow_failures"]),
        ),
        (
            "tasks.taskexecution",
            _runs("Task runs", "tasks.taskexecution", counts["task_runs"], counts["task_live"]),
        ),
        ("tasks.taskexecution", _failures("Failed task runs", "tasks.taskexecution", counts["task_failures"])),
        (
            "apilogs.apilog",
            Card(
                "API errors",
                share if requests else "0",
                f"of {_number(requests)} requests",
                show.list_url("apilogs.apilog", status="errors"),
                alarming=bool(requests and errors / requests > 0.05),
            ),
        ),
    ]


def _runs(title: str, label: str, number: int, live: int) -> Card:
    return Card(title, _number(number), f"{_number(live)} waiting or running", show.list_url(label))


def _failures(title: str, label: str, number: int) -> Card:
    url = show.list_url(label, status__in=",".join(BAD))
    return Card(title, _number(number), "failed or timed out", url, alarming=number > 0)


def _number(number: int) -> str:
    return f"{LIMIT:,}+" if number > LIMIT else f"{number:,}"


def _troubles(now: datetime) -> list[tuple[str, Trouble]]:
    return [
        *_lost_workers(now),
        *_failed_workflows(now),
        *_failed_tasks(now),
        *_broken_schedules("workflows.workflow", Workflow.objects.all()),
        *_broken_schedules("tasks.scheduledtask", ScheduledTask.objects.unarchived()),
        *_open_sources(),
    ]


def _lost_workers(now: datetime) -> list[tuple[str, Trouble]]:
    workers = list(ProcrastinateWorker.objects.order_by("-last_heartbeat")[:ROWS])
    if not workers:
        reason = "Nothing runs until one is started: ./lab up, or manage.py worker."
        found = [Trouble(show.label("no worker", "bad"), "No worker", reason, "", show.list_url(WORKERS))]
    elif not any(is_alive(worker, now) for worker in workers):
        last = show.when(workers[0].last_heartbeat, now=now)
        found = [
            Trouble(
                show.label("no worker", "bad"),
                "No worker is alive",
                "Runs wait in the queue.",
                last,
                show.list_url(WORKERS),
            )
        ]
    else:
        found = []
    return [(WORKERS, trouble) for trouble in found]


WORKERS = "procrastinate.procrastinateworker"


def _failed_workflows(now: datetime) -> list[tuple[str, Trouble]]:
    rows = _grouped(WorkflowExecution.objects.all(), now, owner=F("workflow_id"), name=F("workflow__name"))
    label = "workflows.workflowexecution"
    return [(label, _failed(row, label, "workflow__id__exact")) for row in rows]


def _failed_tasks(now: datetime) -> list[tuple[str, Trouble]]:
    rows = _grouped(TaskExecution.objects.all(), now, owner=F("task_id"), name=F("task__name"))
    return [("tasks.taskexecution", _failed(row, "tasks.taskexecution", "task__id__exact")) for row in rows]


def _grouped(executions: Any, now: datetime, **names: F) -> list[dict[str, Any]]:
    """Failures of the last day, one row for each thing that failed, with one of the reasons."""
    failed = executions.filter(status__in=BAD, created_at__gte=now - DAY)
    return list(
        failed.order_by()
        .values(**names)
        .annotate(number=Count("pk"), last=Max("created_at"), reason=Max("error_message"))
        .order_by("-last")[:ROWS]
    )


def _failed(row: dict[str, Any], label: str, owner: str) -> Trouble:
    url = show.list_url(label, **{owner: row["owner"], "status__in": ",".join(BAD)})
    return Trouble(
        show.label(f"{row['number']} failed", "bad"),
        row["name"],
        show.shortened(row["reason"], 120),
        show.when(row["last"]),
        url,
    )


def _broken_schedules(label: str, rows: QuerySet[Any]) -> list[tuple[str, Trouble]]:
    broken = rows.exclude(schedule_error="").only("name", "schedule_error", "updated_at")
    return [
        (
            label,
            Trouble(
                show.label("schedule", "warn"),
                row.name,
                show.shortened(row.schedule_error, 120),
                show.when(row.updated_at),
                show.object_url(label, row.pk),
            ),
        )
        for row in broken[:ROWS]
    ]


def _open_sources() -> list[tuple[str, Trouble]]:
    sources = Source.objects.enabled().filter(scheme="none", open_confirmed=False).only("name", "created_at")
    return [
        (
            "inbox.source",
            Trouble(
                show.label("open", "warn"),
                source.name,
                "Anybody who knows the address may send here: choose a scheme, or confirm it.",
                show.when(source.created_at),
                show.object_url("inbox.source", source.pk),
            ),
        )
        for source in sources[:ROWS]
    ]
