"""`/v1/secrets` and `/v1/channels`; tasks/urls.py includes `router`."""

from __future__ import annotations

from automation_lab.core.api.viewsets import LabRouter
from tasks.viewsets_shared import NotificationChannelViewSet, SecretViewSet

router = LabRouter()
router.register("secrets", SecretViewSet, basename="secret")
router.register("channels", NotificationChannelViewSet, basename="channel")
