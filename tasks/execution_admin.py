"""Runs of tasks in the console, with their attempts and logs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from automation_lab.core import display as show
from automation_lab.core.admin import (
    Panel,
    ReadOnlyAdmin,
    confirmation,
    duration_column,
    id_column,
    json_column,
    panel_of,
    section,
    state_column,
    text_column,
    trace_column,
    when_column,
)
from automation_lab.core.console_forms import TimeRangeFilter
from tasks import command_access, services
from tasks.models import TaskAttempt, TaskExecution, TaskLog

PANEL_ROWS = 20
LOG_LINES = 200


@admin.register(TaskExecution)
class TaskExecutionAdmin(ReadOnlyAdmin):
    list_display = [
        "show_id",
        "show_status",
        "show_task",
        "show_trigger",
        "attempt",
        "show_duration",
        "show_created_at",
        "show_error_start",
    ]
    list_display_links = ["show_id"]
    list_filter = [
        ("status", ChoicesDropdownFilter),
        ("trigger", ChoicesDropdownFilter),
        ("task", AutocompleteSelectFilter),
        ("created_at", TimeRangeFilter),
    ]
    list_select_related = ["task"]
    list_defer = ["input_data", "output_data", "task__config", "task__last_output"]
    search_exact = ["id", "correlation_id"]
    search_help_text = "A run's id or correlation id, whole"
    date_hierarchy = "created_at"
    sortable_by: list[str] = []
    actions = ["cancel_selected"]
    actions_detail = ["cancel", "retry"]
    fieldsets = [
        section(
            None,
            "show_status|show_task show_trigger|show_retry_of show_created_at|show_duration "
            "show_trace|idempotency_key show_error",
        ),
        section("Data", "show_input show_output"),
        section(
            "Timing",
            "show_scheduled_for|count show_started_at|show_finished_at show_due_at|show_deadline_at show_cancel_requested_at",
        ),
        section("Engine", "attempt|epoch worker|job_id priority", collapsed=True),
    ]

    show_id = id_column
    show_status = state_column()
    show_duration = duration_column()
    show_input = json_column("input_data", "Input")
    show_output = json_column("output_data", "Output")
    show_error = text_column("error_message", "Error")
    show_scheduled_for = when_column("scheduled_for")
    show_created_at = when_column("created_at")
    show_due_at = when_column("due_at")
    show_started_at = when_column("started_at")
    show_finished_at = when_column("finished_at")
    show_cancel_requested_at = when_column("cancel_requested_at")
    show_deadline_at = when_column("deadline_at")
    show_trace = trace_column

    @display(description="Task")
    def show_task(self, execution: TaskExecution) -> SafeString:
        return show.object_link("tasks.scheduledtask", execution.task_id, execution.task.name)

    @display(description="Trigger")
    def show_trigger(self, execution: TaskExecution) -> str:
        return execution.trigger

    @display(description="Retry of")
    def show_retry_of(self, execution: TaskExecution) -> SafeString:
        return show.object_link("tasks.taskexecution", execution.retry_of_id, f"#{execution.retry_of_id}")

    @display(description="Error")
    def show_error_start(self, execution: TaskExecution) -> Any:
        return show.shortened(execution.error_message, 60)

    class Media:
        js = [Script("automation_lab/run_page.js", type="module")]

    def is_live(self, instance: TaskExecution) -> bool:
        return not instance.is_finished

    def offers(self, instance: TaskExecution, name: str) -> bool:
        return instance.is_finished if name == "retry" else not instance.is_finished

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "tasks.change_taskexecution")

    def has_retry_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "tasks.add_taskexecution")

    @action(
        description="Cancel",
        url_path="cancel",
        icon="cancel",
        variant=ActionVariant.DANGER,
        permissions=["cancel"],
        dialog=confirmation("Cancel this run", "A request that is under way is cut off.", "Cancel the run"),
    )
    def cancel(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        def cancel(execution: TaskExecution) -> str:
            services.cancel_execution(execution=execution)
            return "Cancel requested."

        return self.act(request, object_id, cancel)

    @action(
        description="Retry",
        url_path="retry",
        icon="replay",
        permissions=["retry"],
        dialog=confirmation("Run this again", "A new run with the same input, linked to this one.", "Retry"),
    )
    def retry(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        def retry(execution: TaskExecution) -> str:
            command_access.check_task(request.user, execution.task)
            return f"Run #{services.retry_execution(execution=execution).pk} is queued."

        return self.act(request, object_id, retry)

    @action(description="Cancel selected runs", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[TaskExecution]) -> None:
        self.act_on_all(
            request, queryset, lambda execution: services.cancel_execution(execution=execution), "Cancel requested."
        )

    def get_panels(self, request: HttpRequest, instance: TaskExecution) -> list[Panel]:
        return [
            panel_of(
                "Attempts",
                ["#", "Status", "Error", "Answer", "Duration", "Started", "Worker", "Next"],
                instance.attempts.order_by("epoch"),
                attempt_cells,
                limit=PANEL_ROWS,
                url=show.list_url("tasks.taskattempt", execution__id__exact=instance.pk),
            ),
            panel_of(
                "Log",
                ["When", "Level", "Text"],
                instance.log_lines.order_by("epoch", "seq"),
                lambda line: [show.clock(line.at), show.state(line.level), show.preformatted(line.text)],
                limit=LOG_LINES,
                url=show.list_url("tasks.tasklog", execution__id__exact=instance.pk),
            ),
        ]


def attempt_cells(attempt: TaskAttempt) -> list[Any]:
    error = " ".join(part for part in (attempt.error_class, attempt.error_message) if part)
    upcoming = attempt.next_attempt_at
    return [
        attempt.number,
        show.state(attempt.status),
        show.shortened(error, 160),
        show.folded("Answer", show.json_view(attempt.answer)) if attempt.answer is not None else show.EMPTY,
        show.duration(attempt.duration_ms),
        show.clock(attempt.started_at),
        attempt.worker,
        show.two_lines(show.clock(upcoming), attempt.next_reason) if upcoming else show.EMPTY,
    ]


@admin.register(TaskAttempt)
class TaskAttemptAdmin(ReadOnlyAdmin):
    list_display = [
        "show_id",
        "show_status",
        "show_execution",
        "number",
        "error_class",
        "show_duration",
        "show_started_at",
    ]
    list_display_links = ["show_id"]
    list_filter = [("status", ChoicesDropdownFilter)]
    list_defer = ["answer", "error_message"]
    search_exact = ["execution_id"]
    search_help_text = "The id of a run"
    ordering = ["-id"]
    sortable_by: list[str] = []
    fieldsets = [
        section(None, "show_execution|show_status number|epoch worker|error_class show_error"),
        section("Answer", "show_answer"),
        section("Timing", "show_started_at|show_finished_at show_duration show_next_attempt_at|next_reason"),
    ]

    show_id = id_column
    show_status = state_column()
    show_error = text_column("error_message", "Error")
    show_answer = json_column("answer")
    show_duration = duration_column()
    show_started_at = when_column("started_at")
    show_finished_at = when_column("finished_at")
    show_next_attempt_at = when_column("next_attempt_at")

    @display(description="Run")
    def show_execution(self, attempt: TaskAttempt) -> SafeString:
        return show.object_link("tasks.taskexecution", attempt.execution_id, f"#{attempt.execution_id}")


@admin.register(TaskLog)
class TaskLogAdmin(ReadOnlyAdmin):
    list_display = ["show_at", "show_level", "show_execution", "show_text_start"]
    list_filter = [("level", ChoicesDropdownFilter)]
    search_exact = ["execution_id"]
    search_help_text = "The id of a run"
    ordering = ["-id"]
    sortable_by: list[str] = []
    fieldsets = [
        section(None, "show_execution show_at show_level epoch seq show_text"),
    ]

    show_at = when_column("at", "When")
    show_level = state_column("level", "Level")
    show_text = text_column("text")

    @display(description="Run")
    def show_execution(self, line: TaskLog) -> SafeString:
        return show.object_link("tasks.taskexecution", line.execution_id, f"#{line.execution_id}")

    @display(description="Text")
    def show_text_start(self, line: TaskLog) -> Any:
        return show.shortened(line.text, 160)
