"""Webhooks sent again, in the console: replays, and the saved views that they are chosen by."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from automation_lab.core.admin import (
    Panel,
    ServiceAdmin,
    confirmation,
    json_column,
    panel_of,
    section,
    text_column,
    when_column,
)
from automation_lab.core.console import display as show
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.admin import PANEL_ROWS, ExecutionAdmin
from automation_lab.core.registry import replay_targets
from inbox.models import Forward, Replay, SavedView
from inbox.replaying import replays
from inbox.searching import saved_views

SHOWN_OPTIONS = ("workflow", "url", "mode", "retry_policy")
"""The other options hold headers, bodies and signing secrets."""


@admin.register(Replay)
class ReplayAdmin(ExecutionAdmin):
    list_display = [
        "show_id",
        "show_status",
        "target",
        "show_progress",
        "show_counts",
        "created_by",
        "show_created_at",
    ]
    empty_template = "inbox/empty_replays.html"
    list_defer = ["webhook_ids", "options", "filters"]
    search_exact = ["id"]
    search_help_text = "A replay's id"
    actions_detail = ["stop"]
    fieldsets = [
        section(
            None,
            "show_status|target show_progress|show_counts show_why show_outcomes|rate_per_second created_by show_options "
            "show_filters",
        ),
        section("Timing", "show_created_at|show_due_at show_started_at|show_finished_at show_cancel_requested_at"),
    ]

    show_filters = json_column("filters", "Selection")
    show_why = text_column("error_message", "Why")

    class Media:
        css = {"all": ["inbox/inbox.css"]}

    @display(description="Done")
    def show_progress(self, replay: Replay) -> SafeString:
        return format_html(
            '<progress max="{}" value="{}"></progress> {} of {}',
            replay.total_count,
            replay.position,
            f"{replay.position:,}",
            f"{replay.total_count:,}",
        )

    @display(description="Handed over")
    def show_counts(self, replay: Replay) -> SafeString:
        refused = [show.label(f"{replay.failed_count:,} refused", "bad")] if replay.failed_count else []
        return show.joined([f"{replay.done_count:,} started", *refused])

    @display(description="What it started")
    def show_outcomes(self, replay: Replay) -> SafeString:
        found = replays.outcomes(replay) if replay.target in replay_targets else {}
        return show.joined(show.state(status, f"{number:,} {status}") for status, number in found.items())

    def has_stop_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "inbox.change_replay")

    @action(
        description="Stop",
        url_path="stop",
        icon="stop_circle",
        variant=ActionVariant.DANGER,
        permissions=["stop"],
        dialog=confirmation(
            "Stop this replay", "Nothing more starts, and what waits is cancelled. What was sent stays sent.", "Stop"
        ),
    )
    def stop(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        def stop(replay: Replay) -> str:
            replays.stop_replay(replay=replay)
            return "Stopped."

        return self.act(request, object_id, stop)

    @display(description="Options")
    def show_options(self, replay: Replay) -> SafeString:
        return show.json_block({name: replay.options[name] for name in SHOWN_OPTIONS if name in replay.options})

    def get_panels(self, request: HttpRequest, instance: Replay) -> list[Panel]:
        if instance.target not in replay_targets:
            return []
        started = replay_targets.get(instance.target).executions(instance).order_by("-id")
        return [_forwards(instance, started) if started.model is Forward else _runs(instance, started)]


def _forwards(replay: Replay, forwards: QuerySet[Forward]) -> Panel:
    return panel_of(
        "Forwards",
        ["Forward", "Status", "Webhook", "To", "Attempt", "Duration", "Error"],
        forwards.defer("answer"),
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
        url=show.list_url("inbox.forward", replay__id__exact=replay.pk),
    )


def _runs(replay: Replay, runs: QuerySet[Any]) -> Panel:
    """As the target gives them: the inbox knows nothing of workflows."""
    return panel_of(
        "Workflow runs",
        ["Run", "Status", "Webhook", "Workflow", "Steps", "Duration", "Error"],
        runs.select_related("workflow"),
        lambda run: [
            show.object_link(run._meta.label, run.pk, f"#{run.pk}"),
            show.state(run.status),
            show.object_link("inbox.webhook", run.webhook_id, f"#{run.webhook_id}"),
            show.object_link(run.workflow._meta.label, run.workflow_id, run.workflow.name),
            f"{run.current_step} of {run.total_steps}",
            show.duration(run.duration_ms),
            show.shortened(run.error_message),
        ],
        limit=PANEL_ROWS,
        url=reverse("admin:trace", args=[replay.correlation_id]) if replay.correlation_id else "",
    )


class SavedViewForm(forms.ModelForm):
    """A query that the list and the API both understand."""

    def clean_query(self) -> str:
        try:
            return saved_views.normalised_query(self.cleaned_data["query"])
        except Invalid as error:
            raise forms.ValidationError(error.message) from error


@admin.register(SavedView)
class SavedViewAdmin(ServiceAdmin):
    """One's own views, and those that others share; only the owner changes one."""

    form = SavedViewForm
    list_display = ["name", "show_query", "owner", "shared", "show_updated_at"]
    list_filter = [("shared", BooleanRadioFilter)]
    list_select_related = ["owner"]
    empty_template = "inbox/empty_views.html"
    search_fields = ["name"]
    date_hierarchy = "created_at"
    fieldsets = [section(None, "name query shared")]

    show_updated_at = when_column("updated_at", "Changed")

    def get_queryset(self, request: HttpRequest) -> QuerySet[SavedView]:
        found = super().get_queryset(request)
        if request.user.is_superuser:
            return found
        return found.filter(Q(owner=request.user.pk) | Q(shared=True))

    def has_change_permission(self, request: HttpRequest, obj: SavedView | None = None) -> bool:
        return super().has_change_permission(request, obj) and self._is_own(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: SavedView | None = None) -> bool:
        return super().has_delete_permission(request, obj) and self._is_own(request, obj)

    def _is_own(self, request: HttpRequest, view: SavedView | None) -> bool:
        return view is None or view.owner_id == request.user.pk or request.user.is_superuser

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[SavedView]) -> None:
        super().delete_queryset(
            request, queryset if request.user.is_superuser else queryset.filter(owner=request.user.pk)
        )

    @display(description="Query")
    def show_query(self, view: SavedView) -> Any:
        return show.link(f"{show.list_url('inbox.webhook')}?{view.query}", show.shortened(view.query) or "everything")

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> SavedView:
        view = SavedView(owner=request.user)  # type: ignore[misc]  # somebody is signed in
        return saved_views.save_view(view=view, **fields)

    def update(self, request: HttpRequest, instance: SavedView, changes: dict[str, Any]) -> SavedView:
        return saved_views.save_view(view=instance, **changes)

    def destroy(self, instance: SavedView) -> None:
        instance.delete()

    def response_add(self, request: HttpRequest, obj: SavedView, post_url_continue: str | None = None) -> HttpResponse:
        self.message_user(request, f"Saved: {obj.name} stands above the list.", messages.SUCCESS)
        return HttpResponseRedirect(f"{show.list_url('inbox.webhook')}?{obj.query}")
