"""What changed between two versions of a workflow, for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from automation_lab.core.console import display as show
from workflows.definitions import versions
from workflows.models import WorkflowVersion

MOST_LINES = 400
CONTEXT_LINES = 2
MARKS = {"+": "added", "-": "removed", "@": "place"}


def diff_of(old: WorkflowVersion, new: WorkflowVersion) -> SafeString:
    """Steps and fields with their lines that differ."""
    found = versions.diff(old, new)
    parts = [_step_part(step) for step in found["steps"]]
    parts += [{"title": field["field"], "word": "changed", "lines": list(_lines(field))} for field in found["fields"]]
    return render_to_string("workflows/diff.html", {"parts": parts, "old": old, "new": new})


def links_to(numbers: list[int], *, chosen: int) -> SafeString:
    """The other versions to compare with."""
    links = [show.link(f"?against={number}", number) if number != chosen else show.muted(number) for number in numbers]
    return show.paragraph(show.joined(["Compare with version", *links]))


def _step_part(step: dict[str, Any]) -> dict[str, Any]:
    moved = f"{step['was']} → {step['where']}" if step["change"] == "moved" else step["where"]
    return {
        "title": step["id"],
        "word": step["change"],
        "where": moved,
        "fields": [{"name": field["field"], "lines": list(_lines(field))} for field in step.get("fields", [])],
    }


def _lines(field: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """`(kind, text)` of each line of the difference; kind is added, removed, place or empty."""
    before, after = (_text(field[side]).splitlines() for side in ("old", "new"))
    for number, line in enumerate(difflib.unified_diff(before, after, n=CONTEXT_LINES, lineterm="")):
        if number < 2:  # the names of the two files
            continue
        if number > MOST_LINES:
            yield "place", "…"
            return
        yield MARKS.get(line[:1], ""), line


def _text(value: Any) -> str:
    return "" if value is None else show.pretty_json(value)
