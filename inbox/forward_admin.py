"""Webhooks on their way to other addresses, and the counters of the rate limits, in the console."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
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
from inbox import replay_admin, replays
from inbox.console import words
from inbox.models import Forward, RateWindow

PANEL_ROWS = 20


@admin.register(Forward)
class ForwardAdmin(ReadOnlyAdmin):
    list_display = [
        "show_id",
        "show_status",
        "webhook_link",
        "show_target",
        "mode",
        "attempt",
        "show_duration",
        "show_when",
    ]
    list_display_links = ["show_id"]
    list_filter = [("status", ChoicesDropdownFilter), ("mode", ChoicesDropdownFilter)]
    empty_template = "inbox/empty_forwards.html"
    list_defer = ["answer"]
    date_hierarchy = "created_at"
    search_exact = ["id", "correlation_id"]
    sortable_by: list[str] = []
    actions_detail = ["cancel"]
    fieldsets = [
        section(None, "show_status|webhook_link target|mode trigger|show_replay show_trace|show_error"),
        section("Answer", "show_answer"),
        section("Timing", "show_when show_due_at show_started_at show_finished_at show_duration attempt"),
    ]

    show_id = id_column
    show_status = state_column()
    show_duration = duration_column()
    show_when = when_column("created_at")
    show_due_at = when_column("due_at")
    show_started_at = when_column("started_at")
    show_finished_at = when_column("finished_at")
    show_answer = json_column("answer")
    show_error = text_column("error_message", "Error")
    show_trace = trace_column

    @display(description="Webhook")
    def webhook_link(self, forward: Forward) -> SafeString:
        return show.object_link("inbox.webhook", forward.webhook_id, f"#{forward.webhook_id}")

    @display(description="To")
    def show_target(self, forward: Forward) -> Any:
        return show.shortened(forward.target)

    @display(description="Ordered by")
    def show_replay(self, forward: Forward) -> SafeString:
        return show.object_link("inbox.replay", forward.replay_id, f"replay #{forward.replay_id}")

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "inbox.change_forward")

    def offers(self, instance: Forward, name: str) -> bool:
        return not instance.is_finished

    @action(
        description="Cancel",
        url_path="cancel",
        icon="cancel",
        variant=ActionVariant.DANGER,
        permissions=["cancel"],
        dialog=confirmation("Cancel this forward", "A request that is under way is cut off.", "Cancel the forward"),
    )
    def cancel(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        def cancel(forward: Forward) -> str:
            replays.cancel_forward(forward=forward)
            return "Cancel requested."

        return self.act(request, object_id, cancel)

    def get_panels(self, request: HttpRequest, instance: Forward) -> list[Panel]:
        return [
            panel_of(
                "Attempts",
                ["#", "Status", "Error", "Answer", "Duration", "Started", "Next"],
                instance.attempts.order_by("epoch"),
                replay_admin.attempt_cells,
                limit=PANEL_ROWS,
                url=show.list_url("inbox.forwardattempt", forward__id__exact=instance.pk),
            )
        ]


@admin.register(RateWindow)
class RateWindowAdmin(ReadOnlyAdmin):
    list_display = ["key", "show_limit", "count", "refused_count", "show_refused_at", "show_window_at"]
    search_exact = ["key"]
    search_help_text = "Such as source:github, whole"
    ordering = ["-window_at", "-id"]
    date_hierarchy = "window_at"
    sortable_by: list[str] = []
    fieldsets = [
        section(None, "key show_limit count|show_window_at refused_count|show_refused_at"),
    ]

    show_window_at = when_column("window_at", "Counted")
    show_refused_at = when_column("refused_at", "Last refused")

    @display(description="Limit")
    def show_limit(self, window: RateWindow) -> str:
        return f"{window.max_count:,} in {words.span(window.period_seconds)}"
