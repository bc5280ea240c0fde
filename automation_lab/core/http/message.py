"""What goes into an outbound request and what comes out of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from automation_lab.core.exceptions import AutomationLabError

MAX_RETRY_AFTER_SECONDS = 3600.0
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
USER_AGENT = "AutomationLab/1"

Headers = Sequence[tuple[str, str]] | Mapping[str, str]
RawHeaders = tuple[tuple[bytes, bytes], ...]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
# The connection belongs to this client: framing, hop-by-hop fields and what can be decoded are its own business.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class HttpError(AutomationLabError):
    """An outbound request that brought no usable answer.

    `request_sent` says whether bytes of the request may have reached a target: if so, a POST may have had its effect.
    `rule` names the outbound rule when the destination was refused.
    """

    code = "communication"

    def __init__(
        self, message: str, *, code: str, retryable: bool = False, request_sent: bool = False, rule: str = ""
    ) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable
        self.request_sent = request_sent
        self.rule = rule


@dataclass(frozen=True)
class HttpResponse:
    """A complete answer; `body` is decoded, `address` is the one that was judged and connected to."""

    status_code: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    elapsed_ms: int
    url: str = field(repr=False)
    address: str
    redirects: int = 0

    def header(self, name: str) -> str:
        """The first value of `name`, without regard to case, or an empty string."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body in its declared character set, else UTF-8; undecodable bytes become U+FFFD."""
        try:
            return self.body.decode(self._charset, errors="replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", errors="replace")

    @property
    def retry_after(self) -> float | None:
        """Seconds that the target asks to wait, at most an hour; None when it does not say."""
        value = self.header("retry-after").strip()
        seconds = float(value) if re.fullmatch(r"[0-9]{1,9}", value) else _seconds_until(value)
        return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)

    @property
    def parsed_body(self) -> Any:
        """The value of a JSON body, else its text; bytes that are no text come as a base64 string."""
        if self.content_type == "application/json" or self.content_type.endswith("+json"):
            try:
                return orjson.loads(self.body)
            except orjson.JSONDecodeError:
                return self._text_or_base64()
        return self._text_or_base64()

    def _text_or_base64(self) -> str:
        try:
            text = self.body.decode(self._charset)
        except (LookupError, ValueError):
            text = self._utf8_or_nul()
        return base64.b64encode(self.body).decode("ascii") if "\x00" in text else text

    def _utf8_or_nul(self) -> str:
        try:
            return self.body.decode("utf-8")
        except UnicodeDecodeError:
            return "\x00"

    @property
    def _charset(self) -> str:
        message = Message()
        message["content-type"] = self.header("content-type")
        return str(message.get_param("charset") or "utf-8")


def _seconds_until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()


def configuration_error(message: str) -> HttpError:
    return HttpError(message, code="configuration.request")


def check_method(method: str) -> str:
    """The method in upper case. Raises HttpError."""
    if method.upper() not in METHODS:
        raise configuration_error(f"The method must be one of {', '.join(sorted(METHODS))}.")
    return method.upper()


def encode_headers(headers: Headers | None) -> RawHeaders:
    """The caller's headers as bytes, without those that belong to the connection. Raises HttpError."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    kept = [(name, value) for name, value in pairs if name.lower() not in _OWN_HEADERS]
    return tuple((_encode_name(name), _encode_value(name, value)) for name, value in kept)


def _encode_name(name: str) -> bytes:
    if not _TOKEN.fullmatch(name):
        raise configuration_error("A header name holds letters, digits and hyphens only.")
    if name.lower() == "host":
        raise configuration_error("The Host header follows from the URL; remove it.")
    return name.encode("ascii")


def _encode_value(name: str, value: str) -> bytes:
    if not isinstance(value, str):
        raise configuration_error(f"The value of the header {name} must be text.")
    if _BAD_VALUE.search(value):
        raise configuration_error(f"The value of the header {name} holds a line break or control character; remove it.")
    return value.strip(" \t").encode("utf-8")


def decode_headers(raw: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), _decode_value(value)) for name, value in raw)


def _decode_value(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
