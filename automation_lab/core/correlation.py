"""One id that follows a request through executions, outgoing calls and log lines; and the log formats that show it."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from automation_lab.core import redaction

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")

# Source: W3C Trace Context, section 3.2. Version 00 ends after the flags; later ones may go on after a dash.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def accept(x_request_id: str | None, traceparent: str | None) -> str:
    """The trace id of a valid `traceparent`, else a well-formed `X-Request-ID`, else a new id."""
    if (trace := _TRACEPARENT.fullmatch((traceparent or "").strip())) and not (trace[1] == "00" and trace[3]):
        return trace[2]
    if x_request_id and _REQUEST_ID.fullmatch(x_request_id):
        return x_request_id
    return new_id()


def new_id() -> str:
    return str(uuid7())


def uuid7(*, milliseconds: int | None = None) -> uuid.UUID:
    """A random UUID that sorts by its time of making. Source: RFC 9562, section 5.7."""
    instant = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    random_bits = secrets.randbits(74)
    value = (
        (instant & (2**48 - 1)) << 80 | 0x7 << 76 | (random_bits >> 62) << 64 | 0b10 << 62 | random_bits & (2**62 - 1)
    )
    return uuid.UUID(int=value)


def current() -> str:
    """The id bound here, or empty."""
    return correlation_id.get()


@contextmanager
def bind(value: str) -> Iterator[str]:
    """Everything inside, log lines too, carries `value`."""
    token = correlation_id.set(value)
    try:
        yield value
    finally:
        correlation_id.reset(token)


# --- logging ----------------------------------------------------------------------------------------------------------

# C0 and C1 controls, line separators, bidirectional overrides and lone surrogates: all could forge or hide a line.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "correlation_id", "taskName"}


class CorrelationFilter(logging.Filter):
    """Puts `correlation_id` on every record; on a handler, so that the records of libraries get it, too."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "correlation_id"):
            record.correlation_id = current()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, event, correlation_id, the `extra` fields, and error for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "ts": _instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _message(record),
            "correlation_id": _correlation(record),
        }
        if trace := _traceback(self, record):
            fields["error"] = trace
        line = json.dumps({**_extra(record), **fields}, ensure_ascii=False)
        return _CONTROL.sub(_json_escape, line)


class TextFormatter(logging.Formatter):
    """`2026-10-01 09:30:00.123 INFO    inbox.services [id] message key=value`, tracebacks indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        correlation = f" [{_correlation(record)}]" if _correlation(record) else ""
        extra = "".join(f" {key}={_shown(value)}" for key, value in _extra(record).items())
        instant = _instant(record).replace("T", " ").removesuffix("Z")
        first = f"{instant} {record.levelname:<7} {record.name}{correlation} {_message(record)}{extra}"
        below = [f"    {_escape(line)}" for line in _traceback(self, record).splitlines()]
        return "\n".join([_escape(first), *below])


def _instant(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        # logging's own answer to arguments that do not fit would print them unredacted.
        message = f"{record.msg} (the arguments of this log call do not fit)"
    return _clean(message)


def _correlation(record: logging.LogRecord) -> str:
    return str(getattr(record, "correlation_id", "") or current())


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
    if record.stack_info:
        parts.append(record.stack_info)
    return _clean("\n".join(parts))


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    given = {key: value for key, value in vars(record).items() if key not in _RECORD_FIELDS}
    if not given:
        return given
    try:
        plain = json.loads(json.dumps(given, default=str, skipkeys=True))
    except (ValueError, RecursionError):  # circular or very deep
        plain = {key: str(value) for key, value in given.items()}
    return redaction.redact_data(plain, refresh=False)


def _clean(text: str) -> str:
    return redaction.redact_text(text, refresh=False)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
