"""Runs the branches inside a container: one after the other, or several at a time in threads of their own."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connection

from automation_lab.core.cancellation import Cancellation
from automation_lab.core.execution.failures import Interrupted
from workflows.models import StepExecution, WorkflowExecution
from workflows.running.flow import BRANCH_CANCELLED, StepFailed, Waiting
from workflows.running.scope import Scope, linked
from workflows.steps.base import Branch, BranchResult, Stop

if TYPE_CHECKING:
    from workflows.running.engine import Engine

SUCCESS, FAILED = "success", "failed"


class StepChildren:
    """`Children` for one container of one walk."""

    def __init__(self, engine: Engine, record: StepExecution, scope: Scope) -> None:
        self.engine = engine
        self.record = record
        self.scope = scope

    def run(self, branch: Branch) -> BranchResult:
        inner = self.scope.inner(branch.names, isolated=branch.isolated)
        self.engine.sequence(branch.steps, self._prefix(branch), inner)
        return self._result(branch, SUCCESS, None, inner)

    def run_all(
        self, branches: Sequence[Branch], *, concurrency: int, enough: int | None = None, give_up: bool = True
    ) -> list[BranchResult]:
        race = Race(linked(self.scope.cancellation), enough=enough, give_up=give_up)
        if concurrency <= 1:
            self._one_after_the_other(branches, race)
        else:
            self._in_threads(branches, race, concurrency)
        results = race.results()
        # Not before: a branch must not see what another one of them has done meanwhile.
        kept_apart = {branch.key for branch in branches if branch.isolated}
        for result in results:
            if result.key not in kept_apart:
                self.scope.outputs.update(result.outputs)
        return results

    def has_begun(self, branch: Branch) -> bool:
        first = branch.steps[0]["id"] if branch.steps else ""
        return f"{self._prefix(branch)}/{first}" in self.engine.store.records

    def names(self) -> dict[str, Any]:
        return self.engine.names(self.scope, now=self.now())

    def now(self) -> datetime:
        return self.engine.tools.now()

    def remember(self, **state: Any) -> None:
        self.engine.store.change(self.record, state={**(self.record.state or {}), **state})

    def sleep_until(self, instant: datetime) -> None:
        if instant > self.now():
            raise Waiting(instant, WorkflowExecution.WaitingFor.DELAY)

    def _one_after_the_other(self, branches: Sequence[Branch], race: Race) -> None:
        for number, branch in enumerate(branches):
            if race.is_over or race.waits:
                return
            race.note(number, functools.partial(self._branch, branch, race.stop))

    def _in_threads(self, branches: Sequence[Branch], race: Race, concurrency: int) -> None:
        """Keep `concurrency` branches going, waiting ones counted; begin no more once the race is over."""
        left = iter(enumerate(branches))
        going: dict[Future[BranchResult], int] = {}
        with ThreadPoolExecutor(concurrency, thread_name_prefix="branch") as pool:
            while True:
                while len(going) + len(race.waits) < concurrency and not race.is_over:
                    number, branch = next(left, (-1, None))
                    if branch is None:
                        break
                    # The thread takes the correlation id along.
                    run = contextvars.copy_context().run
                    going[pool.submit(run, self._branch_in_thread, branch, race.stop)] = number
                if not going:
                    return
                self.engine.tools.release_connection()
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    race.note(going.pop(future), future.result)

    def _branch_in_thread(self, branch: Branch, stop: Cancellation) -> BranchResult:
        try:
            return self._branch(branch, stop)
        finally:
            connection.close()

    def _branch(self, branch: Branch, stop: Cancellation) -> BranchResult:
        inner = self.scope.inner(branch.names, isolated=True, cancellation=stop)
        try:
            self.engine.sequence(branch.steps, self._prefix(branch), inner)
        except StepFailed as failed:
            return self._result(branch, FAILED, failed.record.error, inner)
        return self._result(branch, SUCCESS, None, inner)

    def _result(self, branch: Branch, status: str, error: dict[str, Any] | None, inner: Scope) -> BranchResult:
        names = self.engine.names(inner, now=self.now())
        outputs = dict(inner.outputs.maps[0])
        last = outputs.get(branch.steps[-1]["id"]) if branch.steps else None
        return BranchResult(branch.key, status, error, names, outputs, last["output"] if last else None)

    def _prefix(self, branch: Branch) -> str:
        return f"{self.record.path}[{branch.key}]"


class Race:
    """What has become of the branches of one `run_all`, and when enough is known to stop the others."""

    def __init__(self, stop: Cancellation, *, enough: int | None, give_up: bool) -> None:
        self.stop = stop
        self.enough = enough
        self.give_up = give_up
        self.waits: list[Waiting] = []
        self._ended: dict[int, BranchResult] = {}
        self._raised: Exception | None = None

    @property
    def is_over(self) -> bool:
        return self.stop.cancelled

    def note(self, number: int, ended: Callable[[], BranchResult]) -> None:
        try:
            self._ended[number] = ended()
        except Waiting as waiting:
            self.waits.append(waiting)
        except Interrupted as interrupted:
            if interrupted.reason != BRANCH_CANCELLED:
                self._raised = self._raised or interrupted
        except Stop as stopped:
            self._raised = stopped
        except BaseException:
            self.stop.cancel(BRANCH_CANCELLED)
            raise
        if self._is_decided():
            self.stop.cancel(BRANCH_CANCELLED)

    def results(self) -> list[BranchResult]:
        """Those that ended, in order. Raises what a branch raised for the whole run, or Waiting while it is undecided."""
        if self._raised is not None:
            raise self._raised
        if not self._is_decided():
            if self.is_over:  # stopped from outside: the branches did not come to their end
                raise Interrupted(self.stop.reason)
            if self.waits:
                raise min(self.waits, key=lambda waiting: (waiting.until is None, waiting.until))
        return [self._ended[number] for number in sorted(self._ended)]

    def _is_decided(self) -> bool:
        succeeded = sum(result.succeeded for result in self._ended.values())
        failed = len(self._ended) - succeeded
        return (
            (self.enough is not None and succeeded >= self.enough)
            or (self.give_up and failed > 0)
            or self._raised is not None
        )
