"""Marks in the place of values that are too large to keep: rows hold them, and expressions refuse them."""

from __future__ import annotations

from typing import Any

PREVIEW_CHARACTERS = 16 * 1024
RESULTS_CUT = "The results are too large to be kept: collect less of each."


def preview(dumped: str, *, size_bytes: int) -> dict[str, Any]:
    """What is kept of a value whose JSON is `dumped`."""
    return {"truncated": True, "size_bytes": size_bytes, "preview": dumped[:PREVIEW_CHARACTERS]}


def results_cut() -> dict[str, Any]:
    """In the place of the results of a loop that are too large together."""
    return {"truncated": True, "reason": RESULTS_CUT}


def is_cut(value: Any) -> bool:
    """Whether `value` is a mark, and not the value itself."""
    if not isinstance(value, dict) or value.get("truncated") is not True:
        return False
    # Values come from anywhere, so that nothing but the whole form of a mark counts.
    if value.keys() == {"truncated", "size_bytes", "preview"}:
        return type(value["size_bytes"]) is int and isinstance(value["preview"], str)
    return value == results_cut()


def why_cut(mark: dict[str, Any]) -> str:
    """The sentence about a mark."""
    if "reason" in mark:
        return mark["reason"]
    return f"Its {mark['size_bytes']:,} bytes are too many to be kept: only the beginning is."
