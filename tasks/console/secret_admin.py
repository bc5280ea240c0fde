"""Secrets and notification channels in the console: what is secret goes in and never comes out; messages sent."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.timesince import timesince
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget

from automation_lab.core import secret_uses
from automation_lab.core.admin import Panel, ServiceAdmin, confirmation, panel_of, section, text_column, when_column
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import ServiceForm, WriteOnlyField, required_on_add
from automation_lab.core.exceptions import AutomationLabError, Invalid
from automation_lab.core.execution.admin import HistoryAdmin
from automation_lab.core.execution.results import masked_text
from tasks import secrets
from tasks.models import Notification, NotificationChannel, Secret
from tasks.notifying import channels, notifications

PANEL_ROWS = 10
USERS = {"task": "tasks.scheduledtask", "channel": "tasks.notificationchannel", "workflow": "workflows.workflow"}


class HostsField(forms.CharField):
    """Host names, one a line; commas and spaces part them too."""

    widget = UnfoldAdminTextareaWidget

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        return [host for host in re.split(r"[\s,]+", super().clean(value)) if host]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.clean(data) != (initial or [])


class SecretForm(ServiceForm):
    value = WriteOnlyField(label="Value", max_length=secrets.MAX_VALUE_LENGTH)
    allowed_hosts = HostsField(
        required=False, help_text="Hosts it may be sent to, one a line; *.example.com too. Empty: any host."
    )

    class Meta:
        model = Secret
        fields = ["name", "description", "allowed_hosts"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "value" in self.fields:
            required_on_add(self, "value", describe_secret)

    def check(self) -> None:
        for host in self.instance.allowed_hosts:
            secrets.clean_host(host)


def describe_secret(secret: Secret) -> str:
    since = timesince(secret.rotated_at or secret.created_at)
    return f"Set {since} ago{f', ends …{secret.last4}' if secret.last4 else ''}."


class WriteOnlyAdmin(ServiceAdmin):
    """For rows with a part that is never shown: who may only look sees `seen_fieldsets`, which say what is set."""

    seen_fieldsets: list[Any]
    state_fieldsets: list[Any]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return self.fieldsets
        return [
            *(self.fieldsets if self.has_change_permission(request, obj) else self.seen_fieldsets),
            *self.state_fieldsets,
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """What is stored is bound to the name, which configurations, tasks and workflows hold."""
        return [*super().get_readonly_fields(request, obj), *(["name"] if obj else [])]


@admin.register(Secret)
class SecretAdmin(WriteOnlyAdmin):
    form = SecretForm
    list_display = ["name", "show_value", "show_hosts", "description", "show_last_used_at", "show_rotated_at"]
    search_fields = ["name", "description"]
    date_hierarchy = "created_at"
    list_defer = ["ciphertext"]
    fieldsets = [section(None, "name description value allowed_hosts")]
    seen_fieldsets = [section(None, "name description show_value show_hosts")]
    state_fieldsets = [section("State", "show_last_used_at|show_rotated_at show_created_at|show_updated_at")]

    show_last_used_at = when_column("last_used_at", ordering=True)
    show_rotated_at = when_column("rotated_at", "Value set", ordering=True)
    show_created_at = when_column("created_at")
    show_updated_at = when_column("updated_at")

    @display(description="Value")
    def show_value(self, secret: Secret) -> str:
        return f"…{secret.last4}" if secret.last4 else "set"

    @display(description="May be sent to")
    def show_hosts(self, secret: Secret) -> Any:
        return ", ".join(secret.allowed_hosts) or show.label("any host", "warn")

    def get_panels(self, request: HttpRequest, instance: Secret) -> list[Panel]:
        users = [
            [user.kind, show.object_link(USERS[user.kind], user.id, user.name)]
            for user in secret_uses.users_of(instance.name)
        ]
        return [Panel("Used by", ["Kind", "Name"], users, empty="Nothing names it.")]

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> Secret:
        return secrets.set_secret(**fields, only_new=True)

    def update(self, request: HttpRequest, instance: Secret, changes: dict[str, Any]) -> Secret:
        return secrets.set_secret(name=instance.name, **changes)

    def destroy(self, instance: Secret) -> None:
        secrets.delete_secret(secret=instance)


class ChannelForm(ServiceForm):
    target = WriteOnlyField(label="Target", max_length=channels.MAX_TARGET_LENGTH)

    class Meta:
        model = NotificationChannel
        fields = ["name", "kind", "secret", "enabled", "throttle_seconds"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "target" in self.fields:
            required_on_add(self, "target", lambda channel: f"Set: {channel.target_hint}.")
            if self.fields["target"].required:
                self.fields["target"].help_text = "An e-mail address, or the URL that the messages are sent to."

    def check(self) -> None:
        if self.cleaned_data.get("target"):
            channels.clean_target(self.instance.kind, self.cleaned_data["target"])
        elif "kind" in self.changed_data:
            raise Invalid("Another kind needs its target.", field="target")
        if self.instance.secret and self.instance.kind != channels.Kind.WEBHOOK:
            raise Invalid("Only channels of kind webhook sign their messages with a secret.", field="secret")


@admin.register(NotificationChannel)
class NotificationChannelAdmin(WriteOnlyAdmin):
    form = ChannelForm
    list_display = ["name", "kind", "target_hint", "enabled", "show_last_sent_at", "show_health"]
    list_filter = [("kind", ChoicesDropdownFilter), ("enabled", BooleanRadioFilter)]
    actions_detail = ["test"]
    search_fields = ["name"]
    date_hierarchy = "created_at"
    list_defer = ["target_ciphertext"]
    autocomplete_fields = ["secret"]
    fieldsets = [section(None, "name kind target secret enabled throttle_seconds")]
    seen_fieldsets = [section(None, "name kind target_hint secret enabled throttle_seconds")]
    state_fieldsets = [section("State", "show_last_sent_at show_last_error show_created_at|show_updated_at")]

    show_last_sent_at = when_column("last_sent_at")
    show_last_error = text_column("last_error")
    show_created_at = when_column("created_at")
    show_updated_at = when_column("updated_at")

    @display(description="Health")
    def show_health(self, channel: NotificationChannel) -> Any:
        return show.label("last message failed", "bad") if channel.last_error else show.EMPTY

    def get_panels(self, request: HttpRequest, instance: NotificationChannel) -> list[Panel]:
        return [
            panel_of(
                "Messages",
                ["Message", "Status", "Event", "Title", "When", "Error"],
                instance.notifications.order_by("-id").defer("text"),
                lambda message: [
                    show.object_link("tasks.notification", message.pk, f"#{message.pk}"),
                    show.state(message.status),
                    message.event,
                    show.shortened(message.title),
                    show.when(message.created_at),
                    show.shortened(message.error_message),
                ],
                limit=PANEL_ROWS,
                url=show.list_url("tasks.notification", channel__id__exact=instance.pk),
            )
        ]

    @action(
        description="Send a test",
        url_path="test",
        icon="send",
        permissions=["change"],
        dialog=confirmation("Send a test message", "It goes out at once, by what is saved.", "Send"),
    )
    def test(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        """Not by `act`: nothing is sent within a transaction."""
        channel = self.get_object(request, object_id)
        if channel is None:
            raise Http404(f"There is no channel {object_id}.")
        self.log_change(request, channel, "Test message sent.")
        try:
            notifications.send_test(channel=channel)
        except AutomationLabError as error:
            self.message_user(request, f"Not delivered: {masked_text(error.message)}", messages.ERROR)
        else:
            self.message_user(request, "The test message is delivered.", messages.SUCCESS)
        return self.go_to(request, self.page_of(channel))

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> NotificationChannel:
        return channels.create_channel(**fields)

    def update(self, request: HttpRequest, instance: Any, changes: dict[str, Any]) -> NotificationChannel:
        return channels.update_channel(channel=instance, **changes)

    def destroy(self, instance: NotificationChannel) -> None:
        instance.delete()


@admin.register(Notification)
class NotificationAdmin(HistoryAdmin):
    list_display = ["show_id", "show_status", "channel", "event", "show_title", "count", "show_created_at"]
    list_select_related = ["channel"]
    list_defer = ["text", "channel__target_ciphertext"]
    date_hierarchy = "created_at"
    search_exact = ["id"]
    fieldsets = [
        section(None, "show_status|channel event|subject count|show_first_at title show_text url show_error"),
        section("Timing", "show_created_at|show_due_at show_started_at|show_finished_at attempt|worker"),
    ]

    show_text = text_column("text")
    show_error = text_column("error_message", "Error")
    show_first_at = when_column("first_at", "First event")
    show_created_at = when_column("created_at")
    show_due_at = when_column("due_at")

    @display(description="Title")
    def show_title(self, message: Notification) -> Any:
        return show.shortened(message.title, 100)
