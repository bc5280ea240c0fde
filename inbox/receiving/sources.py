"""Which source a request belongs to: looked up for every request, hence remembered for a moment in each process.

What is remembered may be old, but only rates and sizes are limited by it: before a name is refused its row is read, and the
statement that stores a request tells whether the row has changed since (see `SourceChanged`).
"""

from __future__ import annotations

import time

from django.conf import settings

from automation_lab.core.exceptions import Unavailable
from inbox.models import Source

MAX_REMEMBERED = 1000

_remembered: dict[str, tuple[float, Source | None]] = {}


class SourceChanged(Unavailable):
    """A request was judged by a source as it is no longer; nothing is stored. The next look-up finds it as it is."""

    code = "source_changed"

    def __init__(self, source: Source) -> None:
        super().__init__("The settings of this source are being changed: try again.")
        forget(source.name)


def find_source(name: str) -> Source | None:
    """The source that receives under `name`; one without a row of its own if unknown names are accepted, else None."""
    read_at, source = _remembered.get(name, (float("-inf"), None))
    is_recent = time.monotonic() - read_at < settings.INBOX_SOURCE_CACHE_SECONDS
    if not is_recent or not _receives(source):
        source = _read(name)
    return source or Source(name=name) if _receives(source) else None


def _receives(source: Source | None) -> bool:
    return source.enabled if source else settings.INBOX_ACCEPT_UNKNOWN


def forget(name: str) -> None:
    """Look `name` up anew at its next request."""
    _remembered.pop(name, None)


def _read(name: str) -> Source | None:
    now = time.monotonic()  # before reading, so that it is never taken for younger than it is
    source = Source.objects.filter(name=name).first()
    if len(_remembered) >= MAX_REMEMBERED:
        _remembered.clear()
    _remembered[name] = (now, source)
    return source
