"""The inbox in the console: webhooks are evidence, so only their status and notes can be changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.sections import TemplateSection

from automation_lab.core.admin import (
    Panel,
    ServiceAdmin,
    column,
    confirmation,
    id_column,
    origin_of,
    section,
    size_column,
    state_column,
    text_column,
    trace_column,
    when_column,
)
from automation_lab.core.console import display as show
from automation_lab.core.console.pages import row_or_404
from automation_lab.core.exceptions import AutomationLabError
from inbox import reverify, services, subscriptions
from inbox.console import (
    columns,
    filters,
    forward_admin,  # noqa: F401 - registers its own, as do the two below
    listing,
    replay_admin,  # noqa: F401
    replaying,
    source_admin,  # noqa: F401
    words,
)
from inbox.console.commands import curl_command
from inbox.filters import counted_rows
from inbox.models import PAYLOAD_REMOVED, Webhook
from inbox.searching import search


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


class PreviewSection(TemplateSection):
    """Fetched when the row is opened."""

    template_name = "inbox/preview_row.html"


@admin.register(Webhook)
class WebhookAdmin(replaying.ReplayPages, ServiceAdmin):
    form = WebhookForm
    list_display = [
        "show_id",
        "show_received_at",
        "show_status",
        "show_sender",
        "show_event",
        "show_first_line",
        "show_verification",
        "show_runs",
        "show_sent",
    ]
    rejected_display = [
        "show_id",
        "show_sender",
        "show_event",
        "show_verification",
        "show_why",
        "show_remote_addr",
        "show_received_at",
    ]
    list_display_links = ["show_id"]
    list_filter = [
        filters.SourceFilter,
        filters.StatusFilter,
        filters.VerificationFilter,
        filters.RepetitionFilter,
        filters.EventTypeFilter,
        filters.ConditionFilter,
        filters.ReceivedFilter,
        filters.MethodFilter,
        filters.FlagFilter,
    ]
    list_sections = [PreviewSection]
    list_filter_sheet = True
    list_before_template = "inbox/list_before.html"
    list_after_template = "inbox/list_after.html"
    list_defer = [
        *("raw_body", "body", "headers", "header_terms", "body_terms", "query_params", "query_string"),
        *("notes", "error_message"),
    ]
    search_exact = ["id", "delivery_id", "correlation_id", "source"]
    search_help_text = "An id, or text in the body"
    date_hierarchy = "received_at"
    empty_template = "automation_lab/empty_webhooks.html"
    sortable_by = ["show_received_at"]
    actions = ["replay_selected", "mark_processed", "mark_failed", "mark_received", "delete_selected"]
    actions_detail = ["replay", "verify_again", "confirm_subscription"]
    readonly_fields = ["content_type"]
    fieldsets = [
        section(
            None,
            "status|show_source show_verdict show_request show_event|show_remote_addr show_received_at|show_processed_at "
            "show_trace|show_size show_error",
        ),
        section("Body", "show_body content_type|show_flags show_sha256"),
        section("Headers and query", "show_headers show_query"),
        section("Delivery", "show_delivery_id|show_repetition"),
        section("Notes", "notes"),
        section("As curl", "show_curl"),
    ]

    show_id = id_column
    show_status = state_column("status", "Status")
    show_sender = column("source", show.clipped)
    show_verification = column("verification", columns.verification_label)
    show_size = size_column("size_bytes")
    show_remote_addr = column("remote_addr", lambda address: address or show.EMPTY, "From")
    show_received_at = when_column("received_at", ordering=True)
    show_processed_at = when_column("processed_at")
    show_trace = trace_column
    show_sha256 = column("sha256", show.mono, "SHA-256")
    show_error = text_column("error_message", "Error")

    class Media:
        css = {"all": ["inbox/inbox.css"]}
        js = [forms.Script("inbox/keyboard.js", type="module")]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    # --- the list ---

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[listing.WebhookChangeList]:
        return listing.WebhookChangeList

    def get_list_display(self, request: HttpRequest) -> list[str]:
        return self.rejected_display if request.GET.get("status") == Webhook.Status.REJECTED else self.list_display

    def counted_rows(self, request: HttpRequest) -> int:
        return counted_rows(request.GET)

    def complete_rows(self, rows: Iterable[Webhook]) -> None:
        listing.complete_rows(rows)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """A condition from the filters' form gets a place of its own in the address, as the API has it."""
        condition = request.GET.get(filters.CONDITION)
        if condition is None:
            return super().changelist_view(request, extra_context)
        parameters = request.GET.copy()
        parameters.pop(filters.CONDITION)
        name, _, value = condition.strip().partition("=")
        if name.startswith(search.PREFIXES) and value:
            parameters[name.strip()] = value.strip()
        elif condition.strip():
            messages.error(request, "Write a condition like body.action=opened or header.X-GitHub-Event=push.")
        return HttpResponseRedirect(f"?{parameters.urlencode()}")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[QuerySet[Any], bool]:
        """By id if there is one, else the text in the newest bodies."""
        found, _ = super().get_search_results(request, queryset, search_term)
        if not search_term.strip():
            return found, False
        if found.exists():
            listing.note_found_by_id(request)
            return found, False
        return search.holding_text(queryset, search_term.strip()[: search.LONGEST]), False

    @display(description="Event")
    def show_event(self, webhook: Webhook) -> SafeString:
        return format_html('<span class="lab-event">{}</span>', columns.event(webhook))

    @display(description="Body")
    def show_first_line(self, webhook: Any) -> SafeString:
        start = show.mono(webhook.first_line[:120])
        return format_html(
            '<span class="lab-first-line">{} {}</span>', start, show.muted(show.size(webhook.size_bytes))
        )

    @display(description="Runs")
    def show_runs(self, webhook: Any) -> SafeString:
        url = show.list_url("workflows.workflowexecution", webhook__id__exact=webhook.pk)
        return listing.started_cell(webhook.runs, url)

    @display(description="Sent on")
    def show_sent(self, webhook: Any) -> SafeString:
        return listing.started_cell(webhook.sent, show.list_url("inbox.forward", webhook__id__exact=webhook.pk))

    @display(description="Repetition")
    def show_repetition(self, webhook: Webhook) -> Any:
        return columns.repetition(webhook)

    @display(description="Why, and what to do")
    def show_why(self, webhook: Webhook) -> SafeString:
        return columns.why_rejected(webhook)

    # --- its page ---

    @display(description="Source")
    def show_source(self, webhook: Webhook) -> SafeString:
        return show.link(show.list_url("inbox.webhook", source=webhook.source), webhook.source)

    @display(description="Verification")
    def show_verdict(self, webhook: Webhook) -> SafeString:
        return columns.verdict(webhook)

    @display(description="Request")
    def show_request(self, webhook: Webhook) -> SafeString:
        return show.mono(f"{webhook.method} {columns.request_target(webhook)}")

    @display(description="Delivery id")
    def show_delivery_id(self, webhook: Webhook) -> Any:
        return show.mono(webhook.delivery_id) if webhook.delivery_id else show.EMPTY

    @display(description="Flags")
    def show_flags(self, webhook: Webhook) -> SafeString:
        return columns.flags(webhook)

    @display(description="Headers")
    def show_headers(self, webhook: Webhook) -> SafeString:
        return columns.headers(webhook)

    @display(description="Query")
    def show_query(self, webhook: Webhook) -> SafeString:
        return columns.query(webhook)

    @display(description="Body")
    def show_body(self, webhook: Webhook) -> SafeString:
        return columns.body_views(webhook, download_url=reverse("webhook-raw", args=[webhook.pk]))

    @display(description="Command")
    def show_curl(self, webhook: Webhook) -> SafeString:
        return show.text_block(curl_command(webhook, origin_of(webhook)))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without an error or a query there is no line for them."""
        empty = set()
        if obj is not None:
            empty = {
                name
                for name, value in (("show_error", obj.error_message), ("show_query", obj.query_params))
                if not value
            }
        return [
            (title, {**options, "fields": [line for line in options["fields"] if line not in empty]})
            for title, options in self.fieldsets
        ]

    def get_panels(self, request: HttpRequest, instance: Webhook) -> list[Panel]:
        forwards = columns.forwards(instance)
        repetitions = [columns.repetitions(instance)] if instance.duplicate_count else []
        return [columns.workflow_runs(instance), *([forwards] if forwards.rows else []), *repetitions]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.preview)
        return [path("<int:object_id>/preview/", view, name="inbox_webhook_preview"), *super().get_urls()]

    def preview(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """What an opened row of the list shows."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        webhook = self.get_object(request, str(object_id))
        if webhook is None:
            raise Http404(f"There is no webhook {object_id}.")
        shown = {
            "webhook": webhook,
            "request_target": columns.request_target(webhook),
            "headers": columns.headers(webhook),
            "body": columns.body_preview(webhook),
        }
        return render(request, "inbox/preview.html", shown)

    # --- acting ---

    def offers(self, instance: Webhook, name: str) -> bool:
        if name == "confirm":
            return columns.is_confirmable(instance)
        return name != "verify" or PAYLOAD_REMOVED not in instance.flags

    @action(
        description="Replay", url_path="replay", icon="replay", variant=ActionVariant.PRIMARY, permissions=["replay"]
    )
    def replay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.replay_page(request, object_id)

    @action(
        description="Verify again",
        url_path="verify",
        icon="verified_user",
        permissions=["change"],
        dialog=confirmation(
            "Verify again",
            "With the secrets that are valid now. A rejected webhook that verifies is accepted and starts what it should.",
            "Verify",
        ),
    )
    def verify_again(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        """Outside a transaction: a certificate may have to be fetched."""
        webhook = row_or_404(self, request, object_id)
        try:
            found = reverify.verify_again(webhook=webhook)
        except AutomationLabError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            level = messages.SUCCESS if found.verdict.accepted else messages.WARNING
            self.message_user(request, _findings(found), level)
            if found.webhook.status != webhook.status:
                self.log_change(request, found.webhook, "Verified again and accepted.")
        return self.go_to(request, self.page_of(webhook))

    @action(
        description="Confirm subscription",
        url_path="confirm",
        icon="task_alt",
        permissions=["change"],
        dialog=confirmation(
            "Confirm this subscription",
            "The address that Amazon SNS gave is visited once, from this server.",
            "Confirm",
        ),
    )
    def confirm_subscription(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        webhook = row_or_404(self, request, object_id)
        try:
            subscriptions.confirm_subscription(webhook=webhook)
        except AutomationLabError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.log_change(request, webhook, "Subscription confirmed.")
            self.message_user(request, "Confirmed: the topic sends from now on.", messages.SUCCESS)
        return self.go_to(request, self.page_of(webhook))

    @action(description="Replay selected webhooks…", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> HttpResponse | None:
        return self.replay_batch(request, queryset)

    @action(description="Mark as processed", permissions=["change"])
    def mark_processed(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        self._mark(request, queryset, Webhook.Status.PROCESSED)

    @action(description="Mark as failed", permissions=["change"])
    def mark_failed(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        self._mark(request, queryset, Webhook.Status.FAILED)

    @action(description="Mark as received", permissions=["change"])
    def mark_received(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        self._mark(request, queryset, Webhook.Status.RECEIVED)

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


def _findings(found: reverify.Reverified) -> SafeString:
    result = capfirst(words.label_of(found.verdict.result))
    return format_html("<strong>{}.</strong> {}", result, show.lines(found.findings))
