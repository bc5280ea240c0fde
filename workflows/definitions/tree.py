"""The steps of a definition as a tree: every step with its place, and the step lists inside one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workflows.steps.base import ContainerType, Steps, step_types

NAMES = frozenset({"trigger", "vars", "steps", "execution", "workflow", "secrets", "now", "callbacks"})


@dataclass(frozen=True)
class Placed:
    """A step with its place in the definition, such as `steps[2].config.then[0]`, and the names that it sees there."""

    step: dict[str, Any]
    where: str
    depth: int
    names: frozenset[str] = NAMES


def walk(steps: Steps, where: str = "steps", depth: int = 1, names: frozenset[str] = NAMES) -> Iterator[Placed]:
    """Every step in order of the text, children after their container."""
    for number, step in enumerate(steps):
        here = f"{where}[{number}]"
        yield Placed(step, here, depth, names)
        for field, children in child_sequences(step).items():
            yield from walk(children, f"{here}.{field}", depth + 1, names | _names_inside(step, field))


def _names_inside(step: dict[str, Any], field: str) -> frozenset[str]:
    if field == "on_error.steps":
        return frozenset({"error"})
    step_type = step_types.get(step["type"])
    return step_type.child_names() if isinstance(step_type, ContainerType) else frozenset()


def child_sequences(step: dict[str, Any]) -> dict[str, Steps]:
    """The step lists inside `step`, by the path of the field that holds them."""
    found: dict[str, Steps] = {}
    step_type = step_types.get(step["type"]) if step.get("type") in step_types else None
    config = step.get("config")
    if isinstance(step_type, ContainerType) and isinstance(config, dict):
        for path, children in step_type.child_steps(config).items():
            found[f"config.{path}"] = children
    handler = step.get("on_error")
    if isinstance(handler, dict) and isinstance(handler.get("steps"), list):
        found["on_error.steps"] = handler["steps"]
    return found
