"""Decides what a run does next: walks the steps of its version, and leaves alone what is on record already.

Knows no HTTP and no tables: effects happen in step types, rows are the store's. Walking again after an interruption
comes to the same place, because every decision is on record.
"""

from __future__ import annotations

import functools
from typing import Any

from automation_lab.core import expressions
from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.execution.failures import Interrupted, RunError
from automation_lab.core.registry import UnknownKey
from workflows import links
from workflows.models import StepExecution, WorkflowExecution
from workflows.running import context
from workflows.running.branches import StepChildren
from workflows.running.effects import Effects
from workflows.running.flow import BRANCH_CANCELLED, StepFailed, Waiting
from workflows.running.recording import Toolbox, as_run_error, kept
from workflows.running.scope import Scope
from workflows.running.store import RunStore
from workflows.steps.base import ContainerType, Steps, Stop, Wait, WaitingType, step_types

__all__ = ["Engine", "Toolbox", "as_run_error"]

Status = StepExecution.Status
ENDED = frozenset({Status.SUCCESS, Status.FAILED, Status.SKIPPED, Status.CANCELLED, Status.TIMEOUT})


class Engine(Effects):
    """One walk over one claimed run.

    `run()` returns when every step has ended; raises StepFailed, Stop, Waiting or Interrupted.
    """

    def __init__(self, store: RunStore, tools: Toolbox, policy: dict[str, Any]) -> None:
        super().__init__(store, tools, policy)
        self.known_outputs: dict[str, Any] = {}

    def run(self, steps: Steps) -> None:
        scope = Scope(context.run_names(self.store.execution), self.store.claim.cancellation)
        scope.outputs.update(self.known_outputs)
        _link(steps, "", scope)
        for number, step in enumerate(steps, start=1):
            try:
                self.step(step, step["id"], scope)
            except Stop:
                self._count(number)
                raise
            self._count(number)

    def _count(self, number: int) -> None:
        self.store.finished_steps = max(self.store.finished_steps, number)

    def sequence(self, steps: Steps, prefix: str, scope: Scope) -> None:
        """Walk the steps of one branch. `scope` is its own."""
        _link(steps, f"{prefix}/", scope)
        for step in steps:
            self.step(step, f"{prefix}/{step['id']}", scope)

    def step(self, step: dict[str, Any], path: str, scope: Scope) -> None:
        record = self.store.record(step, path)
        if record.status == Status.CANCELLED:  # its branch had lost already when the worker was lost
            raise Interrupted(BRANCH_CANCELLED)
        if record.status not in ENDED:
            if scope.cancellation.cancelled:
                raise Interrupted(scope.cancellation.reason)
            self._perform(step, record, scope)
        scope.outputs[record.step_id] = context.step_names(record)
        if record.status in (Status.FAILED, Status.TIMEOUT):
            self._handle_failure(step, record, scope)

    def _perform(self, step: dict[str, Any], record: StepExecution, scope: Scope) -> None:
        now = record.scheduled_at or self.tools.now()
        if record.scheduled_at is None or record.started_at is None:
            self.store.change(record, scheduled_at=now, started_at=now)
        names = self.names(scope, now=now)
        try:
            step_type = step_types.get(step["type"])
            wanted = record.status != Status.PENDING or _is_wanted(step, names)
        except UnknownKey as error:
            self._fail(record, RunError(str(error), code="configuration.step_type"))
        except AutomationLabError as error:
            self._fail(record, as_run_error(error))
        else:
            if not wanted:
                self._end(record, Status.SKIPPED)
            elif isinstance(step_type, ContainerType):
                self._run_container(step_type, step, record, names, scope)
            elif isinstance(step_type, WaitingType):
                self._run_waiting(step_type, step, record, names, scope)
            else:
                self._run_plain(step_type, step, record, names, scope)

    def _handle_failure(self, step: dict[str, Any], record: StepExecution, scope: Scope) -> None:
        on_error = step.get("on_error", "fail")
        if on_error == "fail":
            raise StepFailed(record)
        if isinstance(on_error, dict):
            inner = scope.inner({"error": record.error}, isolated=False)
            self.sequence(on_error["steps"], f"{record.path}[error]", inner)

    # --- containers ---------------------------------------------------------------------------------------------------

    def _run_container(
        self, step_type: ContainerType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> None:
        try:
            config = self._config(step_type, step, names)
            step_context = self._context(step, record, names, scope)
            if record.status == Status.PENDING:
                state = step_type.decide(config=config, context=step_context)
                self.store.change(record, status=Status.RUNNING, attempt=1, state=state)
            children = StepChildren(self, record, scope)
            output = step_type.walk(config=config, context=step_context, state=record.state or {}, children=children)
        except StepFailed as failed:
            self._end(record, Status.FAILED, error={**(failed.record.error or {}), "step": failed.record.path})
        except AutomationLabError as error:
            self._fail(record, as_run_error(error))
        except Stop:
            self._end(record, Status.SUCCESS)
            raise
        else:
            self._end(record, Status.SUCCESS, step=step, output=kept(output))
        self._cancel_below(record)

    def _cancel_below(self, record: StepExecution) -> None:
        """A container has ended: nobody will come back to what still waits in its branches."""
        for left in self.store.open_below(record.path):
            step_type = step_types.get(left.type) if left.type in step_types else None
            if left.status == Status.WAITING and isinstance(step_type, WaitingType):
                self.store.after_commit(functools.partial(step_type.abandon, left.state or {}))
            self._end(left, Status.CANCELLED)

    # --- steps that wait ----------------------------------------------------------------------------------------------

    def _run_waiting(
        self, step_type: WaitingType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> None:
        try:
            if record.status == Status.PENDING:
                result = self._begin_waiting(step_type, step, record, names, scope)
            else:
                result = self._resume_waiting(step_type, step, record, names, scope)
            while isinstance(result, Wait):
                self._wait(record, result)
                result = self._resume_waiting(step_type, step, record, names, scope)
        except AutomationLabError as error:
            self._fail(record, as_run_error(error))
            return
        self._end(record, Status.SUCCESS, step=step, output=kept(result))

    def _begin_waiting(
        self, step_type: WaitingType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> Any | Wait:
        config = self._config(step_type, step, names)
        self.store.change(record, attempt=1, input=kept(config), idempotency_key=self._effect_key(record))
        return step_type.begin(config=config, context=self._context(step, record, names, scope))

    def _wait(self, record: StepExecution, wait: Wait) -> None:
        state = {**wait.state, "waiting_for": wait.waiting_for}
        self.store.change(record, status=Status.WAITING, next_attempt_at=wait.until, state=state)
        self.store.commit(now=self.tools.now(), also=lambda: wait.record(record))

    def _resume_waiting(
        self, step_type: WaitingType, step: dict[str, Any], record: StepExecution, names: dict[str, Any], scope: Scope
    ) -> Any | Wait:
        """What follows from the event, or from the end of the wait. Raises Waiting while there is neither."""
        state, until = record.state or {}, record.next_attempt_at
        signal = record.signal
        if signal is None:
            if until is None or until > self.tools.now():
                raise Waiting(until, state.get("waiting_for", WorkflowExecution.WaitingFor.DELAY))
            signal = self.store.signal_of(record)
        # As it was when the wait began: what it is made of may have changed meanwhile.
        begun_with = record.input if isinstance(record.input, dict) and "truncated" not in record.input else None
        config = begun_with or self._config(step_type, step, names)
        step_context = self._context(step, record, names, scope)
        return step_type.resume(config=config, context=step_context, state=state, signal=signal)


def _is_wanted(step: dict[str, Any], names: dict[str, Any]) -> bool:
    if not step.get("enabled", True):
        return False
    return "condition" not in step or expressions.evaluate_condition(step["condition"], names)


def _link(steps: Steps, prefix: str, scope: Scope) -> None:
    found = {step["id"]: (step, f"{prefix}{step['id']}") for step in steps if step["type"] in links.KINDS}
    if found:
        scope.links = {**scope.links, **found}
