"""Versions of a workflow: what changed between two of them, and going back to one."""

from __future__ import annotations

from typing import Any

from workflows import services
from workflows.definitions import tree
from workflows.models import Workflow, WorkflowVersion
from workflows.services import DEFINITION


def diff(old: WorkflowVersion, new: WorkflowVersion) -> dict[str, Any]:
    """`steps` lists added, removed, moved and changed ones by id; `fields` the rest of the definition."""
    before, after = _by_id(old), _by_id(new)
    steps: list[dict[str, Any]] = []
    for step_id in [*before, *(step_id for step_id in after if step_id not in before)]:
        change = _step_change(before.get(step_id), after.get(step_id))
        if change:
            steps.append({"id": step_id, **change})
    return {
        "from": old.number,
        "to": new.number,
        "steps": steps,
        "fields": [
            {"field": name, "old": getattr(old, name), "new": getattr(new, name)}
            for name in DEFINITION
            if name != "steps" and getattr(old, name) != getattr(new, name)
        ],
    }


def restore(*, workflow: Workflow, version: WorkflowVersion, author: str = "") -> Workflow:
    """Make the definition of `version` the current one, as a new version. Raises Invalid if it is not valid any more."""
    changes = {name: getattr(version, name) for name in DEFINITION}
    return services.update_workflow(workflow=workflow, changes=changes, author=author)


def _by_id(version: WorkflowVersion) -> dict[str, tree.Placed]:
    return {item.step["id"]: item for item in tree.walk(version.steps)}


def _step_change(before: tree.Placed | None, after: tree.Placed | None) -> dict[str, Any] | None:
    if before is None or after is None:
        present = after or before
        assert present is not None  # noqa: S101 - the id comes from one of them
        return {"change": "added" if before is None else "removed", "where": present.where}
    fields = [
        {"field": name, "old": before.step.get(name), "new": after.step.get(name)}
        for name in sorted({*before.step, *after.step})
        if _own(before.step, name) != _own(after.step, name)
    ]
    if fields:
        return {"change": "changed", "where": after.where, "fields": fields}
    if before.where != after.where:
        return {"change": "moved", "where": after.where, "was": before.where}
    return None


def _own(step: dict[str, Any], name: str) -> Any:
    """A field without the steps inside it, which have lines of their own."""
    value = step.get(name)
    if not isinstance(value, dict):
        return value
    nested = {path.split(".")[1].split("[")[0] for path in tree.child_sequences(step) if path.startswith(f"{name}.")}
    return {key: item for key, item in value.items() if key not in nested}
