"""What a step type is: a config schema and what to do with a rendered config.

Three kinds: a plain type does its work and is done; a waiting type begins, lets go of the worker, and resumes; a
container runs other steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from automation_lab.core import expressions, json_schema
from automation_lab.core.cancellation import Cancellation
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import Reference
from automation_lab.core.http import HttpClient
from automation_lab.core.outbound import Blocked, check_url, policy_from_settings
from automation_lab.core.registry import Registry
from tasks.handlers.http_call import CallContext

if TYPE_CHECKING:
    from workflows.models import StepExecution, WorkflowExecution

Fault = dict[str, str]
Steps = list[dict[str, Any]]


class Variables(Protocol):
    """`vars` of the run, as a step may change it."""

    def set(self, path: str, value: Any) -> None: ...


@dataclass(frozen=True)
class StepContext:
    """All that a step type is given beside its rendered config. `now` is frozen when the step is first scheduled."""

    names: Mapping[str, Any]
    variables: Variables
    http: HttpClient
    cancellation: Cancellation
    idempotency_key: str
    deadline_seconds: float
    now: datetime
    execution: WorkflowExecution
    path: str
    generation: int = 0
    depth: int = 0
    allowed_hosts: dict[str, list[str]] = field(default_factory=dict)
    log: Callable[[str, str], None] = lambda level, text: None
    respond: Callable[[dict[str, Any]], None] = lambda answer: None
    """Sets what the run gives back to its caller."""

    def is_true(self, source: str | bool) -> bool:
        """Raises ExpressionError unless `source` gives true or false."""
        return expressions.evaluate_condition(source, self.names)

    def value(self, source: str) -> Any:
        """The value of an expression, with or without braces."""
        return expressions.parse_condition(source).render(self.names)

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
    is_awaited = False
    """Somebody waits for the result: it is committed at once, not with the next effect."""
    retries = False
    """Takes part in the workflow's retry policy; the others have one attempt."""
    unrendered: frozenset[str] = frozenset()
    """Config fields that the type evaluates itself."""

    @abstractmethod
    def run(self, *, config: dict[str, Any], context: StepContext) -> Any:
        """Do it with the rendered, complete `config`; returns the output. Raises RunError, Interrupted or Stop."""

    def is_safe_to_repeat(self, config: dict[str, Any]) -> bool:
        """Whether doing it again after a lost answer does no harm."""
        return not self.has_effect

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        """What `config_schema` cannot express, on save: `[{path, code, message}]`."""
        return []

    def warnings(self, config: dict[str, Any]) -> list[str]:
        """What is missing now and may exist by the time it runs."""
        return []

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        """What the `unrendered` fields refer to, by the path of the field."""
        return {}


class Stop(Exception):
    """Raised by a step that ends the whole run as a success, with `output`."""

    def __init__(self, output: Any = None) -> None:
        super().__init__("stopped")
        self.output = output


@dataclass(frozen=True)
class Wait:
    """A waiting step's request to be resumed: at `until`, or earlier when an event brings a signal.

    `waiting_for` is one of WorkflowExecution.WaitingFor; `state` is given back to `resume`; `until` None waits for the
    event alone. `record()` writes the rows that belong to the wait, in the transaction that begins it.
    """

    waiting_for: str
    until: datetime | None = None
    state: dict[str, Any] = field(default_factory=dict)
    record: Callable[[StepExecution], None] = lambda step: None


class WaitingType(StepType):
    """A step that takes time without holding a worker. `longest_wait` is the setting that says how much, if one does."""

    longest_wait = "timeout_seconds"

    def wait_seconds(self, config: dict[str, Any]) -> float | None:
        """How long it may wait; None if that is not known before the run."""
        seconds = json_schema.with_defaults(config, self.config_schema).get(self.longest_wait)
        return seconds if isinstance(seconds, int | float) else None

    @abstractmethod
    def begin(self, *, config: dict[str, Any], context: StepContext) -> Any | Wait:
        """Called before the wait; again if the worker was lost before it was on record. May return an output at once."""

    @abstractmethod
    def resume(self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], signal: Any) -> Any | Wait:
        """Called with the signal of the event, or with None when the time is up. Returns the output, or waits again."""

    def abandon(self, state: dict[str, Any]) -> None:
        """Nobody will come back to the wait: its run has ended, or another branch has decided. Called after the commit
        that says so, because it may lock other executions.
        """

    def run(self, *, config: dict[str, Any], context: StepContext) -> Any:
        raise TypeError("A waiting step is begun and resumed, not run.")


@dataclass(frozen=True)
class Branch:
    """Steps to run under `[key]` of a container, with names of their own such as `item`.

    An `isolated` branch sees the outputs of the steps before it, and its own stay its own (an iteration of a loop).
    """

    key: str
    steps: Steps
    names: dict[str, Any] = field(default_factory=dict)
    isolated: bool = False


@dataclass(frozen=True)
class BranchResult:
    """How a branch ended: success or failed.

    `names` are those its steps left, for a `collect` expression; `outputs` is `steps.<id>` of its own steps, `output`
    that of the last one.
    """

    key: str
    status: str
    error: dict[str, Any] | None
    names: Mapping[str, Any]
    outputs: Mapping[str, Any]
    output: Any

    @property
    def succeeded(self) -> bool:
        return self.status == "success"


class Children(Protocol):
    """How a container runs its branches. Branches on record are not run again."""

    def run(self, branch: Branch) -> BranchResult:
        """Run one branch; a step that fails and is not handled fails the container."""

    def run_all(
        self, branches: Sequence[Branch], *, concurrency: int, enough: int | None = None, give_up: bool = True
    ) -> list[BranchResult]:
        """Run several, at most `concurrency` at a time. Returns the results of those that were begun, in their order.

        `enough` successes cancel the rest; with `give_up` so does the first failure.
        """

    def has_begun(self, branch: Branch) -> bool:
        """Whether a step of `branch` is on record."""

    def names(self) -> Mapping[str, Any]:
        """The names as they are now, `now` too: `context.names` are those from before the first branch."""

    def now(self) -> datetime:
        """The instant, by the database's clock."""

    def remember(self, **state: Any) -> None:
        """Add to the container's `state`, written with the next commit."""

    def sleep_until(self, instant: datetime) -> None:
        """Return when `instant` has passed; until then the run waits without a worker."""


class ContainerType(StepType):
    """A step that runs other steps. `branches` are the config fields that hold them.

    The steps after an `isolated` container do not see those inside.
    """

    branches: tuple[str, ...] = ()
    isolated = False

    @abstractmethod
    def decide(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        """What is decided once, before the first child runs, and kept over interruptions: the `state`."""

    @abstractmethod
    def walk(self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], children: Children) -> Any:
        """Run the children that `state` chose; returns the output. Called again after every interruption."""

    def child_steps(self, config: dict[str, Any]) -> dict[str, Steps]:
        """The step lists inside `config`, by the path of the field that holds them."""
        return {name: config[name] for name in self.branches if isinstance(config.get(name), list)}

    def child_names(self) -> frozenset[str]:
        """Names that the steps inside see beside the usual ones."""
        return frozenset()

    def inner_references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        """As `references`, for fields that are evaluated after the steps inside and see them."""
        return {}

    def surely_run(self, config: dict[str, Any]) -> set[str]:
        """The fields of `child_steps` whose steps have all run when the container has succeeded."""
        return set()

    def run(self, *, config: dict[str, Any], context: StepContext) -> Any:
        raise TypeError("A container is walked, not run.")


def child_error(result: BranchResult, what: str) -> RunError:
    """How a failed branch fails its container."""
    error = result.error or {}
    message = f"{what} failed at {error.get('step', '?')}: {error.get('message', 'failed')}"
    return RunError(message, code=error.get("code", "runtime.failed"), detail={"step": error.get("step")})


step_types: Registry[StepType] = Registry("step types")


def url_warnings(url: Any) -> list[str]:
    """What the rules for outbound requests say against an address that is known on save; names are not looked up."""
    if not isinstance(url, str) or expressions.has_expression(url):
        return []
    try:
        check_url(url, policy_from_settings())
    except Blocked as blocked:
        return [f"As the lab is set up, {url[:200]} is not called: {blocked.message}"]
    return []


def condition_faults(source: Any, names: set[str], path: str) -> list[Fault]:
    """Faults of an expression that must be true or false, for `StepType.check`."""
    return [
        {"path": path, "code": error.code, "message": error.message}
        for error in expressions.check_condition(source, names)
    ]


def condition_references(source: Any) -> set[Reference]:
    """What a condition refers to; nothing if it cannot be parsed."""
    if not isinstance(source, str):
        return set()
    try:
        return set(expressions.parse_condition(source).references)
    except expressions.ExpressionError:
        return set()


def message_references(source: Any) -> set[Reference]:
    """What a message template refers to; nothing if it cannot be parsed."""
    if not isinstance(source, str):
        return set()
    try:
        return set(expressions.message_references(source))
    except expressions.ExpressionError:
        return set()


def message_faults(source: str, names: set[str], path: str) -> list[Fault]:
    """Faults of a message template, for `StepType.check`."""
    return [
        {"path": path, "code": error.code, "message": error.message}
        for error in expressions.check_message(source, names)
    ]
