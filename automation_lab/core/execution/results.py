"""What an execution may keep of what it received: no secret values, nothing PostgreSQL refuses, a bounded size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from automation_lab.core.previews import preview
from automation_lab.core.redaction.masks import MASK, live_secrets
from automation_lab.core.safe_json import dump

MAX_OUTPUT_BYTES = 256 * 1024


def storable(value: Any) -> Any:
    """`value` with live secrets masked and NUL and lone surrogates replaced. Over 256 KB: a marked preview of its text."""
    cleaned = _map_texts(value, _clean)
    dumped = dump(cleaned)
    found = live_secrets.found_in(dumped, refresh=True)
    if found:
        spellings = [spelling for secret in found for spelling in secret]
        cleaned = _map_texts(cleaned, lambda text: _masked(text, spellings))
        dumped = dump(cleaned)
    size_bytes = len(dumped.encode())
    if size_bytes <= MAX_OUTPUT_BYTES:
        return cleaned
    return preview(dumped, size_bytes=size_bytes)


def masked_text(text: str) -> str:
    """`text`, such as an error message, with live secrets masked and control characters that PostgreSQL refuses replaced."""
    found = live_secrets.found_in(text, refresh=True)
    return _masked(_clean(text), [spelling for secret in found for spelling in secret])


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _masked(text: str, spellings: list[str]) -> str:
    for spelling in spellings:
        text = text.replace(spelling, MASK)
    return text


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(str(key)): _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(item, change) for item in value]
    return value
