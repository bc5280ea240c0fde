"""What a stored webhook looks like when it is sent on: the same bytes and headers, without what belonged to its connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

REPLAY_HEADER = "X-Automation-Lab-Replay-Of"
HOP_HEADER = "X-Automation-Lab-Hop"
EDITED_HEADER = "X-Automation-Lab-Edited"
MAX_HOPS = 10

# Source: RFC 9110, section 7.6.1, with the non-standard ones that are in use; and what the new connection writes itself.
_DROPPED = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Pairs = Sequence[Sequence[str]]


@dataclass(frozen=True)
class OutgoingWebhook:
    """One request to be sent, apart from where to."""

    method: str
    query: list[tuple[str, str]]
    headers: list[tuple[str, str]]
    body: bytes


def outgoing_webhook(
    *, webhook_id: int, method: str, query_params: Pairs, headers: Pairs, body: bytes, extra: Mapping[str, str]
) -> OutgoingWebhook:
    """The request that repeats a webhook; `extra` headers replace those of the same name."""
    marks = {REPLAY_HEADER: str(webhook_id), HOP_HEADER: str(hop_of(headers) + 1), **extra}
    return OutgoingWebhook(
        method=method,
        query=[(name, value) for name, value in query_params],
        headers=[*kept_headers(headers, replaced=marks), *marks.items()],
        body=body,
    )


def kept_headers(headers: Pairs, *, replaced: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Those of `headers` that are sent on: none of the connection's, none that is `replaced`."""
    named = {
        word.strip().lower() for name, value in headers if name.lower() == "connection" for word in value.split(",")
    }
    dropped = _DROPPED | named | {name.lower() for name in replaced}
    return [
        (name, _wire_text(value)) for name, value in headers if name.lower() not in dropped and _NAME.fullmatch(name)
    ]


def hop_of(headers: Pairs) -> int:
    """How many sendings by an Automation Lab led to this request; nonsense counts as none."""
    value = next((value for name, value in headers if name.lower() == HOP_HEADER.lower()), "")
    return min(int(value), 1_000) if value.isascii() and value.isdigit() and len(value) < 6 else 0


def _wire_text(value: str) -> str:
    """WSGI decodes header bytes as Latin-1, the outbound client writes UTF-8: undone here, so the same bytes leave."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
