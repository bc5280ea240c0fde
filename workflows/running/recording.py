"""What every kind of step shares while it runs: its rendered config, its context, and how its end is put on record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.execution.failures import RunError
from automation_lab.core.execution.results import masked_text, storable
from automation_lab.core.previews import is_cut, why_cut
from workflows import links
from workflows.models import StepExecution
from workflows.running import context
from workflows.running.scope import Scope
from workflows.running.store import RunStore
from workflows.steps.base import StepContext, StepType

Status = StepExecution.Status
DEFAULT_STEP_TIMEOUT_SECONDS = 300.0
LONGEST_WAIT = timedelta(days=366)
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Toolbox:
    """What the engine is given from outside, so that tests can replace it."""

    now: Callable[[], datetime]
    http: Any
    allowed_hosts: Callable[[dict[str, Any]], dict[str, list[str]]]
    release_connection: Callable[[], None] = lambda: None


class Recorder:
    """The part of the engine that renders configs and writes the ends of steps, for plain and container steps alike."""

    def __init__(self, store: RunStore, tools: Toolbox) -> None:
        self.store = store
        self.tools = tools

    def names(self, scope: Scope, *, now: datetime) -> dict[str, Any]:
        """All that the expressions of one step see."""
        seen = context.names_at(scope, variables=self.store.variables.values, now=now)
        return {**seen, "callbacks": links.Callbacks(scope, self._issue_link)}

    def _issue_link(self, step: dict[str, Any], path: str) -> str:
        record = self.store.record(step, path)
        expires_at = self.store.execution.deadline_at or self.tools.now() + LONGEST_WAIT
        token, address = links.new_token(self.store.execution, record, expires_at=expires_at)
        if self.store.issue(record, token):
            # Who asks for a link is about to send it, and the answer may be quick.
            self.store.commit(now=self.tools.now())
        return address

    def _config(self, step_type: StepType, step: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        config = json_schema.with_defaults(step.get("config") or {}, step_type.config_schema)
        rendered = {
            name: value if name in step_type.unrendered else expressions.render(value, names)
            for name, value in config.items()
        }
        faults = json_schema.check_config(rendered, step_type.config_schema, templated=False)
        if faults:
            raise RunError(f"{faults[0].path}: {faults[0].message}", code="configuration.config")
        return rendered

    def _context(self, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope) -> StepContext:
        lowest = LOG_LEVELS.index(step.get("log_level", "debug"))

        def log(level: str, text: str) -> None:
            if LOG_LEVELS.index(level) >= lowest:
                self.store.log(level, links.hide_tokens(text), path=record.path)

        def respond(answer: dict[str, Any]) -> None:
            self.store.output = answer

        return StepContext(
            names=names,
            variables=self.store.variables,
            http=self.tools.http,
            cancellation=scope.cancellation,
            idempotency_key=record.idempotency_key or self._effect_key(record),
            deadline_seconds=self._seconds_left(step),
            now=record.scheduled_at or self.tools.now(),
            execution=self.store.execution,
            path=record.path,
            generation=record.generation,
            depth=self.store.execution.depth,
            allowed_hosts=self.tools.allowed_hosts(step.get("config") or {}),
            log=log,
            respond=respond,
        )

    def _seconds_left(self, step: dict[str, Any]) -> float:
        limit = float(step.get("timeout_seconds", DEFAULT_STEP_TIMEOUT_SECONDS))
        deadline_at = self.store.execution.deadline_at
        if deadline_at is None:
            return limit
        return max(0.1, min(limit, (deadline_at - self.tools.now()).total_seconds()))

    def _effect_key(self, record: StepExecution) -> str:
        return self.store.execution.effect_key(record.path, record.generation)

    def _fail(
        self, record: StepExecution, error: RunError, *, status: str = Status.FAILED, commit: bool = False
    ) -> None:
        self.store.log("error", links.hide_tokens(error.message), path=record.path)
        self._end(record, status, error=self._error(error, record, retryable=False))
        if commit:
            self.store.commit(now=self.tools.now())

    def _end(self, record: StepExecution, status: str, *, step: dict[str, Any] | None = None, **values: Any) -> None:
        now = self.tools.now()
        started = record.started_at or now
        if is_cut(values.get("output")):
            self.store.log("warning", f"The output cannot be used. {why_cut(values['output'])}", path=record.path)
        self.store.change(
            record,
            status=status,
            finished_at=now,
            duration_ms=max(0, round((now - started).total_seconds() * 1000)),
            next_attempt_at=None,
            **values,
        )
        target = (step or {}).get("output_as")
        if target and status == Status.SUCCESS:
            self.store.variables.set(target.removeprefix("vars."), record.output)

    def _error(self, error: RunError, record: StepExecution, *, retryable: bool) -> dict[str, Any]:
        described: dict[str, Any] = {
            "code": error.code,
            "type": error.code.split(".")[0],
            "message": links.hide_tokens(masked_text(error.message)),
            "retryable": retryable,
            "step": record.path,
            "attempt": record.attempt,
        }
        if error.answer is not None:
            described["status"] = error.answer.get("status")
            described["answer"] = kept(error.answer)
        if error.detail is not None:
            described["detail"] = kept(error.detail)
        return described


def kept(value: Any) -> Any:
    """`value` as a row may keep it: no secrets, no links, a bounded size."""
    return storable(links.hide_tokens(expressions.redact(value)))


def as_run_error(error: AutomationLabError) -> RunError:
    if isinstance(error, RunError):
        return error
    code = error.code if "." in error.code else f"configuration.{error.code}"
    return RunError(error.message, code=code)
