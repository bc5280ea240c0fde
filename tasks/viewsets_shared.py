"""Secrets and notification channels over the API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core import audit
from automation_lab.core.api.filters import StrictFilterSet
from automation_lab.core.api.problems import ProblemSerializer
from automation_lab.core.api.viewsets import LabModelViewSet
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.failures import RunError
from automation_lab.core.execution.results import masked_text
from tasks import secrets
from tasks.models import NotificationChannel, Secret
from tasks.notifying import notifications
from tasks.serializers_shared import NotificationChannelSerializer, SecretDetailSerializer, SecretSerializer


class SecretFilterSet(StrictFilterSet):
    class Meta:
        model = Secret
        fields = ["name"]


class SecretViewSet(LabModelViewSet):
    """Values that configurations name as `secrets.NAME`. The value goes in and never comes out."""

    queryset = Secret.objects.defer("ciphertext")
    serializer_class = SecretSerializer
    filterset_class = SecretFilterSet
    ordering_fields = ["name", "created_at", "rotated_at", "last_used_at"]
    scope_area = "tasks"
    closed_when_open = True

    def get_serializer_class(self) -> type[Any]:
        return SecretDetailSerializer if self.action == "retrieve" else SecretSerializer

    @extend_schema(
        parameters=[
            OpenApiParameter("force", bool, description="Also when tasks or workflows name it; default false.")
        ],
        responses={204: None, 409: ProblemSerializer},
    )
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a secret that nothing names any more; `used_by` of it says what does."""
        self.extra_query_parameters = ("force",)
        return super().destroy(request, *args, **kwargs)

    def perform_destroy(self, instance: Secret) -> None:
        text = self.request.query_params.get("force", "false")
        if text not in ("true", "false"):
            raise Invalid("Must be true or false.", field="force")
        secrets.delete_secret(secret=instance, force=text == "true")


class TestResultSerializer(serializers.Serializer[Any]):
    delivered = serializers.BooleanField()
    error = serializers.CharField()
    code = serializers.CharField(help_text="Such as http.404; empty when it was delivered.")


class NotificationChannelFilterSet(StrictFilterSet):
    class Meta:
        model = NotificationChannel
        fields = ["name", "kind", "enabled"]


class NotificationChannelViewSet(LabModelViewSet):
    """Where messages about failures and recoveries go. The target goes in and never comes out."""

    queryset = NotificationChannel.objects.defer("target_ciphertext").select_related("secret")
    serializer_class = NotificationChannelSerializer
    filterset_class = NotificationChannelFilterSet
    ordering_fields = ["name", "created_at", "last_sent_at"]
    scope_area = "tasks"
    closed_when_open = True

    @extend_schema(request=None, responses=TestResultSerializer)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, **kwargs: Any) -> Response:
        """Send a test message now and say what came back."""
        channel = self.get_object()
        self.record(channel, audit.CHANGE, "Test message sent.")
        try:
            notifications.send_test(channel=channel)
        except RunError as error:
            return Response({"delivered": False, "error": masked_text(error.message), "code": error.code})
        return Response({"delivered": True, "error": "", "code": ""})
