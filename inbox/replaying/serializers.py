"""The shapes of replays, forwards and saved views in the API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from automation_lab.core.api.serializers import (
    JSONObjectField,
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictFloatField,
    StrictIntegerField,
    StrictModelSerializer,
    StrictSerializer,
)
from automation_lab.core.execution.hints import kind_of
from automation_lab.core.registry import replay_targets
from inbox.models import Forward, ForwardAttempt, Replay, SavedView
from inbox.replaying import replays
from inbox.replaying.models import FASTEST_RATE, SLOWEST_RATE
from inbox.searching import saved_views

SHOWN_EXECUTIONS = 50
HIDDEN_OPTIONS = ("headers_ciphertext",)
COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}}


class SigningSerializer(StrictSerializer):
    """How the forward is signed: by the source's own scheme and secret, or by Standard Webhooks with a given secret."""

    scheme = StrictChoiceField(choices=["source", "standard_webhooks"])
    secret = StrictCharField(max_length=512, required=False, write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("secret" in attrs) != (attrs["scheme"] == "standard_webhooks"):
            raise serializers.ValidationError({"secret": "A secret goes with standard_webhooks, and only with it."})
        return attrs


class ReplayOrderSerializer(StrictSerializer):
    """Where one webhook is sent again: to the workflows it matches, to a chosen one, or to an allowed address."""

    target = StrictChoiceField(choices=["workflows", "workflow", "url"])
    workflow = StrictIntegerField(required=False, min_value=1, help_text="For the target workflow: its id.")
    url = StrictCharField(required=False, max_length=2048, help_text="For the target url.")
    mode = StrictChoiceField(
        choices=Forward.Mode.choices, required=False, help_text="For the target url; follows from body and signing."
    )
    body = serializers.JSONField(
        required=False, help_text="Instead of the original: a text as it is, any other value as JSON."
    )
    headers = JSONObjectField(required=False, write_only=True, help_text="Added, or instead of those of these names.")
    signing = SigningSerializer(required=False)
    retry_policy = JSONObjectField(required=False)

    def options(self) -> dict[str, Any]:
        names = ("workflow", "url", "mode", "body", "headers", "signing", "retry_policy")
        return {name: self.validated_data[name] for name in names if name in self.validated_data}


class BatchOrderSerializer(ReplayOrderSerializer):
    """Which webhooks are sent again: those of `ids`, or those that `filter` finds. `dry_run` only counts them.

    A filter takes what the list takes, such as `{"source": "github", "body.action": "opened"}`, and leaves out refused
    requests, repetitions and handshakes unless it names them by status, is_duplicate and flag.
    """

    ids = serializers.ListField(
        child=StrictIntegerField(min_value=1), required=False, max_length=replays.MOST_WEBHOOKS, allow_empty=False
    )
    filter = JSONObjectField(required=False)
    rate_per_second = StrictFloatField(
        required=False, default=replays.DEFAULT_RATE, min_value=SLOWEST_RATE, max_value=FASTEST_RATE
    )
    dry_run = StrictBooleanField(required=False, default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            raise serializers.ValidationError({"filter": "Give a filter or ids."})
        return attrs


class BatchCountSerializer(serializers.Serializer[Any]):
    """What a dry run says."""

    dry_run = serializers.BooleanField()
    count = serializers.IntegerField(help_text=f"At most {replays.MOST_WEBHOOKS:,}, which is also the most of a batch.")
    count_is_capped = serializers.BooleanField()


class ReplaySerializer(serializers.ModelSerializer[Replay]):
    """A replay and how far it has come."""

    filters = serializers.SerializerMethodField(help_text="The selection, as it was asked for.")

    class Meta:
        model = Replay
        fields = [
            "id", "status", "target", "filters", "rate_per_second", "total_count", "done_count",
            "failed_count", "created_by", "error_message", "cancel_requested_at", "correlation_id", "created_at",
            "started_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field({"type": "object", "additionalProperties": {}})
    def get_filters(self, replay: Replay) -> dict[str, Any]:
        return replay.filters


class StartedSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="inbox.forward or workflows.workflowexecution.")
    id = serializers.IntegerField()
    status = serializers.CharField()
    webhook = serializers.IntegerField()


class ReplayDetailSerializer(ReplaySerializer):
    """With its options and what it has started."""

    options = serializers.SerializerMethodField(help_text="Without secrets.")
    outcomes = serializers.SerializerMethodField(help_text="Executions started, by their status.")
    executions = serializers.SerializerMethodField(help_text=f"The newest {SHOWN_EXECUTIONS}.")

    class Meta(ReplaySerializer.Meta):
        fields = [*ReplaySerializer.Meta.fields, "options", "outcomes", "executions"]
        read_only_fields = fields

    @extend_schema_field({"type": "object", "additionalProperties": {}})
    def get_options(self, replay: Replay) -> dict[str, Any]:
        shown = {name: value for name, value in replay.options.items() if name not in HIDDEN_OPTIONS}
        return shown | ({"signing": {"scheme": shown["signing"]["scheme"]}} if "signing" in shown else {})

    @extend_schema_field(COUNTS)
    def get_outcomes(self, replay: Replay) -> dict[str, int]:
        return replays.outcomes(replay)

    @extend_schema_field(StartedSerializer(many=True))
    def get_executions(self, replay: Replay) -> list[dict[str, Any]]:
        rows = replay_targets.get(replay.target).executions(replay).order_by("-id")
        shown = rows.values("id", "status", "webhook_id")[:SHOWN_EXECUTIONS]
        return [
            {"kind": kind_of(rows.model), "id": row["id"], "status": row["status"], "webhook": row["webhook_id"]}
            for row in shown
        ]


class ForwardAttemptSerializer(serializers.ModelSerializer[ForwardAttempt]):
    class Meta:
        model = ForwardAttempt
        fields = [
            "number", "status", "worker", "started_at", "finished_at", "duration_ms", "error_class", "error_message",
            "answer", "next_attempt_at", "next_reason",
        ]  # fmt: skip


class ForwardSummarySerializer(serializers.ModelSerializer[Forward]):
    """One webhook on its way to another address."""

    class Meta:
        model = Forward
        fields = [
            "id", "webhook", "replay", "status", "target", "mode", "trigger", "attempt", "due_at", "worker",
            "cancel_requested_at", "error_message", "correlation_id", "created_at", "started_at", "finished_at",
            "duration_ms",
        ]  # fmt: skip
        read_only_fields = fields


class ForwardSerializer(ForwardSummarySerializer):
    """With the last answer and every attempt."""

    attempts = ForwardAttemptSerializer(many=True, read_only=True)

    class Meta(ForwardSummarySerializer.Meta):
        fields = [*ForwardSummarySerializer.Meta.fields, "answer", "attempts"]
        read_only_fields = fields


class SavedViewSerializer(StrictModelSerializer):
    """A named query of the list of webhooks."""

    owner = serializers.CharField(source="owner.username", read_only=True)
    query = StrictCharField(max_length=2000, allow_blank=True, help_text="Such as source=github&status=failed.")

    class Meta:
        model = SavedView
        fields = ["id", "name", "query", "shared", "owner", "created_at", "updated_at"]
        read_only_fields = ["created_at", "updated_at"]

    def create(self, validated_data: dict[str, Any]) -> SavedView:
        return saved_views.save_view(view=SavedView(owner=self.context["request"].user), **validated_data)

    def update(self, instance: SavedView, validated_data: dict[str, Any]) -> SavedView:
        return saved_views.save_view(view=instance, **validated_data)
