"""Rows as CSV, JSON or NDJSON, page by page, so that the length of an export needs no memory.

The pages come from the caller, who follows an index instead of one server-side cursor: outside a transaction such a
cursor makes PostgreSQL copy the whole result to disk first, inside one it would hold back vacuum for as long as the client
takes to read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from rest_framework.renderers import BaseRenderer, JSONRenderer

# Source: OWASP, "CSV Injection": what a spreadsheet would take for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Row = Mapping[str, Any]
Pages = Iterable[Sequence[Row]]


def as_ndjson(pages: Pages) -> Iterator[bytes]:
    for page in pages:
        yield b"".join(orjson.dumps(row) + b"\n" for row in page)


def as_json(pages: Pages) -> Iterator[bytes]:
    start = b"[\n"
    for page in pages:
        yield start + b",\n".join(orjson.dumps(row) for row in page)
        start = b",\n"
    yield b"\n]\n" if start == b",\n" else b"[]\n"


def as_csv(pages: Pages, fields: Sequence[str]) -> Iterator[bytes]:
    yield _csv_lines([fields])
    for page in pages:
        yield _csv_lines([[_cell(row[name]) for name in fields] for row in page])


def _csv_lines(lines: Iterable[Sequence[Any]]) -> bytes:
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
    """Names a format of an export for DRF's negotiation. `write` streams; `render` is left with the errors."""

    @staticmethod
    def write(pages: Pages, fields: Sequence[str]) -> Iterator[bytes]:
        raise NotImplementedError

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return JSONRenderer().render(data)


class JsonExport(ExportRenderer):
    media_type = "application/json"
    format = "json"

    @staticmethod
    def write(pages: Pages, fields: Sequence[str]) -> Iterator[bytes]:
        return as_json(pages)


class CsvExport(ExportRenderer):
    media_type = "text/csv"
    format = "csv"

    @staticmethod
    def write(pages: Pages, fields: Sequence[str]) -> Iterator[bytes]:
        return as_csv(pages, fields)


class NdjsonExport(ExportRenderer):
    media_type = "application/x-ndjson"
    format = "ndjson"

    @staticmethod
    def write(pages: Pages, fields: Sequence[str]) -> Iterator[bytes]:
        return as_ndjson(pages)


RENDERERS: list[type[ExportRenderer]] = [JsonExport, CsvExport, NdjsonExport]
