"""Webhooks on their way to other addresses, and the counters of the rate limits, in the console."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from automation_lab.core.admin import Panel, ReadOnlyAdmin, json_column, section, when_column
from automation_lab.core.console import display as show
from automation_lab.core.execution.admin import (
    ExecutionAdmin,
    ExecutionAttemptAdmin,
    attempts_panel,
    cancel_action,
    reference_column,
)
from inbox.console import words
from inbox.models import Forward, ForwardAttempt, RateWindow
from inbox.replaying import replays


@admin.register(Forward)
class ForwardAdmin(ExecutionAdmin):
    list_display = [
        "show_id",
        "show_status",
        "show_webhook",
        "show_target",
        "mode",
        "attempt",
        "show_duration",
        "show_created_at",
    ]
    list_filter = [("status", ChoicesDropdownFilter), ("mode", ChoicesDropdownFilter)]
    empty_template = "inbox/empty_forwards.html"
    list_defer = ["answer"]
    search_help_text = "A forward's id or correlation id, whole"
    actions_detail = ["cancel"]
    fieldsets = [
        section(None, "show_status|show_webhook target|mode trigger|show_replay show_trace|show_error"),
        section("Answer", "show_answer"),
        section("Timing", "show_created_at show_due_at show_started_at show_finished_at show_duration attempt"),
    ]

    show_answer = json_column("answer")
    show_webhook = reference_column("webhook", "Webhook")
    cancel = cancel_action("Cancel this forward", "A request that is under way is cut off.", "Cancel the forward")

    @display(description="To")
    def show_target(self, forward: Forward) -> Any:
        return show.shortened(forward.target)

    @display(description="Ordered by")
    def show_replay(self, forward: Forward) -> SafeString:
        return show.object_link("inbox.replay", forward.replay_id, f"replay #{forward.replay_id}")

    def cancel_one(self, execution: Forward) -> None:
        replays.cancel_forward(forward=execution)

    def get_panels(self, request: HttpRequest, instance: Forward) -> list[Panel]:
        url = show.list_url("inbox.forwardattempt", forward__id__exact=instance.pk)
        return [attempts_panel(instance.attempts.all(), url=url)]


@admin.register(ForwardAttempt)
class ForwardAttemptAdmin(ExecutionAttemptAdmin):
    search_exact = ["forward_id"]
    search_help_text = "The id of a forward"

    show_owner = reference_column("forward", "Forward")


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
