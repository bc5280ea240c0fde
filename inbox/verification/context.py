"""What a check is given: the request, the secrets that are valid now, the clock, and the address that was called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from django.conf import settings

from inbox.incoming import IncomingRequest

PATH_SAFE = "/~:@!$&'()*+,;=-._%"


@dataclass(frozen=True)
class Secret:
    """One secret of a source, decrypted. `value` is a public key where the scheme is asymmetric."""

    id: str
    value: str = field(repr=False)
    starts_at: datetime | None = None
    expires_at: datetime | None = None

    def is_valid_at(self, now: datetime) -> bool:
        return (not self.starts_at or self.starts_at <= now) and (not self.expires_at or now < self.expires_at)


@dataclass(frozen=True)
class Context:
    """`url` is empty when this installation does not know its own address; `options` are the source's scheme settings."""

    request: IncomingRequest
    secrets: tuple[Secret, ...]
    now: datetime
    url: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def tolerance(self, default: int) -> int:
        return int(self.options.get("tolerance_seconds", default))  # JSON may write 30 as 30.0


def public_url(request: IncomingRequest, options: dict[str, Any]) -> str:
    """The address that the sender called: never taken from the request's own Host header, which anybody may set.

    A configured address may hold the query that every request has; else it is the request's own.
    """
    url = str(options.get("url", ""))
    if not url and settings.PUBLIC_URL:
        url = f"{settings.PUBLIC_URL}{quote(request.path, safe=PATH_SAFE)}"
    return with_query(url, request.query_string)


def with_query(url: str, query: str) -> str:
    """`url` with `query`, unless it is empty or has one already."""
    return f"{url}?{query}" if url and query and "?" not in url else url


def usable(secrets: Iterable[Secret], now: datetime) -> tuple[Secret, ...]:
    return tuple(secret for secret in secrets if secret.is_valid_at(now))
