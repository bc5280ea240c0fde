"""The live secret values of this installation in every spelling that redaction looks for.

Values come from `registry.secret_values`. Looking each spelling up with `in` beats one big compiled alternation: 1 MiB
against 20 secrets (120 spellings) takes 17 ms, the alternation 44 to 90 ms, and nothing has to be compiled.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

from automation_lab.core import registry

LIFETIME_SECONDS = 5.0
SHORTEST_VALUE = 6  # anything shorter would mask ordinary words
MOST_VALUES = 1000
MASK = "[redacted]"


def spellings(value: str) -> tuple[str, ...]:
    """`value` as it is, base64 (at the three alignments inside a longer text), percent-, JSON- and hex-encoded; longest first."""
    raw = value.encode("utf-8", "surrogatepass")
    quoted = {encode(raw) for encode in (quote, quote_plus, lambda data: quote(data, safe=""))}
    found = {
        value,
        raw.hex(),
        raw.hex().upper(),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        *quoted,
        *_base64_cores(raw),
    }
    return tuple(sorted((each for each in found if len(each) >= SHORTEST_VALUE), key=len, reverse=True))


def _base64_cores(raw: bytes) -> Iterable[str]:
    """The characters that `raw` alone decides when 0, 1 or 2 bytes stand before it, in both alphabets."""
    for before in range(3):
        start, end = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        padded = b"\0" * before + raw
        yield base64.b64encode(padded)[start:end].decode()
        yield base64.urlsafe_b64encode(padded)[start:end].decode()


class SecretMasks:
    """A cache over the registered providers; one provider that fails keeps the values it gave last."""

    def __init__(
        self, providers: registry.Registry[Callable[[], list[str]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._providers = providers
        self._clock = clock
        self._values: dict[str, list[str]] = {}
        self._used: dict[str, tuple[str, ...]] = {}
        self._masks: dict[str, tuple[str, ...]] = {}
        self._fresh_until = float("-inf")
        self._lock = threading.Lock()

    def found_in(self, text: str, *, refresh: bool) -> list[tuple[str, ...]]:
        """The spellings of every value that occurs in `text` in any spelling. Without `refresh` no provider is asked."""
        if refresh and self._clock() >= self._fresh_until:
            self.refresh()
        return [mask for mask in self._masks.values() if any(spelling in text for spelling in mask)]

    def remember(self, value: str) -> None:
        """Mask `value` in this process from now on: it is being used, so it may come back in an answer.

        The providers' values are not enough: theirs may be some seconds old, and a value that is rotated away while a
        call is under way is theirs no more.
        """
        if value in self._used or not _usable(value):
            return
        used = {**self._used, value: self._masks.get(value) or spellings(value)}
        self._used = dict(list(used.items())[-MOST_VALUES:])
        self._masks = {**self._masks, **self._used}

    def everything(self) -> list[tuple[str, ...]]:
        return list(self._masks.values())

    def refresh(self) -> None:
        # Not waiting for the lock also ends the recursion when a provider's own query is logged and redacted.
        if not self._lock.acquire(blocking=False):
            return
        try:
            for name, provider in self._providers.items():
                # Whatever a provider raises (no database, no key, async context), redaction goes on with the last values.
                with contextlib.suppress(Exception):
                    self._values[name] = list(provider())
            self._masks = self._spelled_out()
            self._fresh_until = self._clock() + LIFETIME_SECONDS
        finally:
            self._lock.release()

    def _spelled_out(self) -> dict[str, tuple[str, ...]]:
        # A value that is a part of the mask itself would mask the mask for ever.
        given = (value for values in self._values.values() for value in values)
        usable = [value for value in given if _usable(value)]
        live = {value: self._masks.get(value) or spellings(value) for value in usable[:MOST_VALUES]}
        return {**live, **self._used}


def _usable(value: str) -> bool:
    return len(value) >= SHORTEST_VALUE and value not in MASK


live_secrets = SecretMasks(registry.secret_values)
