"""Secrets and notification channels over the API."""

from __future__ import annotations

from automation_lab.core.filters import StrictFilterSet
from automation_lab.core.viewsets import LabModelViewSet
from tasks import secrets
from tasks.models import NotificationChannel, Secret
from tasks.serializers_shared import NotificationChannelSerializer, SecretSerializer


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

    def perform_destroy(self, instance: Secret) -> None:
        secrets.delete_secret(secret=instance)


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
