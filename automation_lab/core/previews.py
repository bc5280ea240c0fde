"""Marks in the place of values that are too large to keep: rows hold them, and expressions refuse them."""

from __future__ import annotations

from typing import Any

PREVIEW_CHARACTERS = 16 * 1024

_OF_TEXT = {"truncated", "size_bytes", "preview"}
_WITH_REASON = {"truncated", "reason"}


def preview(dumped: str, *, size_bytes: int) -> dict[str, Any]:
    """What is kept of a value whose JSON is `dumped`."""
    return {"truncated": True, "size_bytes": size_bytes, "preview": dumped[:PREVIEW_CHARACTERS]}


def without_preview(reason: str) -> dict[str, Any]:
    return {"truncated": True, "reason": reason}


def is_cut(value: Any) -> bool:
    """Whether `value` is a mark, and not the value itself."""
    return isinstance(value, dict) and value.get("truncated") is True and value.keys() in (_OF_TEXT, _WITH_REASON)


def why_cut(mark: dict[str, Any]) -> str:
    """The sentence about a mark."""
    return mark.get("reason") or f"Its {mark['size_bytes']:,} bytes are too many to be kept: only the beginning is."
