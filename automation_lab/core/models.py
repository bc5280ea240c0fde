"""Abstract models that every app builds on; no tables of their own."""

from __future__ import annotations

from django.db import models


class TimeStampedModel(models.Model):
    """`update()` skips `auto_now`: set `updated_at` there by hand."""

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
