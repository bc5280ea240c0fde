"""The shapes of the inbox in the API."""

from __future__ import annotations

import base64
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from automation_lab.core.api.serializers import (
    JSONObjectField,
    StrictCharField,
    StrictChoiceField,
    StrictIntegerField,
    StrictModelSerializer,
    StrictSerializer,
)
from automation_lab.core.redaction import redact_query
from inbox import services
from inbox.masking import mask_credentials
from inbox.models import Source, Webhook
from inbox.presets import PRESETS
from inbox.secrets import USES
from inbox.validators import DEDUPE_SETTINGS

PAIRS = {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}}
ANY_JSON: dict[str, Any] = {}
LIST_FIELDS = [
    "id",
    "source",
    "event_type",
    "status",
    "method",
    "path",
    "content_type",
    "size_bytes",
    "remote_addr",
    "delivery_id",
    "is_duplicate",
    "duplicate_of",
    "duplicate_count",
    "verification",
    "flags",
    "error_message",
    "notes",
    "received_at",
    "processed_at",
    "correlation_id",
]


class WebhookSummarySerializer(StrictModelSerializer):
    """A webhook as the list shows it: the first bytes of the body instead of the whole."""

    duplicate_of = serializers.IntegerField(source="duplicate_of_id", read_only=True, allow_null=True)
    preview = serializers.SerializerMethodField(help_text="The first 200 bytes of the body as text.")

    class Meta:
        model = Webhook
        fields = [*LIST_FIELDS, "preview"]
        read_only_fields = fields

    def get_preview(self, webhook: Webhook) -> str:
        return bytes(webhook.preview_bytes).decode("utf-8", "replace")  # type: ignore[attr-defined]  # with_preview()


class WebhookSerializer(StrictModelSerializer):
    """A webhook with everything that was received. Only `status` and `notes` can be changed."""

    duplicate_of = serializers.IntegerField(source="duplicate_of_id", read_only=True, allow_null=True)
    query_params = serializers.SerializerMethodField(help_text="Pairs, in the order sent.")
    query_string = serializers.SerializerMethodField(help_text="As it was sent; credentials are masked.")
    headers = serializers.SerializerMethodField(help_text="Pairs, as the server gives them; credentials are masked.")
    body = serializers.SerializerMethodField(help_text="Parsed JSON, or null.")
    raw_body = serializers.SerializerMethodField(help_text="The body as text, or in base64 if it is not UTF-8.")
    raw_body_encoding = serializers.SerializerMethodField()

    class Meta:
        model = Webhook
        fields = [
            *LIST_FIELDS,
            "query_params",
            "query_string",
            "headers",
            "body",
            "raw_body",
            "raw_body_encoding",
            "sha256",
            "matched_secret",
            "dedupe_key",
            "created_at",
            "updated_at",
        ]
        read_only_fields = [name for name in fields if name not in ("status", "notes")]

    @extend_schema_field(PAIRS)
    def get_query_params(self, webhook: Webhook) -> Any:
        return webhook.query_params

    def get_query_string(self, webhook: Webhook) -> str:
        return redact_query(webhook.query_string)

    @extend_schema_field(PAIRS)
    def get_headers(self, webhook: Webhook) -> Any:
        return mask_credentials(webhook.headers)

    @extend_schema_field(ANY_JSON)
    def get_body(self, webhook: Webhook) -> Any:
        return webhook.body

    def get_raw_body(self, webhook: Webhook) -> str:
        text = _as_text(webhook)
        return base64.b64encode(webhook.raw_body).decode() if text is None else text

    @extend_schema_field({"type": "string", "enum": ["utf-8", "base64"]})
    def get_raw_body_encoding(self, webhook: Webhook) -> str:
        return "base64" if _as_text(webhook) is None else "utf-8"

    def update(self, instance: Webhook, validated_data: dict[str, Any]) -> Webhook:
        return services.update_webhook(webhook=instance, **validated_data)


def _as_text(webhook: Webhook) -> str | None:
    try:
        return bytes(webhook.raw_body).decode()
    except UnicodeDecodeError:
        return None


class SourceSecretSerializer(StrictSerializer):
    id = StrictCharField(required=False, max_length=16, help_text="Keeps the secret of this id; then without a value.")
    value = StrictCharField(
        max_length=services.MAX_SECRET_CHARACTERS, write_only=True, required=False, trim_whitespace=False
    )
    use = StrictChoiceField(
        choices=list(USES), required=False, help_text="verify_token: what Meta repeats in its handshake."
    )
    last4 = serializers.CharField(read_only=True, help_text="The end of a long secret, to tell it from others.")
    starts_at = serializers.DateTimeField(required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class SourceDedupeSerializer(StrictSerializer):
    by = StrictChoiceField(choices=list(DEDUPE_SETTINGS))
    path = StrictCharField(required=False, max_length=200, help_text="With json_path, such as body.order.id.")
    window_seconds = StrictIntegerField(required=False, help_text="With body_hash, counted from the first.")


class SourceResponseSerializer(StrictSerializer):
    status = StrictIntegerField(required=False)
    headers = JSONObjectField(required=False)
    body = serializers.JSONField(required=False, help_text="A text, or a JSON value.")


class SourceRetentionSerializer(StrictSerializer):
    days = StrictIntegerField(required=False)
    count = StrictIntegerField(required=False)
    bytes = StrictIntegerField(required=False)
    payload_days = StrictIntegerField(required=False)


def _texts(length: int, help_text: str) -> serializers.ListField:
    return serializers.ListField(child=StrictCharField(max_length=length), required=False, help_text=help_text)


class SourceSerializer(StrictModelSerializer):
    """A sender. `secrets` takes the values and never shows them; a list replaces the one before."""

    scheme = StrictChoiceField(choices=list(PRESETS), default="none")
    secrets = SourceSecretSerializer(many=True, required=False)
    scheme_settings = JSONObjectField(required=False)
    dedupe = SourceDedupeSerializer(required=False)
    allowed_methods = serializers.ListField(child=StrictCharField(max_length=16), required=False, allow_empty=False)
    response = SourceResponseSerializer(required=False, help_text="Empty: the standard answer.")
    retention = SourceRetentionSerializer(required=False, help_text="Empty: the defaults.")
    allowed_addresses = _texts(64, "Addresses and networks that may send; empty: all.")
    event_type_from = _texts(200, "Where the event type stands, such as body:event.type; empty: by the scheme.")
    delivery_id_from = _texts(200, "Where the sender's own id stands; empty: by the scheme.")
    refused_count = serializers.IntegerField(
        read_only=True, default=0, help_text="Requests beyond the rate limit since the source was made."
    )
    last_refused_at = serializers.DateTimeField(read_only=True, default=None, allow_null=True)
    is_open = serializers.BooleanField(read_only=True, help_text="Anybody may send: no scheme checks who it is.")

    class Meta:
        model = Source
        fields = [
            "id",
            "name",
            "description",
            "enabled",
            "scheme",
            "scheme_settings",
            "secrets",
            "dedupe",
            "rate_limit",
            "max_body_bytes",
            "allowed_methods",
            "response",
            "retention",
            "allowed_addresses",
            "event_type_from",
            "delivery_id_from",
            "is_open",
            "open_confirmed",
            "refused_count",
            "last_refused_at",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["created_at", "updated_at"]

    def validate_name(self, value: str) -> str:
        if self.instance is not None and value != self.instance.name:
            raise serializers.ValidationError("The name cannot be changed: addresses and webhooks hold it.")
        return value

    def create(self, validated_data: dict[str, Any]) -> Source:
        return services.create_source(**validated_data)

    def update(self, instance: Source, validated_data: dict[str, Any]) -> Source:
        return services.update_source(source=instance, **validated_data)
