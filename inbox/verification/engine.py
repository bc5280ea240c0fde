"""The one verifier: everything a scheme needs is in its description, and no request makes it raise."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from inbox.incoming import IncomingRequest
from inbox.verification.context import Context
from inbox.verification.keys import ALGORITHMS, DECODERS, KEYS, UnusableKey
from inbox.verification.results import Verdict, Verification

MAX_SIGNATURES = 10
UNITS = {"seconds": 1, "milliseconds": 1000}
_DIGITS = re.compile(r"[0-9]{1,15}", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


class Refused(Exception):
    """Ends a check inside this package with its result."""

    def __init__(self, result: Verification) -> None:
        super().__init__(result.value)
        self.result = result


@dataclass(frozen=True)
class Check:
    """One way in which a provider signs, `header` if not in the body.

    With `only_when_named`, accepted only if the source's settings name it.
    """

    name: str = "signature"
    header: str = ""
    key: str = "utf-8"
    only_when_named: bool = False

    def verify(self, context: Context) -> Verdict:
        try:
            return self._verify(context)
        except Refused as refused:
            return Verdict(refused.result)

    def check_secret(self, value: str) -> None:
        """Raises UnusableKey if `value` cannot be a secret of this scheme."""
        KEYS[self.key](value)

    def is_carried_by(self, request: IncomingRequest) -> bool:
        """Whether `request` brings a signature of this kind, right or wrong."""
        return bool(request.header(self.header))

    @property
    def judges_time(self) -> bool:
        return False

    @property
    def signs_url(self) -> bool:
        return False

    @property
    def signs_body(self) -> bool:
        """So that one which broke off on its way does not verify."""
        return True

    def _verify(self, context: Context) -> Verdict:
        raise NotImplementedError

    def _keys(self, context: Context) -> list[tuple[str, Any]]:
        keys = []
        for secret in context.secrets:
            try:
                keys.append((secret.id, KEYS[self.key](secret.value)))
            except UnusableKey:
                continue
        if not keys:
            raise Refused(Verification.NO_SECRET)
        return keys


def matching(keys: list[tuple[str, Any]], verifies: Callable[[Any], bool]) -> str:
    """The id of the first secret whose key `verifies`; a mismatch if there is none."""
    for secret_id, key in keys:
        if verifies(key):
            return secret_id
    raise Refused(Verification.MISMATCH)


def sent_header(context: Context, name: str) -> str:
    value = context.request.header(name).strip()
    if not value:
        raise Refused(Verification.MISSING_HEADER)
    return value


def judge_age(signed_at: float, now: datetime, tolerance: int) -> Verification:
    """Whether `signed_at`, in seconds since 1970, is near enough to `now`, in both directions."""
    age = now.timestamp() - signed_at
    if age > tolerance:
        return Verification.STALE
    return Verification.FUTURE if age < -tolerance else Verification.VERIFIED


@dataclass(frozen=True)
class Scheme(Check):
    """How a provider signs, as data.

    `content` is what is signed: literal text and `{body}`, `{timestamp}`, `{method}`, `{url}`, `{header:NAME}`. Of the
    header's value, split at `separator`, each part that starts with `prefix` is a signature; with `field` the parts are
    `key=value`, and those of this key are. `timestamp` is `header:NAME`, `field:KEY` or `body:dotted.path`.
    """

    content: str = "{body}"
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    separator: str = ""
    field: str = ""
    timestamp: str = ""
    unit: str = "seconds"
    tolerance_seconds: int = 300

    @cached_property
    def parts(self) -> list[str]:
        """Literal text and the names of placeholders in turn."""
        return _PLACEHOLDER.split(self.content)

    @property
    def judges_time(self) -> bool:
        return bool(self.timestamp)

    @property
    def signs_url(self) -> bool:
        return "url" in self.parts[1::2]

    @property
    def signs_body(self) -> bool:
        return self.algorithm != "equal"

    def _verify(self, context: Context) -> Verdict:
        keys = self._keys(context)
        value = sent_header(context, self.header)
        signatures = self._signatures(value)
        timestamp = self._timestamp(context, value)
        message = self._message(context, timestamp)
        verifies = ALGORITHMS[self.algorithm]
        found = matching(keys, lambda key: any(verifies(key, message, signature) for signature in signatures))
        # The time comes last, so that "stale" says: the signature is right, only old.
        return Verdict(self._judge_time(timestamp, context), found)

    def _signatures(self, value: str) -> list[bytes]:
        parts = [part.strip() for part in value.split(self.separator, MAX_SIGNATURES)] if self.separator else [value]
        if len(parts) > MAX_SIGNATURES:
            raise Refused(Verification.MALFORMED_HEADER)
        texts = _fields(parts, self.field) if self.field else _after_prefix(parts, self.prefix)
        found = [raw for raw in map(DECODERS[self.encoding], texts) if raw]
        if not found:
            raise Refused(Verification.MALFORMED_HEADER)
        return found

    def _timestamp(self, context: Context, signature_header: str) -> str:
        kind, _, name = self.timestamp.partition(":")
        if kind == "header":
            text = sent_header(context, name)
        elif kind == "field":
            found = _fields(signature_header.split(self.separator), name)
            text = found[0] if len(found) == 1 else ""
        elif kind == "body":
            text = _number_in(context.request.parsed.value, name)
        else:
            return ""
        if not _DIGITS.fullmatch(text):
            raise Refused(Verification.MALFORMED_HEADER)
        return text

    def _message(self, context: Context, timestamp: str) -> bytes:
        return b"".join(
            self._part(part, context, timestamp) if number % 2 else part.encode()
            for number, part in enumerate(self.parts)
        )

    def _part(self, name: str, context: Context, timestamp: str) -> bytes:
        if name == "body":
            return context.request.raw_body
        if name == "timestamp":
            return timestamp.encode()
        if name == "method":
            return context.request.method.encode("utf-8", "replace")
        if name == "url":
            if not context.url:
                raise Refused(Verification.NO_PUBLIC_URL)
            return context.url.encode("utf-8", "replace")
        return sent_header(context, name.removeprefix("header:")).encode("latin-1", "replace")

    def _judge_time(self, timestamp: str, context: Context) -> Verification:
        if not timestamp:
            return Verification.VERIFIED
        return judge_age(int(timestamp) / UNITS[self.unit], context.now, context.tolerance(self.tolerance_seconds))


def _fields(parts: list[str], name: str) -> list[str]:
    """The values of all `name=value` among `parts`."""
    pairs = (part.strip().partition("=") for part in parts)
    return [value for key, _, value in pairs if key == name]


def _after_prefix(parts: list[str], prefix: str) -> list[str]:
    # The names of HTTP's authentication schemes are written in any case.
    if prefix.endswith(" "):
        return [part[len(prefix) :].strip() for part in parts if part[: len(prefix)].lower() == prefix.lower()]
    return [part.removeprefix(prefix) for part in parts if part.startswith(prefix)]


def _number_in(body: Any, path: str) -> str:
    for key in path.split("."):
        body = body.get(key) if isinstance(body, dict) else None
    if body is None:
        raise Refused(Verification.MISSING_FIELD)
    # A longer number cannot be a time, and Python refuses to write it.
    is_time = isinstance(body, int) and not isinstance(body, bool) and 0 <= body < 10**15
    return str(body) if is_time else ""
