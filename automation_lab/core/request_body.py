"""Reads a request's body once, bounded, also when it is chunked.

Django takes the body's length from Content-Length alone, so a chunked body looks empty to it under WSGI. A server that
marks its input as terminated may be read to the end.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.request import UnreadablePostError

from automation_lab.core.exceptions import AutomationLabError, Invalid

CHUNK_BYTES = 65_536


class TooLarge(AutomationLabError):
    """The body is longer than it may be. Answered as 413."""

    code = "too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes, the most that is accepted here.")
        self.limit = limit


class LengthRequired(AutomationLabError):
    """A chunked body that the server does not hand on. Answered as 411."""

    code = "length_required"


def has_body(request: HttpRequest) -> bool:
    """Whether the request announces a body, of known length or chunked."""
    return request.META.get("CONTENT_LENGTH") not in (None, "", "0") or _is_chunked(request)


def read_body(request: HttpRequest, limit: int) -> bytes:
    """The exact bytes of the body, at most `limit` of them; `request.body` gives the same ones afterwards.

    Raises TooLarge (before reading when the announced length says so), LengthRequired, and Invalid for a body with two
    contradicting lengths or one that ended early.
    """
    if not hasattr(request, "_body"):
        # Django's own attribute: what reads `request.body` later (CSRF check, request log) gets these bytes.
        request._body = _read(request, limit)
    body: bytes = request._body
    if len(body) > limit:
        raise TooLarge(limit)
    return body


def _read(request: HttpRequest, limit: int) -> bytes:
    length = _content_length(request)
    if _is_chunked(request):
        if length is not None:
            raise Invalid("Content-Length and Transfer-Encoding contradict each other.", code="ambiguous_length")
        if not request.META.get("wsgi.input_terminated"):
            raise LengthRequired("This server does not read chunked bodies; send Content-Length.")
        return _read_up_to(request.META["wsgi.input"], limit)
    if not length:
        return b""
    if length > limit:
        raise TooLarge(limit)
    body = _read_up_to(request, limit)
    if len(body) < length:
        raise Invalid(f"The body ended after {len(body)} of {length} bytes.", code="incomplete_body")
    return body


def _is_chunked(request: HttpRequest) -> bool:
    return bool(request.META.get("HTTP_TRANSFER_ENCODING", "").strip())


def _content_length(request: HttpRequest) -> int | None:
    text = str(request.META.get("CONTENT_LENGTH") or "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise Invalid("Content-Length is not a number.", code="bad_length")
    return int(text)


def _read_up_to(stream: Any, limit: int) -> bytes:
    """All of `stream`; one byte more than `limit` is enough to know that it is too large."""
    parts: list[bytes] = []
    left = limit + 1
    try:
        while left > 0 and (part := stream.read(min(left, CHUNK_BYTES))):
            parts.append(part)
            left -= len(part)
    except (UnreadablePostError, OSError) as exc:
        raise Invalid("The body could not be read to its end.", code="incomplete_body") from exc
    if left <= 0:
        raise TooLarge(limit)
    return b"".join(parts)
