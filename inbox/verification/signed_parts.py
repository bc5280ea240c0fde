"""The providers whose signed content is no template: sorted fields of a form, or parts of the body."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from inbox.incoming import FORM, MAX_FORM_FIELDS, IncomingRequest
from inbox.verification.context import Context
from inbox.verification.engine import Check, Refused, judge_age, matching, sent_header
from inbox.verification.keys import ALGORITHMS, from_base64, from_hex
from inbox.verification.results import Verdict, Verification

MAX_ADYEN_ITEMS = 100
DEFAULT_PORTS = {"https": 443, "http": 80}
DAY = 86_400


def decoded(text: str, decode: Callable[[str], bytes | None]) -> bytes:
    raw = decode(text)
    if raw is None:
        raise Refused(Verification.MALFORMED_HEADER)
    return raw


def text_at(value: Any, *path: str) -> str:
    """The text, number or truth value at `path`, as text; empty for anything else."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) < 10**40:
        return str(value)
    return value if isinstance(value, str) else ""


def needed_at(value: Any, *path: str) -> str:
    text = text_at(value, *path)
    if not text:
        raise Refused(Verification.MISSING_FIELD)
    return text


# --- Twilio and Mandrill: the address and the sorted fields of the form -----------------------------------------------


@dataclass(frozen=True)
class FormCheck(Check):
    """base64 of HMAC-SHA1 over the called address and every field of the form, sorted by name, name then value.

    Source: Twilio, "Validating requests"; Mandrill, "Authenticating webhook requests".
    """

    distinct_values: bool = False

    @property
    def signs_url(self) -> bool:
        return True

    def _verify(self, context: Context) -> Verdict:
        keys = self._keys(context)
        signature = decoded(sent_header(context, self.header), from_base64)
        if not context.url:
            raise Refused(Verification.NO_PUBLIC_URL)
        content = self._content(context.request)
        messages = [url.encode("utf-8", "replace") + content for url in with_and_without_port(context.url)]
        verifies = ALGORITHMS["sha1"]
        found = matching(keys, lambda key: any(verifies(key, message, signature) for message in messages))
        return Verdict(Verification.VERIFIED, found)

    def _content(self, request: IncomingRequest) -> bytes:
        if not request.raw_body:
            return b""
        if request.content_type.partition(";")[0].strip().lower() != FORM:
            return self._covered_by_query(request)
        return b"".join(name.encode() + value.encode() for name, value in self._fields(request))

    def _fields(self, request: IncomingRequest) -> list[tuple[str, str]]:
        text = request.raw_body.decode("utf-8", "replace")
        try:
            fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
        except ValueError:  # too many fields
            raise Refused(Verification.MISMATCH) from None
        return sorted(set(fields)) if self.distinct_values else sorted(fields, key=lambda field: field[0])

    def _covered_by_query(self, request: IncomingRequest) -> bytes:
        """Twilio signs another body than a form through its hash in the address; without it, nothing covers the body."""
        announced = request.query("bodySHA256").lower()
        if announced != hashlib.sha256(request.raw_body).hexdigest():
            raise Refused(Verification.MISMATCH)
        return b""


def with_and_without_port(url: str) -> list[str]:
    """`url` with its scheme's own port left out and written: senders differ. As it is with any other port."""
    parts = urlsplit(url)
    port = DEFAULT_PORTS.get(parts.scheme)
    host = parts.netloc.removesuffix(f":{port}")
    if port is None or ":" in host.rpartition("]")[2]:
        return [url]
    return [parts._replace(netloc=netloc).geturl() for netloc in (host, f"{host}:{port}")]


# --- Adyen and Mailgun: fields of the body ----------------------------------------------------------------------------

ADYEN_FIELDS = (
    ("pspReference",),
    ("originalReference",),
    ("merchantAccountCode",),
    ("merchantReference",),
    ("amount", "value"),
    ("amount", "currency"),
    ("eventCode",),
    ("success",),
)


@dataclass(frozen=True)
class AdyenCheck(Check):
    """Each item carries the signature of eight of its fields; all items have to be right.

    Source: Adyen, "Verify HMAC signatures", standard webhooks.
    """

    name: str = "items"
    key: str = "hex"

    def is_carried_by(self, request: IncomingRequest) -> bool:
        return isinstance(request.parsed.value, dict) and "notificationItems" in request.parsed.value

    def _verify(self, context: Context) -> Verdict:
        keys = self._keys(context)
        items = list(self._items(context.request.parsed.value))
        verifies = ALGORITHMS["sha256"]
        found = matching(keys, lambda key: all(verifies(key, message, signature) for message, signature in items))
        return Verdict(Verification.VERIFIED, found)

    def _items(self, body: Any) -> Iterator[tuple[bytes, bytes]]:
        items = body.get("notificationItems") if isinstance(body, dict) else None
        if not isinstance(items, list) or not 1 <= len(items) <= MAX_ADYEN_ITEMS:
            raise Refused(Verification.MISSING_FIELD)
        for entry in items:
            item = entry.get("NotificationRequestItem") if isinstance(entry, dict) else None
            signature = decoded(needed_at(item, "additionalData", "hmacSignature"), from_base64)
            message = ":".join(text_at(item, *path) for path in ADYEN_FIELDS)
            yield message.encode("utf-8", "replace"), signature


@dataclass(frozen=True)
class MailgunCheck(Check):
    """A signed time and token inside the body. The event itself is not signed, hence a token counts only once.

    Source: Mailgun, "Securing webhooks". It repeats a delivery for eight hours.
    """

    tolerance_seconds: int = DAY // 2

    def is_carried_by(self, request: IncomingRequest) -> bool:
        return bool(text_at(request.parsed.value, "signature", "token") or {"token", "signature"} <= set(request.form))

    @property
    def judges_time(self) -> bool:
        return True

    @property
    def signs_body(self) -> bool:
        return False

    def _verify(self, context: Context) -> Verdict:
        keys = self._keys(context)
        timestamp, token, text = (self._field(context.request, name) for name in ("timestamp", "token", "signature"))
        if not re.fullmatch(r"[0-9]{1,15}", timestamp, re.ASCII):
            raise Refused(Verification.MALFORMED_HEADER)
        signature = decoded(text, from_hex)
        message = f"{timestamp}{token}".encode("utf-8", "replace")
        found = matching(keys, lambda key: ALGORITHMS["sha256"](key, message, signature))
        return Verdict(judge_age(int(timestamp), context.now, context.tolerance(self.tolerance_seconds)), found)

    def _field(self, request: IncomingRequest, name: str) -> str:
        """In the JSON object `signature`, or in the form of the older webhooks."""
        return text_at(request.parsed.value, "signature", name) or needed_at(dict(request.form), name)
