"""The inbox as CSV, JSON, NDJSON or curl commands, in portions, so that its length needs no memory."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from automation_lab.core import curl
from automation_lab.core.export import RENDERERS, ExportRenderer, Pages
from automation_lab.core.redaction import redact_query
from inbox.masking import mask_credentials
from inbox.querysets import WebhookQuerySet
from inbox.replaying.outgoing import kept_headers
from inbox.serializers import LIST_FIELDS
from inbox.streaming.portions import fitting

PAGE_ROWS = 500
COLUMNS = [name for name in LIST_FIELDS if name != "duplicate_of"]
CONTENT = ["query_string", "headers", "sha256", "raw_body", "raw_body_encoding"]
LONGEST_ARGUMENT = 100_000  # bytes; the kernel takes 128 KiB

Row = Mapping[str, Any]


def fields(*, with_bodies: bool) -> list[str]:
    return [*LIST_FIELDS, *(CONTENT if with_bodies else [])]


def pages(webhooks: WebhookQuerySet, *, by_time: bool, with_bodies: bool) -> Iterator[list[Row]]:
    """The webhooks, newest first, in portions of PAGE_ROWS, or of fewer with large bodies.

    Rows that come meanwhile are missing. `by_time` follows the index on received_at, which a range of time needs.
    """
    for keys in _key_pages(webhooks, by_time=by_time):
        while keys:
            ids = fitting(keys) if with_bodies else [pk for pk, _ in keys]
            yield _rows(webhooks, ids, with_bodies=with_bodies)
            keys = keys[len(ids) :]


def _key_pages(webhooks: WebhookQuerySet, *, by_time: bool) -> Iterator[list[tuple[int, int]]]:
    """(id, size) of all webhooks, PAGE_ROWS at a time."""
    rest = webhooks.order_by("-received_at", "-pk") if by_time else webhooks.order_by("-pk")
    keys = rest.values_list("pk", "size_bytes", "received_at")
    page = list(keys[:PAGE_ROWS])
    while page:
        yield [(pk, size) for pk, size, _ in page]
        if len(page) < PAGE_ROWS:
            return
        last, _, at = page[-1]
        if by_time:
            # As a range and an exception to it, not as `a < x OR (a = x AND …)`, which no index can follow.
            page = list(keys.filter(received_at__lte=at).exclude(received_at=at, pk__gte=last)[:PAGE_ROWS])
        else:
            page = list(keys.filter(pk__lt=last)[:PAGE_ROWS])


def _rows(webhooks: WebhookQuerySet, ids: Sequence[int], *, with_bodies: bool) -> list[Row]:
    content = ["query_string", "headers", "sha256", "raw_body"] if with_bodies else []
    found = webhooks.model.objects.filter(pk__in=ids).values(*COLUMNS, "duplicate_of_id", *content)
    by_id = {row["id"]: row for row in found}
    return [_row(by_id[pk]) for pk in ids if pk in by_id]


def _row(values: Row) -> Row:
    row: dict[str, Any] = {**values, "duplicate_of": values["duplicate_of_id"]}
    del row["duplicate_of_id"]
    if "raw_body" in row:
        raw = bytes(row["raw_body"])
        text = _as_text(raw)
        row["headers"] = mask_credentials(row["headers"])
        row["query_string"] = redact_query(row["query_string"])
        row["raw_body"] = base64.b64encode(raw).decode() if text is None else text
        row["raw_body_encoding"] = "base64" if text is None else "utf-8"
    return row


def _as_text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


# --- curl -------------------------------------------------------------------------------------------------------------


def as_curl(pages: Pages, origin: str) -> Iterator[bytes]:
    """A script of commands that send the webhooks again, to the lab at `origin`."""
    yield b"#!/bin/sh\n"
    for page in pages:
        yield "".join(
            f"\n# webhook {row['id']} of {row['received_at']:%F %T} UTC\n{_command(row, origin)}\n" for row in page
        ).encode()


def _command(row: Row, origin: str) -> str:
    """Sends the same request again, with its exact body."""
    url, text = curl.address(origin, row["path"], row["query_string"]), row["raw_body"]
    lines = curl.words(row["method"], url, kept_headers(row["headers"]), has_body=bool(text))
    command = [word for line in lines for word in line]
    if not text:
        return shlex.join(command)
    is_text = row["raw_body_encoding"] == "utf-8"
    if is_text and "\x00" not in text and len(text.encode()) <= LONGEST_ARGUMENT:
        return shlex.join([*command, "--data-raw", text])
    encoded = base64.b64encode(text.encode()).decode() if is_text else text
    wrapped = "\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76))
    return f"base64 -d <<'END' | {shlex.join([*command, '--data-binary', '@-'])}\n{wrapped}\nEND"


class CurlExport(ExportRenderer):
    """Written by `as_curl`, which has to know the address, too."""

    media_type = "text/x-shellscript"
    format = "curl"


FORMATS: list[type[ExportRenderer]] = [*RENDERERS, CurlExport]
ENDINGS = {"curl": "sh"}
