"""The API's shape of tokens."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from automation_lab import tokens
from automation_lab.core.api.serializers import StrictCharField, StrictChoiceField, StrictModelSerializer
from automation_lab.models import ApiToken


class ApiTokenSerializer(StrictModelSerializer):
    """A token without its value."""

    id = serializers.SerializerMethodField()
    name = StrictCharField(max_length=100)
    prefix = serializers.SerializerMethodField(help_text="How the token begins.")
    scopes = serializers.ListField(
        child=StrictChoiceField(choices=ApiToken.Scope.choices),
        default=list,
        help_text="Empty: all the user may do.",
    )
    user = serializers.CharField(source="user.username", read_only=True)
    created_at = serializers.DateTimeField(source="created", read_only=True)
    expires_at = serializers.DateTimeField(
        source="expiry", required=False, allow_null=True, help_text="In 90 days when left out; null: never."
    )

    class Meta:
        model = ApiToken
        fields = ["id", "name", "prefix", "scopes", "user", "created_at", "expires_at", "last_used_at"]
        read_only_fields = ["last_used_at"]

    def get_id(self, token: ApiToken) -> str:
        return tokens.public_id(token)

    @extend_schema_field(serializers.CharField)
    def get_prefix(self, token: ApiToken) -> str:
        return token.token_key[:8]

    def create(self, validated_data: dict[str, Any]) -> ApiToken:
        """The plain value goes along as `token.plain`, for the one answer that shows it."""
        token, plain = tokens.create_token(
            user=self.context["request"].user,
            name=validated_data["name"],
            scopes=validated_data["scopes"],
            expires_at=validated_data.get("expiry", timezone.now() + tokens.DEFAULT_LIFETIME),
        )
        token.plain = plain
        return token


class NewApiTokenSerializer(ApiTokenSerializer):
    """A token just made, with the value that is shown this once."""

    token = serializers.CharField(source="plain", read_only=True, help_text="Shown once; store it now.")

    class Meta(ApiTokenSerializer.Meta):
        fields = [*ApiTokenSerializer.Meta.fields, "token"]
