"""Reads of the API log; the lists never load bodies or headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from apilogs.models import ApiLog  # noqa: F401 - named in the base classes


class ApiLogQuerySet(models.QuerySet["ApiLog"]):
    def without_payloads(self) -> ApiLogQuerySet:
        return self.defer("request_headers", "request_body", "response_headers", "response_body")
