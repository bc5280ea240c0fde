"""The rows of one run, as its worker reads and writes them: every write tests the claim, and belongs to one commit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.db import models

from automation_lab.core import clock
from automation_lab.core.execution import queue
from automation_lab.core.execution.claims import Claim, Replaced
from automation_lab.core.execution.results import masked_text
from workflows.models import StepAttempt, StepExecution, WorkflowExecution, WorkflowLog

STEP_FIELDS = [
    "status", "attempt", "generation", "interruptions", "idempotency_key", "input", "output", "error", "state", "scheduled_at",
    "next_attempt_at", "started_at", "finished_at", "duration_ms", "updated_at",
]  # fmt: skip
ATTEMPT_FIELDS = ["status", "finished_at", "duration_ms", "error"]


class RunVariables:
    """`vars` of a run. What is set shows at once and is written with the step that set it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = copy.deepcopy(values)
        self._lock = threading.Lock()

    def set(self, path: str, value: Any) -> None:
        """Branches set theirs at the same time; the last one wins. What is read meanwhile does not change under the reader."""
        with self._lock:
            values = copy.deepcopy(self.values)
            *parents, name = path.split(".")
            target = values
            for parent in parents:
                if not isinstance(target.get(parent), dict):
                    target[parent] = {}
                target = target[parent]
            target[name] = copy.deepcopy(value)
            self.values = values


Pending = tuple[list[StepExecution], list[StepAttempt], list[dict[str, Any]]]


class RunStore:
    """Steps, attempts, variables and log of one claimed execution.

    Changes are collected and written by `commit`; steps without outside effect thus share the next step's commit.
    """

    def __init__(self, execution: WorkflowExecution, claim: Claim) -> None:
        self.execution = execution
        self.claim = claim
        self.variables = RunVariables(execution.variables)
        self.records = {record.path: record for record in execution.steps.all()}
        self.finished_steps = execution.current_step
        self._position = max((record.position for record in self.records.values()), default=0)
        self._changed: dict[str, StepExecution] = {}
        self._attempts: dict[int, StepAttempt] = {}
        self._unwritten: set[int] = set()
        self._lock = threading.Lock()
        self._commit_lock = threading.Lock()

    def record(self, step: dict[str, Any], path: str) -> StepExecution:
        """The row of the step at `path`, made (not yet written) when there is none."""
        with self._lock:
            found = self.records.get(path)
            if found is None:
                self._position += 1
                found = self.records[path] = StepExecution(
                    execution=self.execution,
                    path=path,
                    step_id=step["id"],
                    type=step["type"],
                    name=step.get("name", ""),
                    position=self._position,
                )
                self._unwritten.add(id(found))
            return found

    def change(self, record: StepExecution, **values: Any) -> None:
        for name, value in values.items():
            setattr(record, name, value)
        with self._lock:
            self._changed[record.path] = record

    def open_attempt(self, record: StepExecution, *, now: datetime) -> StepAttempt:
        attempt = StepAttempt(
            step=record, number=record.attempt, epoch=self.claim.epoch, worker=self.claim.worker, started_at=now
        )
        with self._lock:
            self._attempts[id(attempt)] = attempt
            self._unwritten.add(id(attempt))
        return attempt

    def close_attempt(self, attempt: StepAttempt, *, status: str, now: datetime, error: Any = None) -> None:
        attempt.status, attempt.finished_at, attempt.error = status, now, error
        attempt.duration_ms = max(0, round((now - attempt.started_at).total_seconds() * 1000))
        with self._lock:
            self._attempts[id(attempt)] = attempt

    def log(self, level: str, text: str, *, path: str = "") -> None:
        self.claim.log.add(level, masked_text(text), at=clock.process_now(), path=path)

    def commit(self, *, now: datetime, also: Callable[[], None] = lambda: None) -> None:
        """Write what has changed, and do `also` in the same transaction. Raises Replaced if this claim was replaced.

        One at a time: a branch may take along what another one has changed, which then must not go on before it is
        written.
        """
        with self._commit_lock:
            pending = self._take()

            def write() -> None:
                self._write(pending, now)
                also()

            queue.persist(write)
            with self._lock:
                self._unwritten -= {id(row) for rows in pending[:2] for row in rows}

    def commit_and_park(self, *, due_at: datetime | None, waiting_for: str, now: datetime) -> None:
        """Write what has changed and let go of the run; at once due again if an event came while it was held."""

        def park() -> None:
            signalled = StepExecution.objects.filter(
                execution_id=self.claim.pk, status=StepExecution.Status.WAITING, signal__isnull=False
            )
            due = now if signalled.exists() else due_at
            queue.park(self.claim, due_at=due, now=now, waiting_for=waiting_for)

        self.commit(now=now, also=park)

    def _take(self) -> Pending:
        with self._lock:
            changed, self._changed = list(self._changed.values()), {}
            attempts, self._attempts = list(self._attempts.values()), {}
        return changed, attempts, self.claim.log.drain()

    def _write(self, pending: Pending, now: datetime) -> None:
        steps, attempts, lines = pending
        held = self.claim.rows().update(
            variables=self.variables.values, current_step=self.finished_steps, waiting_for="", updated_at=now
        )
        if held == 0:
            raise Replaced(self.claim)
        self._save(steps, STEP_FIELDS)
        for attempt in attempts:
            attempt.step_id = attempt.step.pk
        self._save(attempts, ATTEMPT_FIELDS)
        WorkflowLog.objects.bulk_create(
            WorkflowLog(execution_id=self.claim.pk, epoch=self.claim.epoch, **line) for line in lines
        )

    def _save(self, rows: Sequence[models.Model], fields: list[str]) -> None:
        """Insert the rows not written yet, update the others. A write that was rolled back has set keys: forget them."""
        new = [row for row in rows if id(row) in self._unwritten]
        for row in new:
            row.pk = None
        if new:
            type(new[0])._default_manager.bulk_create(new)
        for row in rows:
            if id(row) not in self._unwritten:
                row.save(update_fields=fields)
