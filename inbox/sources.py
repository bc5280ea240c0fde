"""Which source a request belongs to: looked up for every request, hence remembered for a moment in each process."""

from __future__ import annotations

import time

from django.conf import settings

from inbox.models import Source

MAX_REMEMBERED = 1000

_remembered: dict[str, tuple[float, Source | None]] = {}


def find_source(name: str) -> Source | None:
    """The source that receives under `name`; one without a row of its own if unknown names are accepted, else None.

    Changes made by another process are seen INBOX_SOURCE_CACHE_SECONDS later.
    """
    source = _stored_source(name)
    if source is None:
        return Source(name=name) if settings.INBOX_ACCEPT_UNKNOWN else None
    return source if source.enabled else None


def forget(name: str) -> None:
    """Look `name` up anew at its next request."""
    _remembered.pop(name, None)


def _stored_source(name: str) -> Source | None:
    now = time.monotonic()
    read_at, source = _remembered.get(name, (float("-inf"), None))
    if now - read_at < settings.INBOX_SOURCE_CACHE_SECONDS:
        return source
    source = Source.objects.filter(name=name).first()
    if len(_remembered) >= MAX_REMEMBERED:
        _remembered.clear()
    _remembered[name] = (now, source)
    return source
