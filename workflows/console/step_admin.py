"""Steps of runs in the console, with their attempts, logs and links."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from automation_lab.core.admin import Panel, ReadOnlyAdmin, id_column, json_column, panel_of, section, when_column
from automation_lab.core.console import display as show
from automation_lab.core.console.pages import row_or_404
from automation_lab.core.execution.admin import HistoryAdmin, LogLineAdmin, reference_column
from workflows.console.approval_console import approval_view
from workflows.models import StepAttempt, StepExecution, WaitToken, WorkflowLog

PANEL_ROWS = 20


@admin.register(StepExecution)
class StepExecutionAdmin(HistoryAdmin):
    list_display = [
        "show_id",
        "show_status",
        "show_execution",
        "path",
        "type",
        "attempt",
        "show_duration",
        "show_started_at",
    ]
    list_defer = ["input", "output", "error"]
    search_exact = ["id", "execution_id"]
    search_help_text = "The id of a step or of a run"
    fieldsets = [
        section(None, "show_execution|show_status path|type name|attempt generation|interruptions idempotency_key"),
        section("Data", "show_input show_output show_error"),
        section("Timing", "show_started_at|show_finished_at show_duration|show_scheduled_at show_next_attempt_at"),
    ]

    show_execution = reference_column("execution", "Run")
    show_input = json_column("input")
    show_output = json_column("output")
    show_error = json_column("error")
    show_scheduled_at = when_column("scheduled_at")
    show_next_attempt_at = when_column("next_attempt_at")

    def get_panels(self, request: HttpRequest, instance: StepExecution) -> list[Panel]:
        return [attempts_panel(instance)]

    def get_urls(self) -> list[URLPattern]:
        return [
            path("<int:pk>/data/", self.admin_site.admin_view(self.data_view), name="workflows_stepexecution_data"),
            path(
                "<int:pk>/approve/",
                self.admin_site.admin_view(self.approve_view),
                name="workflows_stepexecution_approve",
            ),
            *super().get_urls(),
        ]

    def data_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What the step got and gave, as a part of the page of its run."""
        step = row_or_404(self, request, pk)
        if not self.has_view_permission(request, step):
            raise PermissionDenied
        panel = attempts_panel(step)
        attempts = render_to_string("automation_lab/panel.html", {"panel": panel}) if len(panel.rows) > 1 else ""
        given = [("Input", step.input), ("Output", step.output), ("Error", step.error)]
        parts = [{"title": title, "content": show.json_view(value)} for title, value in given if value is not None]
        url = show.object_url("workflows.stepexecution", step.pk)
        return render(
            request, "workflows/step_data.html", {"step": step, "parts": parts, "attempts": attempts, "url": url}
        )

    def approve_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not self.allows(request, "workflows.change_workflowexecution"):
            raise PermissionDenied
        return approval_view(self, request, pk)


def attempts_panel(step: StepExecution) -> Panel:
    return panel_of(
        "Attempts",
        ["#", "Status", "Error", "Duration", "Started", "Worker"],
        step.attempts.order_by("epoch", "id"),
        lambda attempt: [
            attempt.number,
            show.state(attempt.status),
            show.folded("Error", show.json_view(attempt.error)) if attempt.error is not None else show.EMPTY,
            show.duration(attempt.duration_ms),
            show.when(attempt.started_at),
            attempt.worker,
        ],
        limit=PANEL_ROWS,
        url=show.list_url("workflows.stepattempt", step__id__exact=step.pk),
    )


@admin.register(StepAttempt)
class StepAttemptAdmin(HistoryAdmin):
    list_display = [
        "show_id",
        "show_status",
        "show_step",
        "number",
        "epoch",
        "worker",
        "show_duration",
        "show_started_at",
    ]
    list_defer = ["error"]
    search_exact = ["step_id"]
    search_help_text = "The id of a step"
    fieldsets = [
        section(None, "show_step show_status number epoch worker show_error"),
        section("Timing", "show_started_at show_finished_at show_duration"),
    ]

    show_step = reference_column("step", "Step")
    show_error = json_column("error")


@admin.register(WorkflowLog)
class WorkflowLogAdmin(LogLineAdmin):
    list_display = ["show_at", "show_level", "show_execution", "path", "show_text_start"]
    fieldsets = [section(None, "show_execution path show_at show_level epoch seq show_text")]


@admin.register(WaitToken)
class WaitTokenAdmin(ReadOnlyAdmin):
    """The links themselves are known to those who got them; here is whether they were used."""

    list_display = ["show_id", "kind", "show_step", "show_expires_at", "show_used_at"]
    list_display_links = ["show_id"]
    list_filter = [("kind", ChoicesDropdownFilter)]
    list_defer = ["token_hash"]
    date_hierarchy = "created_at"
    search_exact = ["id", "step_id"]
    sortable_by: list[str] = []
    fieldsets = [section(None, "kind show_step show_created_at show_expires_at show_used_at")]

    show_id = id_column
    show_step = reference_column("step", "Step")
    show_created_at = when_column("created_at")
    show_expires_at = when_column("expires_at")
    show_used_at = when_column("used_at")
