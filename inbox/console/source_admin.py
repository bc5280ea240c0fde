"""The senders in the console: who may send, how it is checked, what came of it, and a command to try it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from automation_lab.core.admin import Panel, ServiceAdmin, column, confirmation, section, when_column
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import add_errors, dialog_again
from automation_lab.core.console.pages import row_or_404
from automation_lab.core.exceptions import AutomationLabError
from inbox import services
from inbox.console import source_page, source_secrets
from inbox.console.quick_test import quick_test
from inbox.console.source_form import SourceForm
from inbox.console.source_secrets import Given, RemoveForm, RotateForm
from inbox.models import Source, Webhook


class QuickTestForm(BaseDialogForm):
    """Asks for nothing; shows the command once there is one."""

    command = ""
    form_after_template = "inbox/quick_test_command.html"

    def get_after_template_context(self, request: HttpRequest, object_id: Any = None) -> dict[str, Any]:
        return {"command": self.command}


ROTATE = confirmation(
    "Set a new secret", "Both are accepted while the sender changes over.", "Set the new secret", RotateForm
)
REMOVE = confirmation(
    "Remove a secret",
    "What is signed with it is refused from then on. Without any secret, every request is refused.",
    "Remove",
    RemoveForm,
)
QUICK_TEST = confirmation(
    "Signed test",
    "A command for a shell that sends a correctly signed request to this source. It holds a signature, not the secret.",
    "Make the command",
    QuickTestForm,
)


@admin.register(Source)
class SourceAdmin(ServiceAdmin):
    form = SourceForm
    list_display = [
        "name",
        "show_state",
        "show_scheme",
        "show_secrets",
        "show_rate_limit",
        "show_refused",
        "show_last_received",
        "show_description",
    ]
    list_filter = [("enabled", BooleanRadioFilter)]
    search_fields = ["name", "description"]
    date_hierarchy = "created_at"
    empty_template = "inbox/empty_sources.html"
    panels_after = 0
    actions_detail = ["quick_test", "rotate_secret", "remove_secret", "confirm_open", "withdraw_open"]
    fieldsets = [
        section(None, "name description enabled"),
        section(
            "Who may send",
            "scheme new_secret|overlap_hours verify_token set_header|set_prefix set_content set_algorithm|set_encoding "
            "set_key_encoding|set_separator set_timestamp_header|set_timestamp_unit set_tolerance_seconds set_url "
            "set_accept set_topics allowed_addresses|allowed_methods",
        ),
        section("How much", "rate_count|rate_period max_body_bytes"),
        section("Repetitions", "dedupe_by dedupe_path|dedupe_window event_type_from|delivery_id_from"),
        section("How long it is kept", "keep_days|keep_payload_days keep_count|keep_bytes"),
        section("Answer", "response", collapsed=True),
        section("History", "show_created_at show_updated_at", collapsed=True),
    ]

    viewed_fieldsets = [
        section(None, "name description enabled"),
        section("Who may send", "allowed_addresses|allowed_methods event_type_from|delivery_id_from"),
        *fieldsets[-2:],
    ]

    show_description = column("description", show.clipped)
    show_created_at = when_column("created_at")
    show_updated_at = when_column("updated_at")

    class Media:
        css = {"all": ["inbox/inbox.css"]}
        js = [forms.Script("inbox/source_form.js", type="module")]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        latest = Webhook.objects.filter(source=OuterRef("name")).order_by("-id").values("received_at")[:1]
        return super().get_queryset(request).with_refusals().annotate(last_received_at=Subquery(latest))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Addresses and webhooks hold the name, and the secrets are bound to it."""
        return [*super().get_readonly_fields(request, obj), *(["name"] if obj else [])]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if not self.has_change_permission(request, obj):
            return self.viewed_fieldsets  # what the form puts together is told in words above it
        if obj:
            return self.fieldsets
        names = ("overlap_hours", "show_created_at", "show_updated_at")
        return [
            (title, {**options, "fields": [_without(line, names) for line in options["fields"]]})
            for title, options in self.fieldsets
            if title != "History"
        ]

    # --- the list ---

    @display(description="Check")
    def show_state(self, source: Source) -> SafeString:
        return source_page.state_label(source)

    @display(description="Scheme", ordering="scheme")
    def show_scheme(self, source: Source) -> SafeString:
        return show.tag(source.scheme)

    @display(description="Secrets")
    def show_secrets(self, source: Source) -> Any:
        if not source.secrets:
            return show.EMPTY
        return ", ".join(f"…{secret['last4']}" if secret.get("last4") else "set" for secret in source.secrets)

    @display(description="Limit", ordering="rate_limit")
    def show_rate_limit(self, source: Source) -> str:
        return {"": "default", "0": "none"}.get(source.rate_limit, source.rate_limit)

    @display(description="Refused as too many")
    def show_refused(self, source: Any) -> SafeString:
        if not source.refused_count:
            return show.EMPTY
        return show.titled(
            f"{source.refused_count:,}", f"the last {show.relative(source.last_refused_at, timezone.now())}"
        )

    @display(description="Last webhook", ordering="last_received_at")
    def show_last_received(self, source: Any) -> SafeString:
        return show.when(source.last_received_at)

    # --- its page ---

    def get_panels(self, request: HttpRequest, instance: Source) -> list[Panel]:
        return source_page.panels(instance)

    def submitted(self, form: ModelForm, names: Iterable[str]) -> dict[str, Any]:
        return form.changes(names)  # type: ignore[attr-defined]  # of SourceForm

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> Source:
        secrets = source_secrets.changed(Source(), _given(fields), scheme=fields["scheme"], unfit=())
        return services.create_source(**fields, secrets=secrets)

    def update(self, request: HttpRequest, instance: Source, changes: dict[str, Any]) -> Source:
        given = _given(changes)
        scheme = changes.get("scheme", instance.scheme)
        options = changes.get("scheme_settings", instance.scheme_settings)
        unfit = source_secrets.unfit_ids(instance, scheme, options)
        secrets = source_secrets.changed(instance, given, scheme=scheme, unfit=unfit)
        is_kept = not unfit and given == Given()
        source = services.update_source(source=instance, secrets=None if is_kept else secrets, **changes)
        if unfit:
            message = "Secrets that the scheme cannot use were removed."
            self.message_user(request, message, messages.WARNING)
        return source

    def destroy(self, instance: Source) -> None:
        services.delete_source(source=instance)

    # --- acting ---

    def offers(self, instance: Source, name: str) -> bool:
        return {
            "rotate": not instance.is_open and instance.scheme not in source_secrets.WITHOUT_SECRETS,
            "remove-secret": bool(instance.secrets),
            "confirm-open": instance.is_open and not instance.open_confirmed,
            "withdraw-open": instance.is_open and instance.open_confirmed,
        }.get(name, True)

    @action(
        description="Signed test",
        url_path="quick-test",
        icon="send",
        variant=ActionVariant.PRIMARY,
        permissions=["change"],
        dialog=QUICK_TEST,
    )
    def quick_test(self, request: HttpRequest, form: QuickTestForm, object_id: str) -> HttpResponse:
        """The command is made only when it is asked for, and kept nowhere."""
        source = row_or_404(self, request, object_id)
        try:
            made = quick_test(source, source_page.receiving_url(source))
        except AutomationLabError as error:
            return dialog_again(request, QUICK_TEST, form, note=error.message)
        form.command = made.command
        return dialog_again(request, QUICK_TEST, form, note=made.note, submit="Make another")

    @action(description="New secret", url_path="rotate", icon="key", permissions=["change"], dialog=ROTATE)
    def rotate_secret(self, request: HttpRequest, form: RotateForm, object_id: str) -> HttpResponse:
        source = row_or_404(self, request, object_id)
        data = form.cleaned_data
        given = Given(data["new_secret"], data["starts_at"], data["keep_hours"])
        unfit = source_secrets.unfit_ids(source, source.scheme, source.scheme_settings)
        secrets = source_secrets.changed(source, given, scheme=source.scheme, unfit=unfit)
        message = _rotated(secrets)
        try:
            with transaction.atomic():
                services.update_source(source=source, secrets=secrets)
                self.log_change(request, source, message)
        except AutomationLabError as error:
            add_errors(form, _at_new_secret(error))
            return dialog_again(request, ROTATE, form)
        self.message_user(request, message)
        return self.go_to(request, self.page_of(source))

    @action(
        description="Remove a secret", url_path="remove-secret", icon="key_off", permissions=["change"], dialog=REMOVE
    )
    def remove_secret(self, request: HttpRequest, form: RemoveForm, object_id: str) -> HttpResponse:
        def remove(source: Source) -> str:
            services.update_source(source=source, secrets=source_secrets.without(source, form.cleaned_data["secret"]))
            return "Secret removed."

        return self.act(request, object_id, remove)

    @action(
        description="Confirm open",
        url_path="confirm-open",
        icon="lock_open",
        permissions=["change"],
        dialog=confirmation(
            "Anybody may send", "No scheme tells who it was. Confirm that this is meant to be so.", "Confirm"
        ),
    )
    def confirm_open(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return self.act(request, object_id, lambda source: _confirm(source, True))

    @action(
        description="Withdraw confirmation",
        url_path="withdraw-open",
        icon="lock",
        permissions=["change"],
        dialog=confirmation("Withdraw the confirmation", "The source is marked as open again.", "Withdraw"),
    )
    def withdraw_open(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return self.act(request, object_id, lambda source: _confirm(source, False))


def _given(fields: dict[str, Any]) -> Given:
    """Takes what is about secrets out of `fields`."""
    value, hours, token = (fields.pop(name, None) for name in ("new_secret", "overlap_hours", "verify_token"))
    return Given(value or "", hours=hours or 0, verify_token=token or "")


def _rotated(secrets: Iterable[services.SecretInput]) -> str:
    ends = [end for secret in secrets if (end := secret.get("expires_at"))]
    return f"New secret set; the old one ends on {max(ends):%Y-%m-%d at %H:%M} UTC." if ends else "New secret set."


def _confirm(source: Source, confirmed: bool) -> str:
    services.update_source(source=source, open_confirmed=confirmed)
    return "Confirmed: anybody may send." if confirmed else "Confirmation withdrawn."


def _at_new_secret(error: AutomationLabError) -> AutomationLabError:
    """Faults of the secrets stand at the one field of the dialog."""
    return type(error)(error.message, field="new_secret", code=error.code)


def _without(line: Any, names: tuple[str, ...]) -> Any:
    if isinstance(line, str):
        return line
    kept = tuple(name for name in line if name not in names)
    return kept if len(kept) > 1 else kept[0]
