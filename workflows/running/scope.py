"""What the steps of one place in a run see and are stopped by: names, earlier outputs, and a cancellation."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automation_lab.core.cancellation import Cancellation


@dataclass
class Scope:
    """`outputs` is `steps.<id>`; a nested scope may keep its own to itself.

    `links` are the steps of this sequence and of those around it that can be answered from outside: (step, path) by id.
    """

    names: dict[str, Any]
    cancellation: Cancellation
    outputs: ChainMap[str, Any] = field(default_factory=ChainMap)
    links: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)

    def inner(self, names: Mapping[str, Any], *, isolated: bool, cancellation: Cancellation | None = None) -> Scope:
        return Scope(
            names={**self.names, **names},
            cancellation=cancellation or self.cancellation,
            outputs=self.outputs.new_child() if isolated else self.outputs,
            links=self.links,
        )


def linked(parent: Cancellation) -> Cancellation:
    """A cancellation of its own that follows `parent`."""
    child = Cancellation()
    parent.add_callback(lambda: child.cancel(parent.reason))
    return child
