"""Reads of the inbox: the lists never load the bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models.functions import Substr

if TYPE_CHECKING:
    from inbox.models import Source, Webhook  # noqa: F401 - named in the base classes

PREVIEW_BYTES = 200


class SourceQuerySet(models.QuerySet["Source"]):
    def enabled(self) -> SourceQuerySet:
        return self.filter(enabled=True)


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def without_bodies(self) -> WebhookQuerySet:
        """For lists: the bodies would be most of what is read."""
        return self.defer("raw_body", "body")

    def with_preview(self) -> WebhookQuerySet:
        """The first bytes of the body, of which PostgreSQL then reads no more than it needs."""
        return self.annotate(preview_bytes=Substr("raw_body", 1, PREVIEW_BYTES, output_field=models.BinaryField()))

    def holding(self, *, source: str, dedupe_key: str) -> WebhookQuerySet:
        """The one webhook that a repetition of this key is linked to: the columns of the unique constraint."""
        return self.filter(source=source, dedupe_key=dedupe_key, is_duplicate=False).exclude(status="rejected")
