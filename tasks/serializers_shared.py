"""The API's shape of secrets and notification channels: what is secret goes in and never comes out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.validators import UniqueValidator

from automation_lab.core import secret_uses
from automation_lab.core.api.serializers import StrictCharField, StrictModelSerializer
from tasks import secrets
from tasks.models import NotificationChannel, Secret
from tasks.notifying import channels


class FixedNameMixin:
    """The ciphertext is bound to the name, and configurations hold it: it is given once."""

    def validate_name(self, name: str) -> str:
        instance = self.instance  # type: ignore[attr-defined]
        if instance is not None and instance.name != name:
            raise serializers.ValidationError("The name cannot be changed; make another one.", code="fixed")
        return name


class SecretSerializer(FixedNameMixin, StrictModelSerializer):
    """A secret without its value."""

    name = StrictCharField(
        max_length=64,
        validators=[
            RegexValidator(rf"\A{secrets.NAME.pattern}\Z", "A letter, then letters, digits and _."),
            UniqueValidator(Secret.objects.all(), message="There is a secret of this name already."),
        ],
    )
    value = StrictCharField(
        write_only=True,
        trim_whitespace=False,
        max_length=secrets.MAX_VALUE_LENGTH,
        style={"input_type": "password"},
        help_text="Write-only. Setting it again replaces the old value at its next use.",
    )
    allowed_hosts = serializers.ListField(
        child=StrictCharField(max_length=253),
        required=False,
        max_length=secrets.MAX_HOSTS,
        help_text="Hosts it may be sent to, *.example.com too; empty: any.",
    )

    class Meta:
        model = Secret
        fields = [
            "id",
            "name",
            "description",
            "value",
            "allowed_hosts",
            "last4",
            "rotated_at",
            "last_used_at",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["last4", "rotated_at", "last_used_at", "created_at", "updated_at"]

    def create(self, validated_data: dict[str, Any]) -> Secret:
        return secrets.set_secret(**validated_data, only_new=True)

    def update(self, instance: Secret, validated_data: dict[str, Any]) -> Secret:
        return secrets.set_secret(**{**validated_data, "name": instance.name})


class SecretUserSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="task, workflow or channel.")
    id = serializers.IntegerField()
    name = serializers.CharField()


class SecretDetailSerializer(SecretSerializer):
    """A secret without its value, with what names it."""

    used_by = serializers.SerializerMethodField()

    class Meta(SecretSerializer.Meta):
        fields = [*SecretSerializer.Meta.fields, "used_by"]

    @extend_schema_field(SecretUserSerializer(many=True))
    def get_used_by(self, secret: Secret) -> list[dict[str, Any]]:
        return [asdict(user) for user in secret_uses.users_of(secret.name)]


class NotificationChannelSerializer(FixedNameMixin, StrictModelSerializer):
    """A channel without its target."""

    target = StrictCharField(
        write_only=True,
        max_length=channels.MAX_TARGET_LENGTH,
        help_text="Write-only. An address for email, else the URL that messages are sent to.",
    )
    secret = serializers.SlugRelatedField(
        slug_field="name",
        queryset=Secret.objects.all(),
        required=False,
        allow_null=True,
        help_text="Name of the secret that signs messages of kind webhook.",
    )

    class Meta:
        model = NotificationChannel
        fields = [
            "id",
            "name",
            "kind",
            "target",
            "target_hint",
            "secret",
            "enabled",
            "throttle_seconds",
            "last_sent_at",
            "last_error",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["target_hint", "last_sent_at", "last_error", "created_at", "updated_at"]

    def create(self, validated_data: dict[str, Any]) -> NotificationChannel:
        return channels.create_channel(**validated_data)

    def update(self, instance: NotificationChannel, validated_data: dict[str, Any]) -> NotificationChannel:
        validated_data.pop("name", None)
        return channels.update_channel(channel=instance, **validated_data)
