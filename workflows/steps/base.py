"""What a step type is: a config schema and a function from a rendered config to an output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from automation_lab.core import expressions
from automation_lab.core.cancellation import Cancellation
from automation_lab.core.http import HttpClient
from automation_lab.core.registry import Registry
from tasks.handlers.http_call import CallContext

Fault = dict[str, str]
Steps = list[dict[str, Any]]


class Variables(Protocol):
    """`vars` of the run, as a step may change it."""

    def set(self, path: str, value: Any) -> None: ...


@dataclass(frozen=True)
class StepContext:
    """All that a step type is given beside its rendered config."""

    names: Mapping[str, Any]
    variables: Variables
    http: HttpClient
    cancellation: Cancellation
    idempotency_key: str
    deadline_seconds: float
    depth: int = 0
    allowed_hosts: dict[str, list[str]] = field(default_factory=dict)
    log: Callable[[str, str], None] = lambda level, text: None

    def is_true(self, source: str | bool) -> bool:
        """Raises ExpressionError unless `source` gives true or false."""
        return expressions.evaluate_condition(source, self.names)

    def message(self, source: str, *, html: bool = False) -> str:
        """`source` as a message template: with `{% if %}` and `{% for %}`, escaped when `html`."""
        return expressions.render_message(source, self.names, html=html)

    def call(self) -> CallContext:
        return CallContext(
            http=self.http,
            cancellation=self.cancellation,
            idempotency_key=self.idempotency_key,
            deadline_seconds=self.deadline_seconds,
            hop=self.depth,
            allowed_hosts=self.allowed_hosts,
        )


class StepType(ABC):
    """One `type` of step. `key` is stored in definitions: never renamed, never reused."""

    key: str
    title: str
    config_schema: dict[str, Any]
    has_effect = False
    """Does something outside the database: its start is committed before it and its result after it."""
    retries = False
    """Takes part in the workflow's retry policy; the others have one attempt."""
    unrendered: frozenset[str] = frozenset()
    """Config fields that the type evaluates itself."""

    @abstractmethod
    def run(self, *, config: dict[str, Any], context: StepContext) -> Any:
        """Do it with the rendered, complete `config`; returns the output. Raises RunError or Interrupted."""

    def is_safe_to_repeat(self, config: dict[str, Any]) -> bool:
        """Whether doing it again after a lost answer does no harm."""
        return not self.has_effect

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        """What `config_schema` cannot express, on save: `[{path, code, message}]`."""
        return []

    def warnings(self, config: dict[str, Any]) -> list[str]:
        """What is missing now and may exist by the time it runs."""
        return []


class ContainerType(StepType):
    """A step that runs other steps. `branches` are the config fields that hold them."""

    branches: tuple[str, ...]

    @abstractmethod
    def decide(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        """What is decided once, before the first child runs, and kept over interruptions. It becomes the output."""

    @abstractmethod
    def chosen(self, *, config: dict[str, Any], decision: dict[str, Any]) -> list[tuple[str, Steps]]:
        """The branches to run, in order, by name."""

    def run(self, *, config: dict[str, Any], context: StepContext) -> Any:
        return self.decide(config=config, context=context)


step_types: Registry[StepType] = Registry("step types")


def condition_faults(source: Any, names: set[str], path: str) -> list[Fault]:
    """Faults of an expression that must be true or false, for `StepType.check`."""
    return [
        {"path": path, "code": error.code, "message": error.message}
        for error in expressions.check_condition(source, names)
    ]


def message_faults(source: str, names: set[str], path: str) -> list[Fault]:
    """Faults of a message template, for `StepType.check`."""
    return [
        {"path": path, "code": error.code, "message": error.message}
        for error in expressions.check_message(source, names)
    ]
