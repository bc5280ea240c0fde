"""The `Idempotency-Key` of requests that start something; what it does is in `core.execution.idempotency`."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from automation_lab.core.exceptions import Invalid

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    location=OpenApiParameter.HEADER,
    description="The same key and body give again what they gave first; another body is a conflict.",
)


def idempotency_key(request: Request) -> str:
    """The request's key, or "". Raises Invalid when it does not fit."""
    key = request.headers.get("Idempotency-Key", "").strip()
    if len(key) > 255 or not key.isascii() or not key.isprintable():
        raise Invalid("Must be at most 255 printable ASCII characters.", field="Idempotency-Key")
    return key
