"""The inbox in the console: webhooks are evidence, so only their status and notes can be changed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display

from automation_lab.core import display as show
from automation_lab.core.admin import (
    Panel,
    ReadOnlyAdmin,
    ServiceAdmin,
    column,
    duration_column,
    id_column,
    json_column,
    origin_of,
    panel_of,
    section,
    size_column,
    state_column,
    text_column,
    trace_column,
    when_column,
)
from automation_lab.core.console_forms import TimeRangeFilter, choices_of
from automation_lab.core.redaction import redact_headers
from inbox import replay_admin, services, source_admin  # noqa: F401 - two register their own
from inbox.models import Forward, RateWindow, Source, Webhook
from inbox.verification import Verification

PANEL_ROWS = 20


class SourceFilter(DropdownFilter):
    title = "source"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = [*Source.objects.values_list("name", flat=True)[:200]]
        if self.value() and self.value() not in names:
            names.insert(0, self.value())
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> QuerySet[Webhook]:
        return queryset.filter(source=self.value()) if self.value() else queryset


class VerificationFilter(DropdownFilter):
    title = "verification"
    parameter_name = "verification"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return choices_of([str(value) for value in Verification.values])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> QuerySet[Webhook]:
        if self.value() not in Verification.values:
            return queryset
        if not Verification(self.value()).accepted:
            queryset = queryset.filter(status=Webhook.Status.REJECTED)  # what every refusal is: that has an index
        return queryset.filter(verification=self.value())


class WebhookForm(forms.ModelForm):
    """A person may set received, processed or failed; rejected is what a refused sender gets."""

    class Meta:
        model = Webhook
        fields = ["status", "notes"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "status" in self.fields:
            rejected = self.instance.status == Webhook.Status.REJECTED
            offered = [
                choice for choice in Webhook.Status.choices if (choice[0] == Webhook.Status.REJECTED) is rejected
            ]
            self.fields["status"].choices = offered  # type: ignore[attr-defined]  # a choice field


@admin.register(Webhook)
class WebhookAdmin(ServiceAdmin):
    form = WebhookForm
    list_display = [
        "show_id",
        "show_status",
        "source",
        "show_event_type",
        "method",
        "show_verification",
        "show_size",
        "show_duplicate",
        "show_received_at",
    ]
    list_display_links = ["show_id"]
    list_filter = [
        ("status", ChoicesDropdownFilter),
        SourceFilter,
        VerificationFilter,
        ("is_duplicate", BooleanRadioFilter),
        ("received_at", TimeRangeFilter),
    ]
    list_defer = ["raw_body", "body", "headers", "query_params", "notes", "error_message"]
    search_exact = ["id", "delivery_id", "correlation_id", "source"]
    search_help_text = "A webhook's id, delivery id, correlation id or source, whole"
    date_hierarchy = "received_at"
    empty_template = "automation_lab/empty_webhooks.html"
    sortable_by = ["show_received_at"]
    actions = ["mark_processed", "mark_failed", "delete_selected"]
    readonly_fields = ["remote_addr", "content_type", "matched_secret"]
    fieldsets = [
        section(
            None,
            "status|show_verification show_source|show_event_type show_request|remote_addr "
            "show_received_at|show_processed_at show_trace|show_size show_error",
        ),
        section("Body", "show_body content_type|show_flags show_sha256"),
        section("Headers and query", "show_headers show_query"),
        section("Delivery", "show_delivery_id show_duplicate|matched_secret"),
        section("Notes", "notes"),
        section("As curl", "show_curl", collapsed=True),
    ]

    show_id = id_column
    show_status = state_column("status", "Status")
    show_verification = state_column("verification", "Verification")
    show_size = size_column("size_bytes")
    show_received_at = when_column("received_at", ordering=True)
    show_processed_at = when_column("processed_at")
    show_trace = trace_column
    show_sha256 = column("sha256", show.mono, "SHA-256")
    show_error = text_column("error_message", "Error")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @display(description="Source")
    def show_source(self, webhook: Webhook) -> SafeString:
        return show.link(show.list_url("inbox.webhook", source=webhook.source), webhook.source)

    @display(description="Event type")
    def show_event_type(self, webhook: Webhook) -> str:
        return show.shortened(webhook.event_type, 48)

    @display(description="Request")
    def show_request(self, webhook: Webhook) -> SafeString:
        return show.mono(f"{webhook.method} {webhook.path[:2000]}")

    @display(description="Repetition")
    def show_duplicate(self, webhook: Webhook) -> Any:
        if webhook.is_duplicate:
            first = webhook.duplicate_of_id
            return show.object_link("inbox.webhook", first, f"repeats #{first}") if first else "repeats a deleted one"
        return f"repeated {webhook.duplicate_count} times" if webhook.duplicate_count else show.EMPTY

    @display(description="Delivery id")
    def show_delivery_id(self, webhook: Webhook) -> Any:
        return show.mono(webhook.delivery_id) if webhook.delivery_id else show.EMPTY

    @display(description="Flags")
    def show_flags(self, webhook: Webhook) -> Any:
        return ", ".join(flag.replace("_", " ") for flag in webhook.flags) or show.EMPTY

    @display(description="Headers")
    def show_headers(self, webhook: Webhook) -> SafeString:
        return show.pairs_table(redact_headers(show.as_pairs(webhook.headers)))

    @display(description="Query")
    def show_query(self, webhook: Webhook) -> SafeString:
        return show.pairs_table(show.as_pairs(webhook.query_params))

    @display(description="Body")
    def show_body(self, webhook: Webhook) -> SafeString:
        raw = bytes(webhook.raw_body)
        if not raw:
            return show.muted("empty")
        views = {"Raw": show.text_block(raw.decode("utf-8", "replace")), "Hex": show.hex_block(raw)}
        if webhook.body is not None:
            views = {"Pretty": show.json_view(webhook.body), **views}
        return show.views(views, download_url=raw_url(webhook))

    @display(description="Command")
    def show_curl(self, webhook: Webhook) -> SafeString:
        headers = redact_headers(show.as_pairs(webhook.headers))
        body = bytes(webhook.raw_body[:8192]).decode("utf-8", "replace")
        return show.text_block(show.curl(webhook.method, origin_of(webhook) + webhook.path, headers, body))

    @action(description="Mark as processed", permissions=["change"])
    def mark_processed(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        self._mark(request, queryset, Webhook.Status.PROCESSED)

    @action(description="Mark as failed", permissions=["change"])
    def mark_failed(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        self._mark(request, queryset, Webhook.Status.FAILED)

    def _mark(self, request: HttpRequest, queryset: QuerySet[Webhook], status: str) -> None:
        self.act_on_all(
            request,
            queryset,
            lambda webhook: services.update_webhook(webhook=webhook, status=status),
            f"Marked as {status}.",
        )

    def update(self, request: HttpRequest, instance: Webhook, changes: dict[str, Any]) -> Webhook:
        return services.update_webhook(webhook=instance, **changes)

    def destroy(self, instance: Webhook) -> None:
        services.delete_webhook(webhook=instance)

    def get_panels(self, request: HttpRequest, instance: Webhook) -> list[Panel]:
        forwards = self._forwards(instance)
        repetitions = [self._repetitions(instance)] if instance.duplicate_count else []
        return [self._workflow_runs(instance), *([forwards] if forwards.rows else []), *repetitions]

    def _forwards(self, webhook: Webhook) -> Panel:
        return panel_of(
            "Forwards",
            ["Forward", "Status", "To", "Attempt", "Duration", "When"],
            webhook.forwards.order_by("-id"),
            lambda forward: [
                show.object_link("inbox.forward", forward.pk, f"#{forward.pk}"),
                show.state(forward.status),
                show.shortened(forward.target),
                forward.attempt,
                show.duration(forward.duration_ms),
                show.when(forward.created_at),
            ],
            limit=PANEL_ROWS,
            url=show.list_url("inbox.forward", webhook__id__exact=webhook.pk),
        )

    def _workflow_runs(self, webhook: Webhook) -> Panel:
        """Through the relation's name: the inbox knows nothing of workflows."""
        return panel_of(
            "Workflow runs",
            ["Run", "Status", "Workflow", "Steps", "Duration", "Started", "Error"],
            webhook.workflow_executions.select_related("workflow").order_by("-id"),
            lambda run: [
                show.object_link("workflows.workflowexecution", run.pk, f"#{run.pk}"),
                show.state(run.status),
                show.object_link("workflows.workflow", run.workflow_id, run.workflow.name),
                f"{run.current_step} of {run.total_steps}",
                show.duration(run.duration_ms),
                show.when(run.started_at),
                show.shortened(run.error_message),
            ],
            limit=PANEL_ROWS,
            url=show.list_url("workflows.workflowexecution", webhook__id__exact=webhook.pk),
        )

    def _repetitions(self, webhook: Webhook) -> Panel:
        return panel_of(
            "Repetitions",
            ["Webhook", "From", "Received"],
            webhook.duplicates.without_bodies().order_by("-id"),
            lambda repeat: [
                show.object_link("inbox.webhook", repeat.pk, f"#{repeat.pk}"),
                repeat.remote_addr or show.EMPTY,
                show.when(repeat.received_at),
            ],
            limit=PANEL_ROWS,
            url=show.list_url("inbox.webhook", q=webhook.delivery_id),
        )


def raw_url(webhook: Webhook) -> str:
    """Where the exact bytes are downloaded."""
    try:
        return reverse("inbox:webhook-raw", args=[webhook.pk])
    except NoReverseMatch:
        return f"/v1/webhooks/inbox/{webhook.pk}/raw"


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
    list_defer = ["answer"]
    date_hierarchy = "created_at"
    search_exact = ["id", "correlation_id"]
    sortable_by: list[str] = []
    fieldsets = [
        section(None, "show_status|webhook_link target|mode trigger|show_trace show_error"),
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
    list_display = ["key", "show_window_at", "count", "refused_count"]
    search_exact = ["key"]
    ordering = ["-window_at", "-id"]
    date_hierarchy = "window_at"
    sortable_by: list[str] = []
    fieldsets = [
        section(None, "key show_window_at count refused_count"),
    ]

    show_window_at = when_column("window_at", "Window")
