"""The steps of a run as a tree: `loop[3]/fetch` stands below `loop`, in the branch `3`. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workflows.models import StepExecution

LAST_BRANCH = re.compile(r"^(?P<parent>.*)\[(?P<branch>[^\]]*)\]/[^/\]]*$")


@dataclass(frozen=True)
class Place:
    """A step with its depth. `branch` is the key of its branch where that begins, else empty."""

    step: StepExecution
    depth: int
    branch: str


def arrange(steps: Iterable[StepExecution]) -> list[Place]:
    """Parents before their children, branch by branch; a step whose parent is not among them stands at the top."""
    rows = sorted(steps, key=lambda step: (step.position, step.pk or 0))
    known = {step.path for step in rows}
    below: dict[str, dict[str, list[StepExecution]]] = defaultdict(lambda: defaultdict(list))
    top: list[StepExecution] = []
    for step in rows:
        parent, branch = parent_of(step.path)
        (below[parent][branch] if parent in known else top).append(step)
    return list(_walk(top, "", 0, below))


def parent_of(path: str) -> tuple[str, str]:
    """The path of the container around a step, and the key of the branch; both empty at the top level."""
    found = LAST_BRANCH.match(path)
    return (found["parent"], found["branch"]) if found else ("", "")


def depth_of(path: str) -> int:
    """How many containers are around a step."""
    return path.count("]/")


def _walk(
    steps: list[StepExecution], branch: str, depth: int, below: dict[str, dict[str, list[StepExecution]]]
) -> Iterator[Place]:
    for number, step in enumerate(steps):
        yield Place(step, depth, branch if number == 0 else "")
        for key, children in below.get(step.path, {}).items():
            yield from _walk(children, key, depth + 1, below)
