"""What the lists of the inbox may be filtered by."""

from __future__ import annotations

from automation_lab.core.filters import StrictFilterSet, created_after, created_before
from inbox.models import Source, Webhook


class WebhookFilterSet(StrictFilterSet):
    received_after = created_after("received_at")
    received_before = created_before("received_at")

    class Meta:
        model = Webhook
        fields = [
            "source",
            "event_type",
            "status",
            "method",
            "delivery_id",
            "verification",
            "is_duplicate",
            "correlation_id",
        ]


class SourceFilterSet(StrictFilterSet):
    class Meta:
        model = Source
        fields = ["scheme", "enabled"]
