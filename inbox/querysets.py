"""Reads of the inbox: the lists never load the bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from inbox.models import Source, Webhook  # noqa: F401 - named in the base classes


class SourceQuerySet(models.QuerySet["Source"]):
    def enabled(self) -> SourceQuerySet:
        return self.filter(enabled=True)


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def without_bodies(self) -> WebhookQuerySet:
        """For lists: the bodies would be most of what is read."""
        return self.defer("raw_body", "body")
