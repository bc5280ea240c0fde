"""The log as CSV, JSON or NDJSON, page by page, so that its length needs no memory.

Pages follow the index instead of one server-side cursor: outside a transaction such a cursor makes PostgreSQL copy the
whole result to disk first, inside one it would hold back vacuum for as long as the client takes to read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from django.db.models import QuerySet
from rest_framework.renderers import BaseRenderer, JSONRenderer

from apilogs.models import ApiLog
from apilogs.serializers import ApiLogSerializer

PAGE_ROWS = 500
FIELDS: list[str] = ApiLogSerializer.Meta.fields
# Source: OWASP, "CSV Injection": what a spreadsheet would take for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Log = dict[str, Any]


def pages(logs: QuerySet[ApiLog], *, newest_first: bool = True) -> Iterator[list[Log]]:
    """The rows in pages of PAGE_ROWS, in the order of their arrival; rows that come meanwhile may be missing."""
    ordering, before = (["-created_at", "-id"], "l") if newest_first else (["created_at", "id"], "g")
    rest = logs.order_by(*ordering).values(*FIELDS)
    page = list(rest[:PAGE_ROWS])
    while page:
        yield page
        if len(page) < PAGE_ROWS:
            return
        at, last = page[-1]["created_at"], page[-1]["id"]
        # As a range and an exception to it, not as `a < x OR (a = x AND …)`, which no index can follow.
        after = rest.filter(**{f"created_at__{before}te": at})
        seen = {"created_at": at, f"id__{'g' if newest_first else 'l'}te": last}
        page = list(after.exclude(**seen)[:PAGE_ROWS])


def as_ndjson(logs: Iterator[list[Log]]) -> Iterator[bytes]:
    for page in logs:
        yield b"".join(orjson.dumps(log) + b"\n" for log in page)


def as_json(logs: Iterator[list[Log]]) -> Iterator[bytes]:
    start = b"[\n"
    for page in logs:
        yield start + b",\n".join(orjson.dumps(log) for log in page)
        start = b",\n"
    yield b"\n]\n" if start == b",\n" else b"[]\n"


def as_csv(logs: Iterator[list[Log]]) -> Iterator[bytes]:
    yield _csv_lines([FIELDS])
    for page in logs:
        yield _csv_lines([[_cell(log[name]) for name in FIELDS] for log in page])


def _csv_lines(lines: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """JSON as JSON, instants in ISO format; text that a spreadsheet would run gets an apostrophe before it."""
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else orjson.dumps(value).decode().strip('"')
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


# --- content negotiation ----------------------------------------------------------------------------------------------


class ExportRenderer(BaseRenderer):
    """Names a format of the export for DRF's negotiation. `write` streams; `render` is left with the errors."""

    write: Callable[[Iterator[list[Log]]], Iterator[bytes]]

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return JSONRenderer().render(data)


class JsonExport(ExportRenderer):
    media_type = "application/json"
    format = "json"
    write = staticmethod(as_json)


class CsvExport(ExportRenderer):
    media_type = "text/csv"
    format = "csv"
    write = staticmethod(as_csv)


class NdjsonExport(ExportRenderer):
    media_type = "application/x-ndjson"
    format = "ndjson"
    write = staticmethod(as_ndjson)


RENDERERS: list[type[ExportRenderer]] = [JsonExport, CsvExport, NdjsonExport]
