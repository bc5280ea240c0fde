"""What the lists of the inbox may be filtered by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import django_filters

from automation_lab.core.api.filters import StrictFilterSet, created_after, created_before
from automation_lab.core.api.pagination import MAX_ROWS
from inbox.models import Forward, Replay, Source, Webhook
from inbox.querysets import WebhookQuerySet
from inbox.searching import search

DEAR = ("q", "flag", "method", "is_duplicate", "received_after", "received_before")


def counted_rows(parameters: Mapping[str, str]) -> int:
    """To how many a list filtered by `parameters` is counted: less far where each row has to be looked at."""
    dear = any(value and (name in DEAR or name.startswith(search.PREFIXES)) for name, value in parameters.items())
    return search.COUNTED_ROWS if dear else MAX_ROWS


class WebhookFilterSet(StrictFilterSet):
    """Beside the named ones, `header.NAME` and `body.PATH` are filters too (see `search`)."""

    prefixes = search.PREFIXES
    received_after = created_after("received_at")
    received_before = created_before("received_at")
    flag = django_filters.CharFilter(method="filter_flag", max_length=40, help_text="Such as duplicate_keys.")
    q = django_filters.CharFilter(
        method="filter_later",
        max_length=200,
        help_text=f"Exact text in the body, of the newest {search.TEXT_WINDOW:,} that the other filters find.",
    )

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

    def filter_queryset(self, queryset: Any) -> WebhookQuerySet:
        found = search.carrying(super().filter_queryset(queryset), list(self.data.items()))
        text = self.form.cleaned_data["q"]
        return search.holding_text(found, text) if text else found

    def filter_flag(self, queryset: WebhookQuerySet, name: str, value: str) -> WebhookQuerySet:
        return queryset.filter(flags__contains=[value]).exclude(flags=[])  # as the index has it

    def filter_later(self, queryset: WebhookQuerySet, name: str, value: str) -> WebhookQuerySet:
        """Text is looked for in what all the other filters leave."""
        return queryset


class SourceFilterSet(StrictFilterSet):
    class Meta:
        model = Source
        fields = ["scheme", "enabled"]


class ReplayFilterSet(StrictFilterSet):
    class Meta:
        model = Replay
        fields = ["status", "target", "created_by"]


class ForwardFilterSet(StrictFilterSet):
    class Meta:
        model = Forward
        fields = ["status", "webhook", "replay", "mode"]
