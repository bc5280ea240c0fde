"""Runs of tasks in the console, with their attempts and logs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import action, display

from automation_lab.core.admin import Panel, confirmation, json_column, panel_of, section, when_column
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import TimeRangeFilter
from automation_lab.core.execution.admin import (
    ExecutionAdmin,
    ExecutionAttemptAdmin,
    LogLineAdmin,
    attempts_panel,
    cancel_action,
    reference_column,
)
from tasks import services
from tasks.commands import access
from tasks.console import words
from tasks.models import TaskAttempt, TaskExecution, TaskLog

LOG_LINES = 200


@admin.register(TaskExecution)
class TaskExecutionAdmin(ExecutionAdmin):
    list_display = [
        "show_id",
        "show_status",
        "show_task",
        "show_trigger",
        "show_slot",
        "attempt",
        "show_duration",
        "show_created_at",
        "show_error_start",
    ]
    list_filter = [
        ("status", ChoicesDropdownFilter),
        ("trigger", ChoicesDropdownFilter),
        ("task", AutocompleteSelectFilter),
        ("created_at", TimeRangeFilter),
    ]
    list_select_related = ["task"]
    list_defer = ["input_data", "output_data", "task__config", "task__last_output"]
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

    show_input = json_column("input_data", "Input")
    show_output = json_column("output_data", "Output")
    show_scheduled_for = when_column("scheduled_for")
    show_retry_of = reference_column("retry_of", "Retry of")

    cancel = cancel_action("Cancel this run", "A request that is under way is cut off.", "Cancel the run")

    @display(description="Task")
    def show_task(self, execution: TaskExecution) -> SafeString:
        return show.object_link("tasks.scheduledtask", execution.task_id, execution.task.name)

    @display(description="Trigger")
    def show_trigger(self, execution: TaskExecution) -> str:
        return execution.trigger

    @display(description="Slot")
    def show_slot(self, execution: TaskExecution) -> SafeString:
        return words.slot_of(execution)

    def offers(self, instance: TaskExecution, name: str) -> bool:
        return instance.is_finished if name == "retry" else not instance.is_finished

    def has_retry_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "tasks.add_taskexecution")

    def cancel_one(self, execution: TaskExecution) -> None:
        services.cancel_execution(execution=execution)

    @action(
        description="Retry",
        url_path="retry",
        icon="replay",
        permissions=["retry"],
        dialog=confirmation("Run this again", "A new run with the same input, linked to this one.", "Retry"),
    )
    def retry(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        def retry(execution: TaskExecution) -> str:
            access.check_task(request.user, execution.task)
            return f"Run #{services.retry_execution(execution=execution).pk} is queued."

        return self.act(request, object_id, retry)

    def get_panels(self, request: HttpRequest, instance: TaskExecution) -> list[Panel]:
        return [
            attempts_panel(instance.attempts, url=show.list_url("tasks.taskattempt", execution__id__exact=instance.pk)),
            panel_of(
                "Log",
                ["When", "Level", "Text"],
                instance.log_lines.order_by("epoch", "seq"),
                lambda line: [show.clock(line.at), show.state(line.level), show.preformatted(line.text)],
                limit=LOG_LINES,
                url=show.list_url("tasks.tasklog", execution__id__exact=instance.pk),
            ),
        ]


@admin.register(TaskAttempt)
class TaskAttemptAdmin(ExecutionAttemptAdmin):
    search_exact = ["execution_id"]
    search_help_text = "The id of a run"

    show_owner = reference_column("execution", "Run")


admin.site.register(TaskLog, LogLineAdmin)
