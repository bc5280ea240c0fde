"""How many webhooks are read at a time: their bodies decide, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Sequence

MOST_BYTES = 8 * 1024 * 1024


def fitting(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Of (id, size) pairs, the ids of the first whose bodies fit together, at least one."""
    ids: list[int] = []
    total = 0
    for pk, size in sizes:
        total += size
        if ids and total > MOST_BYTES:
            break
        ids.append(pk)
    return ids
