"""Takes secrets out of what is stored or logged: by header name, by key, and by value. Never undone, never raises.

Three passes: headers keep their scheme and cookies their names; keys of JSON, forms and queries count at any depth;
values are this installation's live secrets plus the shapes of well-known credentials.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload
from urllib.parse import quote_plus, unquote_plus

from automation_lab.core.redaction.masks import MASK, live_secrets
from automation_lab.core.redaction.shapes import (
    KEPT_SCHEMES,
    SHAPES,
    Shape,
    is_card_number,
    is_sensitive_header,
    is_sensitive_key,
    plain_header,
)

_ROUNDS = 4


class _Values:
    """The value pass: the live secrets and the shapes to mask."""

    def __init__(self, secrets: list[tuple[str, ...]], shapes: Sequence[Shape]) -> None:
        self._secrets = secrets
        self._shapes = shapes

    def __bool__(self) -> bool:
        return bool(self._secrets or self._shapes)

    def mask(self, text: str) -> str:
        """A mask can open a boundary for another shape, so go round until nothing changes."""
        for _ in range(_ROUNDS):
            masked = self._mask_once(text)
            if masked == text:
                break
            text = masked
        return text

    def _mask_once(self, text: str) -> str:
        for spellings in self._secrets:
            for spelling in spellings:
                text = text.replace(spelling, MASK)
        for shape in self._shapes:
            if shape.may_be_in(text):
                text = shape.replace(text)
        return text

    def mask_number(self, number: int) -> int:
        """Numbers stay numbers, so a masked one is 0."""
        if not _could_be_secret(number):
            return number
        return 0 if is_card_number(number) or self.mask(str(number)) == MASK else number


def _could_be_secret(number: int) -> bool:
    return 10**5 <= abs(number) < 10**40


def _values_in(text: str, *, refresh: bool = True) -> _Values:
    """What the value pass has to look for in the parts of `text`; usually nothing, which spares looking at each."""
    shapes = [shape for shape in SHAPES if shape.may_be_in(text) and shape.replace(text) != text]
    return _Values(live_secrets.found_in(text, refresh=refresh), shapes)


def redact_text(text: str, *, refresh: bool = True) -> str:
    """`text` without secret values. `refresh=False` uses the live secrets known so far and asks no provider (logging)."""
    return _Values(live_secrets.found_in(text, refresh=refresh), SHAPES).mask(text)


# --- headers and queries ----------------------------------------------------------------------------------------------


def redact_headers(pairs: Iterable[Sequence[str]] | Mapping[str, str]) -> list[list[str]]:
    """Every header as `[name, value]`. Schemes (`Bearer [redacted]`), cookie names and empty values are kept."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [[name, _redact_header(name, value)] for name, value in items]


def _redact_header(name: str, value: str) -> str:
    if not is_sensitive_header(name):
        return redact_text(value)
    if (plain := plain_header(name)) in ("cookie", "set-cookie"):
        return _redact_cookies(value, only_first=plain == "set-cookie")
    return _mask_credential(value)


def _mask_credential(value: str) -> str:
    scheme, _, credential = value.strip().partition(" ")
    if credential and scheme.lower() in KEPT_SCHEMES:
        return f"{scheme} {MASK}"
    return MASK if value else value


def _redact_cookies(value: str, *, only_first: bool) -> str:
    first, *others = value.split(";")
    rest = others if only_first else [_mask_cookie(cookie) for cookie in others]
    return ";".join([_mask_cookie(first), *rest])


def _mask_cookie(cookie: str) -> str:
    name, equals, value = cookie.partition("=")
    if equals:
        return f"{name}={MASK}" if value else cookie
    return MASK if cookie.strip() else cookie


@overload
def redact_query(query: str) -> str: ...  # type: ignore[overload-overlap]  # a str is a sequence of strings, too
@overload
def redact_query(query: Iterable[Sequence[str]]) -> list[list[str]]: ...
def redact_query(query: str | Iterable[Sequence[str]]) -> str | list[list[str]]:
    """A query or form, as text (`a=1&b=2`, still encoded) or as decoded pairs, without secrets; order and repeats are kept."""
    if isinstance(query, str):
        values = _values_in(unquote_plus(query.replace("&", "\n")))
        return "&".join(_redact_parameter(values, parameter) for parameter in query.split("&"))
    return [[name, MASK if value and is_sensitive_key(name) else redact_text(value)] for name, value in query]


def _redact_parameter(values: _Values, parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if value and is_sensitive_key(unquote_plus(name)):
        value = MASK
    return (
        f"{_mask_encoded(values, name)}{equals}{_mask_encoded(values, value)}" if values else f"{name}{equals}{value}"
    )


def _mask_encoded(values: _Values, text: str) -> str:
    decoded = unquote_plus(text)
    masked = values.mask(decoded)
    return text if masked == decoded else quote_plus(masked, safe="[]")


# --- JSON -------------------------------------------------------------------------------------------------------------


def redact_data(value: Any, *, refresh: bool = True) -> Any:
    """A copy of a JSON value without secrets: same shape, same types; masked text is `[redacted]`, a masked number 0.

    Everything below a sensitive key is masked, but true, false, null and "" say nothing and stay. A header written as
    `[name, value]` or `{"name": …, "value": …}` counts as a key with its value.
    """
    by_key = _Walk(None)
    copy = by_key.copy(value)
    values = _values_in("\n".join(by_key.texts), refresh=refresh)
    return _Walk(values).copy(value) if values else copy


class _Walk:
    """Copies with a stack of its own, so no depth of nesting can exhaust Python's. Without `values` only keys count."""

    def __init__(self, values: _Values | None) -> None:
        self._values = values
        self._waiting: list[tuple[Any, bool, Any]] = []  # container, whether it is secret, its copy to fill
        self.texts: list[str] = []  # every text that the value pass has to see

    def copy(self, value: Any) -> Any:
        result = self._copy_one(value, False)
        while self._waiting:
            source, secret, target = self._waiting.pop()
            if isinstance(source, dict):
                self._fill_dict(source, secret, target)
            else:
                self._fill_list(source, secret, target)
        return result

    def _copy_one(self, value: Any, secret: bool) -> Any:
        if isinstance(value, str):
            return (value and MASK) if secret else self._copy_text(value)
        if isinstance(value, dict | list | tuple):
            target: Any = {} if isinstance(value, dict) else []
            self._waiting.append((value, secret, target))
            return target
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if secret:
            return 0.0 if isinstance(value, float) else 0
        return self._copy_number(value) if isinstance(value, int) else value

    def _copy_text(self, text: str) -> str:
        if self._values:
            return self._values.mask(text)
        self.texts.append(text)
        return text

    def _copy_number(self, number: int) -> int:
        if self._values:
            return self._values.mask_number(number)
        if _could_be_secret(number):
            self.texts.append(str(number))
        return number

    def _fill_dict(self, source: dict[Any, Any], secret: bool, target: dict[Any, Any]) -> None:
        name = source.get("name") or source.get("key")
        named_value = isinstance(name, str) and "value" in source and is_sensitive_header(name)
        for key, value in source.items():
            text = key if isinstance(key, str) else str(key)
            below = secret or is_sensitive_key(text) or (named_value and text == "value")
            target[self._copy_key(text, target)] = self._copy_one(value, below)

    def _copy_key(self, key: str, target: dict[Any, Any]) -> str:
        copy = self._copy_text(key)
        while copy != key and copy in target:
            copy += "'"
        return copy

    def _fill_list(self, source: Sequence[Any], secret: bool, target: list[Any]) -> None:
        if len(source) == 2 and isinstance(source[0], str) and isinstance(source[1], str) and not secret:
            name, value = source
            target += [self._copy_text(name), self._copy_one(value, is_sensitive_header(name))]
        else:
            target += [self._copy_one(value, secret) for value in source]


# --- bodies -----------------------------------------------------------------------------------------------------------

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^;,\s"]{1,200}))', re.IGNORECASE)
_PART_NAME = re.compile(rb'(?<![A-Za-z*])name="?([^"\r\n;]{1,200})', re.IGNORECASE)


def redact_body(body: bytes, content_type: str, limit: int) -> str:
    """`body` as text without secrets, cut to `limit` bytes of UTF-8 with a marker; storable in PostgreSQL as it is.

    JSON comes back compact. Give the whole body: what a caller cut off first cannot be recognised.
    """
    return _cut(_redact_any(body, content_type), limit, len(body))


def _redact_any(body: bytes, content_type: str) -> str:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("multipart/") and (boundary := _BOUNDARY.search(content_type)):
        return _redact_multipart(body, (boundary[1] or boundary[2]).encode())
    text = _decoded(body)
    if text is None:
        return _binary(body)
    if "json" in media_type or text.lstrip()[:1] in ("{", "["):
        return _redact_json(text)
    if media_type == "application/x-www-form-urlencoded":
        return redact_query(text)
    return redact_text(text)


def _redact_json(text: str) -> str:
    try:
        return json.dumps(redact_data(json.loads(text)), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return redact_text(text)


def _redact_multipart(body: bytes, boundary: bytes) -> str:
    delimiter = b"--" + boundary
    return delimiter.decode("utf-8", "replace").join(_redact_part(part) for part in body.split(delimiter))


def _redact_part(part: bytes) -> str:
    head, blank, content = part.partition(b"\r\n\r\n")
    name = _PART_NAME.search(head)
    if not blank or not name:
        shown = _decoded(part)
        return _binary(part) if shown is None else redact_text(shown)
    return (
        redact_text(head.decode("utf-8", "replace"))
        + "\r\n\r\n"
        + _redact_part_content(head, name[1], content)
        + "\r\n"
    )


def _redact_part_content(head: bytes, name: bytes, content: bytes) -> str:
    content = content.removesuffix(b"\r\n")
    if is_sensitive_key(name.decode("utf-8", "replace")):
        return MASK
    text = _decoded(content)
    if text is None or b"filename" in head.lower():
        return _binary(content, "file" if text is not None else "binary")
    return redact_text(text)


def _decoded(body: bytes) -> str | None:
    """The text of `body`, forgiving a character cut in two at its end; None for anything that is not UTF-8 text."""
    if b"\0" in body:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        return body[: exc.start].decode() if exc.reason == "unexpected end of data" and exc.start else None


def _binary(body: bytes, what: str = "binary") -> str:
    return f"[{what}, {len(body):,} bytes]"


def _cut(text: str, limit: int, original_bytes: int) -> str:
    raw = text.encode("utf-8", "replace")  # PostgreSQL takes no lone surrogates
    if len(raw) > limit:
        return f"{raw[:limit].decode('utf-8', 'ignore')}… [cut, {original_bytes:,} bytes in all]"
    return raw.decode()
