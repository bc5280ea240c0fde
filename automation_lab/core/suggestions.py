"""Sentences about a name that is not known, with the nearest known one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MAX_LISTED = 30
MAX_SHOWN = 60


def unknown_name(name: str, known: Iterable[str], *, what: str) -> str:
    """Such as `There is no filter "sorce"; did you mean "source"?`; lists the known names if none is near."""
    names = sorted(known)
    shown = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…"
    sentence = f'There is no {what} "{shown}"'
    near = get_close_matches(name[:MAX_SHOWN], names, n=1)
    if near:
        return f'{sentence}; did you mean "{near[0]}"?'
    if not names:
        return f"{sentence}; there is none here."
    listed = ", ".join(names[:MAX_LISTED])
    return f"{sentence}; known are {listed}{', …' if len(names) > MAX_LISTED else ''}."
