"""Reads of the inbox: the lists never load the bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import OuterRef, Subquery, Value
from django.db.models.functions import Coalesce, Concat, Substr

if TYPE_CHECKING:
    from inbox.models import Source, Webhook  # noqa: F401 - named in the base classes

SOURCE_KEY = "source:"  # of the limit of a source, before its name
PREVIEW_BYTES = 200
BODIES = ("raw_body", "body", "header_terms", "body_terms")
"""What takes time to read and is seldom needed."""


class SourceQuerySet(models.QuerySet["Source"]):
    def enabled(self) -> SourceQuerySet:
        return self.filter(enabled=True)

    def with_refusals(self) -> SourceQuerySet:
        """How many of its requests were more than its limit, and when the last of them came."""
        from inbox.models import RateWindow

        window = RateWindow.objects.filter(key=Concat(Value(SOURCE_KEY), OuterRef("name")))
        return self.annotate(
            refused_count=Coalesce(Subquery(window.values("refused_count")), 0),
            last_refused_at=Subquery(window.values("refused_at")),
        )


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def without_bodies(self) -> WebhookQuerySet:
        """For lists: the bodies, and what they are found by, would be most of what is read."""
        return self.defer(*BODIES)

    def with_preview(self) -> WebhookQuerySet:
        """The first bytes of the body, of which PostgreSQL then reads no more than it needs."""
        return self.annotate(preview_bytes=Substr("raw_body", 1, PREVIEW_BYTES, output_field=models.BinaryField()))

    def holding(self, *, source: str, dedupe_key: str) -> WebhookQuerySet:
        """The one webhook that a repetition of this key is linked to: the columns of the unique constraint."""
        return self.filter(source=source, dedupe_key=dedupe_key, is_duplicate=False).exclude(status="rejected")
