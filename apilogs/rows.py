"""From one finished request to one row of `api_logs`: redacted, cut to size, storable."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from automation_lab.core.redaction import redact_body, redact_headers, redact_query, redact_text
from automation_lab.core.redaction.shapes import is_sensitive_header, is_sensitive_key

BODY_LIMIT_BYTES = 8192
REDACTED_BYTES = 256 * 1024  # redaction must see the whole body, and one of megabytes would hold up the writer
MOST_PARAMETERS = 500
LONGEST_PATH = 2000
LARGEST_SIZE = 2**31 - 1

# Written by this server, the same every time: no use looking for secrets in them, and they are half of all headers.
OWN_HEADERS = frozenset(
    {
        "Allow",
        "Cache-Control",
        "Content-Length",
        "Content-Security-Policy",
        "Cross-Origin-Opener-Policy",
        "Permissions-Policy",
        "Referrer-Policy",
        "Vary",
        "X-Content-Type-Options",
        "X-Frame-Options",
    }
)

Pairs = Sequence[tuple[str, str]]


class Entry(NamedTuple):
    """What the request thread takes down: references to what is there already, nothing parsed or copied."""

    correlation_id: str
    started_at: float  # seconds since the epoch
    duration_ms: float
    method: str
    path: str
    route: str  # as the URL configuration spells it
    query: str
    status_code: int
    request_headers: Pairs  # names as in `META`
    response_headers: Pairs
    request_body: bytes | None
    response_body: bytes | None
    request_type: str
    response_type: str
    request_size: int
    response_size: int
    user_id: int | None
    username: str
    client_ip: str
    error: str
    weight: int  # bytes it holds, for the bound of the queue


Row = tuple[Any, ...]

COLUMNS = (
    "correlation_id",
    "created_at",
    "duration_ms",
    "method",
    "path",
    "route",
    "query_params",
    "status_code",
    "request_headers",
    "response_headers",
    "request_size",
    "response_size",
    "user_id",
    "username",
    "user_agent",
    "client_ip",
    "error",
    "row_key",
    "request_body",
    "response_body",
)
BODY_COLUMNS = 2  # the last ones: a row in the spool is without them


def build_head(entry: Entry, row_key: str | None = None) -> Row:
    """The row without its bodies. Asks no provider of secrets, so a request thread may call it."""
    request_headers, response_headers = named_headers(entry.request_headers), entry.response_headers
    user_agent = next((value for name, value in request_headers if name == "User-Agent"), "")
    query = _parameters(entry.query)
    free = [*_values(request_headers), *_values(response_headers), *(part for pair in query for part in pair)]
    whole = "\n".join([entry.path, *free])
    # One look through everything: nearly always there is nothing to mask, and then no part needs a look of its own.
    suspicious = redact_text(whole, refresh=False) != whole
    return (
        entry.correlation_id[:64],
        datetime.fromtimestamp(entry.started_at, UTC).isoformat(),
        round(entry.duration_ms, 3),
        _text(entry.method, 16),
        _text(_path(entry.path, suspicious), LONGEST_PATH),
        route_template(entry.route)[:200],
        _json(_redacted_query(query, suspicious)),
        entry.status_code,
        _json(_redacted(request_headers, suspicious)),
        _json(_redacted(response_headers, suspicious)),
        min(entry.request_size, LARGEST_SIZE),
        min(entry.response_size, LARGEST_SIZE),
        entry.user_id,
        _text(entry.username, 150),
        _text(_masked(user_agent, suspicious), 300),
        _address(entry.client_ip),
        _text(entry.error, 300),
        row_key,
    )


def build_bodies(entry: Entry) -> Row:
    return (_body(entry.request_body, entry.request_type), _body(entry.response_body, entry.response_type))


def _body(body: bytes | None, content_type: str) -> str | None:
    if body is None:
        return None
    if len(body) > REDACTED_BYTES:
        return f"[not kept, {len(body):,} bytes]"
    return redact_body(body, content_type, BODY_LIMIT_BYTES)


# --- parts ------------------------------------------------------------------------------------------------------------

# With doubled slashes too: an address that was put together wrongly holds the same secret.
_SECRET_IN_PATH = re.compile(r"^(/v1/+callbacks/+|/approve/)[^/]+")


def _path(path: str, suspicious: bool) -> str:
    return _SECRET_IN_PATH.sub(r"\1[redacted]", _masked(path, suspicious))


def _parameters(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS, errors="replace")
    except ValueError:  # too many
        return [("", query)]


def _redacted_query(pairs: Pairs, suspicious: bool) -> list[list[str]]:
    if suspicious:
        return redact_query([(_masked(name, suspicious), value) for name, value in pairs])
    return [redact_query([pair])[0] if is_sensitive_key(pair[0]) else list(pair) for pair in pairs]


def _redacted(pairs: Pairs, suspicious: bool) -> list[list[str]]:
    return [
        redact_headers([pair])[0] if is_sensitive_header(pair[0]) else [pair[0], _masked(pair[1], suspicious)]
        for pair in pairs
    ]


def _values(pairs: Pairs) -> list[str]:
    return [value for name, value in pairs if name not in OWN_HEADERS and not is_sensitive_header(name)]


def _masked(text: str, suspicious: bool) -> str:
    return redact_text(text, refresh=False) if suspicious else text


def named_headers(pairs: Pairs) -> list[tuple[str, str]]:
    """`HTTP_X_FORWARDED_FOR` of `META` as `X-Forwarded-For`."""
    return [(_header_name(name), value) for name, value in pairs]


@lru_cache(maxsize=1024)
def _header_name(name: str) -> str:
    return name.removeprefix("HTTP_").replace("_", "-").title()


_PATH_PARAMETER = re.compile(r"<(?:[^:>]+:)?([^>]+)>")
_NAMED_GROUP = re.compile(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)")


@lru_cache(maxsize=1024)
def route_template(route: str) -> str:
    """Django's `v1/tasks/<int:pk>` (or the regular expression of a router) as `/v1/tasks/{id}`; "" stays ""."""
    if not route:
        return ""
    template = _PATH_PARAMETER.sub(_braces, _NAMED_GROUP.sub(_braces, route))
    return "/" + template.replace("^", "").replace("\\Z", "").replace("$", "").replace("\\", "").lstrip("/")


def _braces(match: re.Match[str]) -> str:
    return "{id}" if match[1] == "pk" else f"{{{match[1]}}}"


@lru_cache(maxsize=1024)
def _address(text: str) -> str | None:
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _json(value: Any) -> str:
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # lone surrogates
        text = orjson.dumps([[_storable(part) for part in pair] for pair in value]).decode()
    return text.replace("\\u0000", "\\ufffd") if "\\u0000" in text else text


def _text(text: str, limit: int) -> str:
    return _storable(text)[:limit]


def _storable(text: str) -> str:
    """PostgreSQL takes neither NUL nor lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
