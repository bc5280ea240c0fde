"""The senders in the console: who may send, how it is checked, and a command to try it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from automation_lab.core import display as show
from automation_lab.core.admin import Panel, ServiceAdmin, origin_of, panel_of, section, when_column
from automation_lab.core.console_forms import ServiceForm, WriteOnlyField, choices_of, required_on_add
from automation_lab.core.exceptions import Invalid
from inbox import services
from inbox.models import Source, Webhook
from inbox.presets import PRESETS
from inbox.secrets import SIGNATURE, signing_secrets
from inbox.verification.configuration import secret_fault

PANEL_ROWS = 8
MAX_OVERLAP_HOURS = 720


def receiving_url(source: Source) -> str:
    return f"{origin_of(source)}/v1/webhooks/inbox/{source.name}"


class SourceForm(ServiceForm):
    scheme = forms.ChoiceField(choices=choices_of(list(PRESETS)), widget=UnfoldAdminSelectWidget)
    new_secret = WriteOnlyField(label="Secret", required=False, help_text="What the sender signs with.")
    overlap_hours = forms.IntegerField(
        label="Old secret valid for",
        required=False,
        min_value=0,
        max_value=MAX_OVERLAP_HOURS,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Hours beside a new secret, for a sender that changes over later. Empty: it ends at once.",
    )

    class Meta:
        model = Source
        exclude: list[str] = ["secrets"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "new_secret" in self.fields and not self.instance._state.adding:
            required_on_add(self, "new_secret", describe_secrets)
            self.fields["new_secret"].label = "New secret"

    def check(self) -> None:
        scheme, options = self.instance.scheme, self.instance.scheme_settings
        if value := self.cleaned_data.get("new_secret"):
            if fault := secret_fault(scheme, options, value):
                raise Invalid(fault, field="new_secret")
        elif any(secret_fault(scheme, options, secret.value) for secret in signing_secrets(self.instance)):
            raise Invalid("This scheme needs another kind of secret than the one stored: set it, too.", field="scheme")


def describe_secrets(source: Source) -> str:
    """How many, and how each ends: never more."""
    if not source.secrets:
        return "No secret is set."
    shown = []
    for secret in source.secrets:
        ending = f"ends …{secret['last4']}" if secret.get("last4") else "hidden"
        shown.append(f"{ending} (until {secret['expires_at'][:16]})" if secret.get("expires_at") else ending)
    return f"Set: {', '.join(shown)}. A new one replaces it."


@admin.register(Source)
class SourceAdmin(ServiceAdmin):
    form = SourceForm
    list_display = ["name", "enabled", "show_scheme", "show_secrets", "rate_limit", "show_last_received", "description"]
    list_filter = [("enabled", BooleanRadioFilter)]
    search_fields = ["name", "description"]
    date_hierarchy = "created_at"
    fieldsets = [
        section(None, "name description enabled show_address"),
        section("Who may send", "scheme new_secret overlap_hours scheme_settings open_confirmed"),
        section("Limits", "rate_limit|max_body_bytes allowed_methods dedupe|retention"),
        section("Answer", "response"),
        section("Try it", "show_try"),
        section("History", "show_created_at show_updated_at", collapsed=True),
    ]

    new_fieldsets = [
        section(None, "name description enabled"),
        section("Who may send", "scheme new_secret scheme_settings open_confirmed"),
        *fieldsets[2:4],
    ]

    show_created_at = when_column("created_at")
    show_updated_at = when_column("updated_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        latest = Webhook.objects.filter(source=OuterRef("name")).order_by("-id").values("received_at")[:1]
        return super().get_queryset(request).annotate(last_received_at=Subquery(latest))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Addresses and webhooks hold the name, and the secrets are bound to it."""
        return [*super().get_readonly_fields(request, obj), *(["name"] if obj else [])]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj else self.new_fieldsets

    @display(description="Scheme", ordering="scheme")
    def show_scheme(self, source: Source) -> SafeString:
        return show.label("open", "warn") if source.is_open else show.tag(source.scheme)

    @display(description="Secrets")
    def show_secrets(self, source: Source) -> Any:
        if not source.secrets:
            return show.EMPTY
        return ", ".join(f"…{secret['last4']}" if secret.get("last4") else "set" for secret in source.secrets)

    @display(description="Last webhook", ordering="last_received_at")
    def show_last_received(self, source: Any) -> SafeString:
        return show.when(source.last_received_at)

    @display(description="Address")
    def show_address(self, source: Source) -> SafeString:
        return show.text_block(receiving_url(source)) if source.pk else show.EMPTY

    @display(description="From a shell")
    def show_try(self, source: Source) -> SafeString:
        headers = [["Content-Type", "application/json"]]
        return show.text_block(show.curl("POST", receiving_url(source), headers, '{"hello": "world"}'))

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> Source:
        value, _ = fields.pop("new_secret", ""), fields.pop("overlap_hours", None)
        return services.create_source(**fields, secrets=[{"value": value}] if value else [])

    def update(self, request: HttpRequest, instance: Source, changes: dict[str, Any]) -> Source:
        value, hours = changes.pop("new_secret", ""), changes.pop("overlap_hours", None)
        secrets: list[services.SecretInput] | None = None
        if value:
            secrets = [{"value": value}, *_kept_secrets(instance, hours or 0)]
        return services.update_source(source=instance, secrets=secrets, **changes)

    def destroy(self, instance: Source) -> None:
        services.delete_source(source=instance)

    def get_panels(self, request: HttpRequest, instance: Source) -> list[Panel]:
        return [
            panel_of(
                "Latest webhooks",
                ["Webhook", "Status", "Event type", "Size", "From", "Received"],
                Webhook.objects.filter(source=instance.name).without_bodies().order_by("-id"),
                lambda webhook: [
                    show.object_link("inbox.webhook", webhook.pk, f"#{webhook.pk}"),
                    show.state(webhook.status),
                    webhook.event_type or show.EMPTY,
                    show.size(webhook.size_bytes),
                    webhook.remote_addr or show.EMPTY,
                    show.when(webhook.received_at),
                ],
                limit=PANEL_ROWS,
                url=show.list_url("inbox.webhook", source=instance.name),
            )
        ]


def _kept_secrets(source: Source, hours: int) -> list[services.SecretInput]:
    """What stays beside a new secret: what is not for signing, and for some hours what signed until now."""
    end = timezone.now() + timedelta(hours=hours)
    kept: list[services.SecretInput] = []
    for secret in source.secrets:
        starts_at, expires_at = (_instant(secret.get(name)) for name in ("starts_at", "expires_at"))
        if secret.get("use", SIGNATURE) != SIGNATURE:
            kept.append({"id": secret["id"], "starts_at": starts_at, "expires_at": expires_at})
        elif hours and secret.get("id") and not (starts_at and starts_at >= end):
            kept.append({"id": secret["id"], "starts_at": starts_at, "expires_at": min(expires_at or end, end)})
    return kept


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
