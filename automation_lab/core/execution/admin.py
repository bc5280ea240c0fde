"""What the pages of executions, attempts and log lines share; the apps add what is theirs."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

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
from automation_lab.core.console import display as show
from automation_lab.core.execution.models import Execution, ExecutionAttempt, LogLine

PANEL_ROWS = 20


def reference_column(name: str, description: str) -> Any:
    """A link, by its id, to the row that the foreign key `name` names: the row itself is not read."""

    @display(description=description)
    def show_reference(admin: ReadOnlyAdmin, instance: Any) -> SafeString:
        field = instance._meta.get_field(name)
        pk = getattr(instance, field.attname)
        return show.object_link(field.related_model._meta.label_lower, pk, f"#{pk}")

    return show_reference


class HistoryAdmin(ReadOnlyAdmin):
    """Rows with a status and times, newest first."""

    list_display_links = ["show_id"]
    list_filter: Any = [("status", ChoicesDropdownFilter)]
    ordering = ["-id"]
    sortable_by: list[str] = []

    show_id = id_column
    show_status = state_column()
    show_duration = duration_column()
    show_started_at = when_column("started_at")
    show_finished_at = when_column("finished_at")


class ExecutionAdmin(HistoryAdmin):
    """`cancel_one` calls the app's service; `cancel = cancel_action(...)` is its button."""

    search_exact = ["id", "correlation_id"]
    search_help_text = "A run's id or correlation id, whole"
    date_hierarchy = "created_at"

    show_error = text_column("error_message", "Error")
    show_created_at = when_column("created_at")
    show_due_at = when_column("due_at")
    show_cancel_requested_at = when_column("cancel_requested_at")
    show_deadline_at = when_column("deadline_at")
    show_trace = trace_column

    class Media:
        js = [Script("automation_lab/run_page.js", type="module")]

    @display(description="Error")
    def show_error_start(self, execution: Execution) -> Any:
        return show.shortened(execution.error_message, 60)

    def is_live(self, instance: Execution) -> bool:
        return not instance.is_finished

    def offers(self, instance: Any, name: str) -> bool:
        return not instance.is_finished

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, f"{self.opts.app_label}.change_{self.opts.model_name}")

    def cancel_one(self, execution: Any) -> None:
        raise NotImplementedError

    @action(description="Cancel selected runs", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self.act_on_all(request, queryset, self.cancel_one, "Cancel requested.")


def cancel_action(title: str, text: str, submit: str) -> Any:
    """The detail action "Cancel" of an ExecutionAdmin, which asks first."""

    @action(
        description="Cancel",
        url_path="cancel",
        icon="cancel",
        variant=ActionVariant.DANGER,
        permissions=["cancel"],
        dialog=confirmation(title, text, submit),
    )
    def cancel(self: ExecutionAdmin, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        def request_cancel(execution: Execution) -> str:
            self.cancel_one(execution)
            return "Cancel requested."

        return self.act(request, object_id, request_cancel)

    return cancel


class ExecutionAttemptAdmin(HistoryAdmin):
    """`show_owner = reference_column(...)` links what was tried."""

    list_display = ["show_id", "show_status", "show_owner", "number", "error_class", "show_duration", "show_started_at"]
    list_defer = ["answer", "error_message"]
    fieldsets = [
        section(None, "show_owner|show_status number|epoch worker|error_class show_error"),
        section("Answer", "show_answer"),
        section("Timing", "show_started_at|show_finished_at show_duration show_next_attempt_at|next_reason"),
    ]

    show_error = text_column("error_message", "Error")
    show_answer = json_column("answer")
    show_next_attempt_at = when_column("next_attempt_at")


def attempts_panel(attempts: Any, *, url: str) -> Panel:
    """The first attempts of one execution; `url` leads to all of them."""
    headers = ["#", "Status", "Error", "Answer", "Duration", "Started", "Worker", "Next"]
    return panel_of("Attempts", headers, attempts.order_by("epoch"), _attempt_cells, limit=PANEL_ROWS, url=url)


def _attempt_cells(attempt: ExecutionAttempt) -> list[Any]:
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


class LogLineAdmin(ReadOnlyAdmin):
    """Log lines of executions, newest first."""

    list_display = ["show_at", "show_level", "show_execution", "show_text_start"]
    list_filter = [("level", ChoicesDropdownFilter)]
    search_exact = ["execution_id"]
    search_help_text = "The id of a run"
    ordering = ["-id"]
    sortable_by: list[str] = []
    fieldsets = [section(None, "show_execution show_at show_level epoch seq show_text")]

    show_at = when_column("at", "When")
    show_level = state_column("level", "Level")
    show_execution = reference_column("execution", "Run")
    show_text = text_column("text")

    @display(description="Text")
    def show_text_start(self, line: LogLine) -> Any:
        return show.shortened(line.text, 160)
