"""The console as a whole: its navigation, its search, the page of one correlation id, and the overview's hook."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.dataclasses import SearchResult

from apilogs.models import ApiLog
from automation_lab import console_overview
from automation_lab.core.admin import Panel, panel_of
from automation_lab.core.console import display as show
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution import retry_words
from automation_lab.core.safe_json import parse_api_body
from inbox.models import Source, Webhook
from tasks.models import ScheduledTask, TaskExecution
from workflows.models import Workflow, WorkflowExecution

TRACE_ROWS = 100
SEARCH_ROWS = 8
is_alive = console_overview.is_alive

GROUPS: list[tuple[str, list[tuple[str, str, str]]]] = [
    (
        "Inbox",
        [
            ("Webhooks", "inbox", "inbox.webhook"),
            ("Sources", "sensors", "inbox.source"),
            ("Forwards", "forward_to_inbox", "inbox.forward"),
            ("Replays", "replay", "inbox.replay"),
            ("Saved views", "bookmark", "inbox.savedview"),
            ("Rate windows", "speed", "inbox.ratewindow"),
        ],
    ),
    (
        "Tasks",
        [
            ("Tasks", "schedule", "tasks.scheduledtask"),
            ("Runs", "history", "tasks.taskexecution"),
            ("Secrets", "key", "tasks.secret"),
            ("Channels", "notifications", "tasks.notificationchannel"),
            ("Messages", "outgoing_mail", "tasks.notification"),
        ],
    ),
    (
        "Workflows",
        [
            ("Workflows", "account_tree", "workflows.workflow"),
            ("Runs", "play_circle", "workflows.workflowexecution"),
            ("Steps", "checklist", "workflows.stepexecution"),
            ("Templates", "mail", "workflows.messagetemplate"),
            ("Schemas", "data_object", "workflows.namedschema"),
        ],
    ),
    (
        "API logs",
        [
            ("Requests", "receipt_long", "apilogs.apilog"),
            ("Hours", "bar_chart", "apilogs.apiloghour"),
            ("Dropped rows", "delete_sweep", "apilogs.apilogdrop"),
        ],
    ),
    (
        "System",
        [
            ("API tokens", "vpn_key", "automation_lab.apitoken"),
            ("Users", "person", "auth.user"),
            ("Groups", "group", "auth.group"),
            ("Audit", "policy", "admin.logentry"),
            ("Workers", "memory", "procrastinate.procrastinateworker"),
            ("Job queue", "pending_actions", "procrastinate.procrastinatejob"),
            ("Refused sign-ins", "lock_person", "axes.accessattempt"),
        ],
    ),
]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar, by app, with what this user may see."""
    groups = [
        {
            "title": title,
            "separator": True,
            "items": [_item(*entry) for entry in entries if _may_view(request, entry[2])],
        }
        for title, entries in GROUPS
    ]
    links = [
        {"title": "Overview", "icon": "space_dashboard", "link": reverse("admin:index")},
        {"title": "API documentation", "icon": "menu_book", "link": reverse("docs")},
    ]
    return [{"title": "", "items": links}, *(group for group in groups if group["items"])]


def _item(title: str, icon: str, label: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": show.list_url(label)}


def _may_view(request: HttpRequest, label: str) -> bool:
    app, model = label.split(".")
    return request.user.has_perm(f"{app}.view_{model}") or request.user.has_perm(f"{app}.change_{model}")


def context(request: HttpRequest) -> dict[str, Any]:
    """For every page of the console."""
    return {"api_open": settings.API_OPEN}


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """For the first page: what the last day was like, and what needs somebody."""
    return {**context, "overview": console_overview.build(request, _may_view)}


# --- search -----------------------------------------------------------------------------------------------------------


def search(request: HttpRequest, term: str) -> list[SearchResult]:
    """What Ctrl-K finds besides pages: names, ids, delivery and correlation ids. By index, never by substring of bodies."""
    term = term.strip().removeprefix("#")[:255]
    if "\0" in term:
        return []
    found: list[SearchResult] = []
    for label, icon, rows in _searches(term):
        if _may_view(request, label):
            found += [_result(label, icon, row) for row in rows[:SEARCH_ROWS]]
    return found


def _searches(term: str) -> list[tuple[str, str, QuerySet[Any]]]:
    number = Q(pk=int(term)) if term.isascii() and term.isdigit() and len(term) <= 18 else Q(pk__in=[])
    name, trace = Q(name__icontains=term) | number, Q(correlation_id=term) | number
    return [
        ("workflows.workflow", "account_tree", Workflow.objects.filter(name)),
        ("tasks.scheduledtask", "schedule", ScheduledTask.objects.filter(name)),
        ("inbox.source", "sensors", Source.objects.filter(name__icontains=term)),
        ("inbox.webhook", "inbox", Webhook.objects.without_bodies().filter(trace | Q(delivery_id=term))),
        ("workflows.workflowexecution", "play_circle", WorkflowExecution.objects.filter(trace)),
        ("tasks.taskexecution", "history", TaskExecution.objects.filter(trace)),
        ("apilogs.apilog", "receipt_long", ApiLog.objects.without_payloads().filter(trace)),
    ]


def _result(label: str, icon: str, row: Model) -> SearchResult:
    group = next(title for title, entries in GROUPS for entry in entries if entry[2] == label)
    return SearchResult(title=str(row), description=group, link=show.object_url(label, row.pk), icon=icon)


# --- previews ---------------------------------------------------------------------------------------------------------


@require_POST
def preview_retry_policy(request: HttpRequest) -> JsonResponse:
    """What a retry policy means, while it is typed."""
    try:
        asked = parse_api_body(request.body)
        policy = asked.get("retry_policy") if isinstance(asked, dict) else None
        if not isinstance(policy, dict):
            raise Invalid("A retry policy is a JSON object.")
        return JsonResponse({"explanation": retry_words.explain(policy)})
    except Invalid as error:
        return JsonResponse({"detail": error.message, "errors": error.errors}, status=400)


# --- one correlation id -----------------------------------------------------------------------------------------------


def extra_urls() -> list[URLPattern]:
    return [
        path("trace/<path:correlation_id>/", admin.site.admin_view(trace), name="trace"),
        path("preview-retry-policy/", admin.site.admin_view(preview_retry_policy), name="preview_retry_policy"),
    ]


def trace(request: HttpRequest, correlation_id: str) -> HttpResponse:
    """Everything that one request set off, in all four apps."""
    correlation_id = correlation_id.replace("\0", "\ufffd")  # the database refuses NUL
    panels = [
        panel
        for label, build in (
            ("inbox.webhook", _webhooks),
            ("workflows.workflowexecution", _workflow_runs),
            ("tasks.taskexecution", _task_runs),
            ("apilogs.apilog", _requests),
        )
        if _may_view(request, label)
        for panel in [build(correlation_id)]
    ]
    page = {
        **admin.site.each_context(request),
        "title": "Trace",
        "correlation_id": correlation_id,
        "panels": [panel for panel in panels if panel.rows],
    }
    return TemplateResponse(request, "automation_lab/trace.html", page)


def _webhooks(correlation_id: str) -> Panel:
    return panel_of(
        "Webhooks",
        ["Webhook", "Status", "Source", "Event type", "Size", "Received"],
        Webhook.objects.without_bodies().filter(correlation_id=correlation_id).order_by("id"),
        lambda webhook: [
            show.object_link("inbox.webhook", webhook.pk, f"#{webhook.pk}"),
            show.state(webhook.status),
            webhook.source,
            webhook.event_type or show.EMPTY,
            show.size(webhook.size_bytes),
            show.when(webhook.received_at),
        ],
        limit=TRACE_ROWS,
        url=show.list_url("inbox.webhook", q=correlation_id),
    )


def _workflow_runs(correlation_id: str) -> Panel:
    runs = WorkflowExecution.objects.filter(correlation_id=correlation_id).select_related("workflow").order_by("id")
    return _runs("Workflow runs", "workflows.workflowexecution", runs, lambda run: run.workflow.name, correlation_id)


def _task_runs(correlation_id: str) -> Panel:
    runs = TaskExecution.objects.filter(correlation_id=correlation_id).select_related("task").order_by("id")
    return _runs("Task runs", "tasks.taskexecution", runs, lambda run: run.task.name, correlation_id)


def _runs(title: str, label: str, runs: QuerySet[Any], name: Any, correlation_id: str) -> Panel:
    return panel_of(
        title,
        ["Run", "Status", "Of", "Duration", "Started", "Error"],
        runs,
        lambda run: [
            show.object_link(label, run.pk, f"#{run.pk}"),
            show.state(run.status),
            name(run),
            show.duration(run.duration_ms),
            show.when(run.started_at),
            show.shortened(run.error_message),
        ],
        limit=TRACE_ROWS,
        url=show.list_url(label, q=correlation_id),
    )


def _requests(correlation_id: str) -> Panel:
    return panel_of(
        "API requests",
        ["Request", "Method", "Path", "Status", "Duration", "Arrived"],
        ApiLog.objects.without_payloads().filter(correlation_id=correlation_id).order_by("created_at", "id"),
        lambda log: [
            show.object_link("apilogs.apilog", log.pk, f"#{log.pk}"),
            log.method,
            show.mono(show.shortened(log.path)),
            show.status_code(log.status_code),
            show.duration(log.duration_ms),
            show.when(log.created_at),
        ],
        limit=TRACE_ROWS,
        url=show.list_url("apilogs.apilog", q=correlation_id),
    )
