"""What the API offers on a stored webhook about who sent it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core import audit
from automation_lab.core.api.serializers import StrictSerializer
from inbox import reverify, subscriptions
from inbox.models import Webhook
from inbox.serializers import WebhookSerializer


class ReverifiedSerializer(StrictSerializer):
    """What verifying again came to, and why it does not match, in words."""

    verification = serializers.CharField(source="verdict.result")
    accepted = serializers.BooleanField(source="verdict.accepted")
    matched_secret = serializers.CharField(source="verdict.secret_id")
    findings = serializers.ListField(child=serializers.CharField())
    status = serializers.ChoiceField(choices=Webhook.Status.choices, source="webhook.status")


class VerifyActions:
    """For the viewset of webhooks. Neither runs in a transaction: both may call the provider."""

    @extend_schema(request=None, responses=ReverifiedSerializer)
    @action(detail=True, methods=["post"])
    def verify(self, request: Request, **kwargs: Any) -> Response:
        """Verify again with today's secrets. A rejected webhook that verifies now is accepted and starts what it should."""
        before = self.get_object()  # type: ignore[attr-defined]
        found = reverify.verify_again(webhook=before)
        if found.webhook.status != before.status:
            self.record(found.webhook, audit.CHANGE, "Verified again and accepted.")  # type: ignore[attr-defined]
        return Response(ReverifiedSerializer(found).data)

    @extend_schema(request=None, responses=WebhookSerializer)
    @action(detail=True, methods=["post"], url_path="confirm-subscription")
    def confirm_subscription(self, request: Request, **kwargs: Any) -> Response:
        """Confirm the SNS subscription that this webhook asks for."""
        webhook = subscriptions.confirm_subscription(webhook=self.get_object())  # type: ignore[attr-defined]
        self.record(webhook, audit.CHANGE, "Subscription confirmed.")  # type: ignore[attr-defined]
        return Response(WebhookSerializer(webhook).data)
