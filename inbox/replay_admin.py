"""Webhooks sent again, in the console: replays, the attempts of forwards, saved views."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter
from unfold.decorators import display

from automation_lab.core import display as show
from automation_lab.core.admin import (
    LabModelAdmin,
    Panel,
    ReadOnlyAdmin,
    duration_column,
    id_column,
    json_column,
    panel_of,
    section,
    state_column,
    text_column,
    when_column,
)
from inbox.models import ForwardAttempt, Replay, SavedView

PANEL_ROWS = 20
SHOWN_OPTIONS = ("workflow", "url", "mode", "retry_policy")
"""The other options hold headers, bodies and signing secrets."""


@admin.register(Replay)
class ReplayAdmin(ReadOnlyAdmin):
    list_display = [
        "show_id",
        "show_status",
        "target",
        "show_progress",
        "failed_count",
        "created_by",
        "show_created_at",
    ]
    list_display_links = ["show_id"]
    list_filter = [("status", ChoicesDropdownFilter)]
    list_defer = ["webhook_ids", "options", "filters"]
    search_exact = ["id"]
    date_hierarchy = "created_at"
    sortable_by: list[str] = []
    fieldsets = [
        section(
            None,
            "show_status|target show_progress|failed_count rate_per_second|created_by show_options show_filters show_error",
        ),
        section("Timing", "show_created_at|show_due_at show_started_at|show_finished_at show_cancel_requested_at"),
    ]

    show_id = id_column
    show_status = state_column()
    show_filters = json_column("filters", "Selection")
    show_error = text_column("error_message", "Error")
    show_created_at = when_column("created_at")
    show_due_at = when_column("due_at")
    show_started_at = when_column("started_at")
    show_finished_at = when_column("finished_at")
    show_cancel_requested_at = when_column("cancel_requested_at")

    @display(description="Done")
    def show_progress(self, replay: Replay) -> str:
        return f"{replay.position} of {replay.total_count}"

    @display(description="Options")
    def show_options(self, replay: Replay) -> SafeString:
        return show.json_block({name: replay.options[name] for name in SHOWN_OPTIONS if name in replay.options})

    def get_panels(self, request: HttpRequest, instance: Replay) -> list[Panel]:
        return [
            panel_of(
                "Forwards",
                ["Forward", "Status", "Webhook", "To", "Attempt", "Duration", "Error"],
                instance.forwards.order_by("-id").defer("answer"),
                lambda forward: [
                    show.object_link("inbox.forward", forward.pk, f"#{forward.pk}"),
                    show.state(forward.status),
                    show.object_link("inbox.webhook", forward.webhook_id, f"#{forward.webhook_id}"),
                    show.shortened(forward.target),
                    forward.attempt,
                    show.duration(forward.duration_ms),
                    show.shortened(forward.error_message),
                ],
                limit=PANEL_ROWS,
                url=show.list_url("inbox.forward", replay__id__exact=instance.pk),
            )
        ]


def attempt_cells(attempt: ForwardAttempt) -> list[Any]:
    return [
        attempt.number,
        show.state(attempt.status),
        show.shortened(" ".join(part for part in (attempt.error_class, attempt.error_message) if part)),
        show.folded("Answer", show.json_view(attempt.answer)) if attempt.answer is not None else show.EMPTY,
        show.duration(attempt.duration_ms),
        show.when(attempt.started_at),
        show.when(attempt.next_attempt_at),
    ]


@admin.register(ForwardAttempt)
class ForwardAttemptAdmin(ReadOnlyAdmin):
    list_display = [
        "show_id",
        "show_status",
        "show_forward",
        "number",
        "error_class",
        "show_duration",
        "show_started_at",
    ]
    list_display_links = ["show_id"]
    list_filter = [("status", ChoicesDropdownFilter)]
    list_defer = ["answer", "error_message"]
    search_exact = ["forward_id"]
    search_help_text = "The id of a forward"
    ordering = ["-id"]
    sortable_by: list[str] = []
    fieldsets = [
        section(None, "show_forward|show_status number|epoch worker|error_class show_error"),
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

    @display(description="Forward")
    def show_forward(self, attempt: ForwardAttempt) -> SafeString:
        return show.object_link("inbox.forward", attempt.forward_id, f"#{attempt.forward_id}")


@admin.register(SavedView)
class SavedViewAdmin(LabModelAdmin):
    list_display = ["name", "show_query", "owner", "shared", "show_updated_at"]
    list_filter = [("shared", BooleanRadioFilter)]
    list_select_related = ["owner"]
    search_fields = ["name"]
    autocomplete_fields = ["owner"]
    date_hierarchy = "created_at"
    fieldsets = [section(None, "name query owner shared")]

    show_updated_at = when_column("updated_at", "Changed")

    @display(description="Query")
    def show_query(self, view: SavedView) -> Any:
        return show.shortened(view.query)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk, **super().get_changeform_initial_data(request)}
