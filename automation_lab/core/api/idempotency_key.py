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
    """The request's key, or "" if it brings none. Raises Invalid when it does not fit.

    An empty one does not: whoever sends it relies on a key, and one beyond ASCII arrives empty from the server.
    """
    if "Idempotency-Key" not in request.headers:
        return ""
    key = request.headers["Idempotency-Key"].strip()
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise Invalid("Must be 1 to 255 printable ASCII characters.", field="Idempotency-Key")
    return key
