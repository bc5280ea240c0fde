"""Addresses below /v1/."""

from __future__ import annotations

from apilogs.viewsets import ApiLogViewSet
from automation_lab.core.api.viewsets import LabRouter

router = LabRouter()
router.register("api-logs", ApiLogViewSet, basename="api-log")

urlpatterns = router.urls
