"""What a task type is: a config schema and a function from a rendered config to an output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from automation_lab.core.expressions import ExpressionError
from automation_lab.core.registry import Registry
from tasks.handlers.http_call import CallContext


@dataclass(frozen=True)
class TaskContext:
    """What a handler is given beside its config. `log(level, text)` adds a line to the run's log."""

    call: CallContext
    execution_id: int
    log: Callable[[str, str], None]


class TaskHandler(ABC):
    """One `task_type`. `key` is stored in rows: never renamed, never reused."""

    key: str
    config_schema: dict[str, Any]
    unrendered: frozenset[str] = frozenset()
    """Config fields that hold expressions for the handler itself."""

    def check(self, config: dict[str, Any]) -> list[ExpressionError]:
        """Faults of the unrendered expressions in a config that is to be saved; each with its `field`."""
        return []

    @abstractmethod
    def run(self, *, config: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        """Do it with the rendered, complete `config`. Raises RunError or Interrupted."""


handlers: Registry[TaskHandler] = Registry("task types")
