"""One request as a sender made it, taken from the WSGI environment once and independent of Django afterwards."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from django.http import HttpRequest

from automation_lab.core import correlation
from automation_lab.core.client_address import client_address
from automation_lab.core.safe_json import ParsedBody, parse_webhook_body

MAX_HEADERS = 100
MAX_HEADER_CHARACTERS = 32_768
MAX_QUERY_PAIRS = 1000
MAX_FORM_FIELDS = 1000
FORM = "application/x-www-form-urlencoded"

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_BODY_HEADERS = {"CONTENT_TYPE": "Content-Type", "CONTENT_LENGTH": "Content-Length"}

Pairs = list[list[str]]


@dataclass(frozen=True)
class IncomingRequest:
    """What was received. Header names come without their original spelling and repeats joined: WSGI keeps neither."""

    method: str
    path: str
    query_params: Pairs = field(default_factory=list)
    query_string: str = ""
    headers: Pairs = field(default_factory=list)
    raw_body: bytes = b""
    remote_addr: str | None = None
    correlation_id: str = ""
    flags: tuple[str, ...] = ()

    @cached_property
    def _header_values(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers}

    def header(self, name: str) -> str:
        return self._header_values.get(name.lower(), "")

    def query(self, name: str) -> str:
        return next((value for key, value in self.query_params if key == name and value), "")

    @property
    def content_type(self) -> str:
        return self.header("Content-Type")

    @property
    def chunked(self) -> bool:
        """Its end is not certain: granian gives a chunked body that broke off as if it had been whole."""
        return bool(self.header("Transfer-Encoding"))

    @cached_property
    def parsed(self) -> ParsedBody:
        return parse_webhook_body(self.raw_body, self.content_type)

    @cached_property
    def form(self) -> dict[str, str]:
        """The fields of a urlencoded body, the first value of each; empty for every other body."""
        if self.content_type.partition(";")[0].strip().lower() != FORM:
            return {}
        try:
            fields = parse_qsl(self.raw_body.decode("utf-8", "replace"), max_num_fields=MAX_FORM_FIELDS)
        except ValueError:  # too many fields
            return {}
        return dict(reversed(fields))


def read_request(request: HttpRequest, raw_body: bytes) -> IncomingRequest:
    """What the inbox keeps of `request`, cleaned of the characters that PostgreSQL cannot hold."""
    flags: set[str] = set()
    # As everywhere in WSGI, the bytes of the query arrive decoded as Latin-1.
    query = request.META.get("QUERY_STRING", "").encode("latin-1", "replace").decode("utf-8", "replace")
    return IncomingRequest(
        method=request.method or "",
        path=clean_text(request.path, flags),
        query_params=_query_pairs(query, flags),
        query_string=clean_text(query, flags),
        headers=[[name, clean_text(value, flags)] for name, value in _header_pairs(request.META)],
        raw_body=raw_body,
        remote_addr=client_address(request) or None,
        correlation_id=correlation.current(),
        flags=tuple(sorted(flags)),
    )


def clean_text(text: str, flags: set[str]) -> str:
    """`text` with NUL and lone surrogates replaced by U+FFFD, which is flagged."""
    cleaned, count = _UNSTORABLE.subn("\ufffd", text)
    if count:
        flags.add("characters_replaced")
    return cleaned


def limit_headers(headers: Pairs, flags: set[str]) -> Pairs:
    """The headers that are stored: so many, and so many characters together. Cutting is flagged."""
    kept: Pairs = []
    characters = 0
    for name, value in headers[:MAX_HEADERS]:
        characters += len(name) + len(value)
        if characters > MAX_HEADER_CHARACTERS:
            break
        kept.append([name, value])
    if len(kept) < len(headers):
        flags.add("headers_truncated")
    return kept


def _header_pairs(environ: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [(_BODY_HEADERS[key], environ[key]) for key in _BODY_HEADERS if environ.get(key)]
    # granian mixes the process environment in, where a variable such as HTTP_PROXY looks like a header.
    own = os.environ
    pairs += [
        (key[5:].replace("_", "-").title(), value)
        for key, value in environ.items()
        if key.startswith("HTTP_") and own.get(key) != value
    ]
    return pairs


def _query_pairs(query: str, flags: set[str]) -> Pairs:
    parts = query.split("&", MAX_QUERY_PAIRS)
    if len(parts) > MAX_QUERY_PAIRS:
        flags.add("query_truncated")
    pairs = parse_qsl("&".join(parts[:MAX_QUERY_PAIRS]), keep_blank_values=True, errors="replace")
    return [[clean_text(name, flags), clean_text(value, flags)] for name, value in pairs]
