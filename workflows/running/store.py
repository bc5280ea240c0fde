"""The rows of one run, as its worker reads and writes them: every write tests the claim, and belongs to one commit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import models, transaction

from automation_lab.core import clock
from automation_lab.core.execution import queue
from automation_lab.core.execution.claims import Claim, Replaced
from automation_lab.core.execution.results import masked_text
from workflows.models import StepAttempt, StepExecution, WaitToken, WorkflowExecution, WorkflowLog

Status = StepExecution.Status
OPEN = (Status.PENDING, Status.RUNNING, Status.WAITING, Status.INTERRUPTED)


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


@dataclass
class Changes:
    """What the next commit writes: rows with the names of their changed fields, links and log lines.

    Only changed fields, because services write others (`signal`) to the rows of a run that a worker holds.
    """

    steps: dict[int, tuple[StepExecution, set[str]]] = field(default_factory=dict)
    attempts: dict[int, tuple[StepAttempt, set[str]]] = field(default_factory=dict)
    links: dict[str, tuple[StepExecution, WaitToken]] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    afterwards: list[Callable[[], None]] = field(default_factory=list)

    def note(self, row: models.Model, names: Iterable[str]) -> None:
        rows: dict[int, Any] = self.steps if isinstance(row, StepExecution) else self.attempts
        rows.setdefault(id(row), (row, set()))[1].update(names)

    def take_back(self, earlier: Changes) -> None:
        """Add what an `earlier` commit could not write."""
        for row, names in [*earlier.steps.values(), *earlier.attempts.values()]:
            self.note(row, names)
        self.links = {**earlier.links, **self.links}
        self.lines = [*earlier.lines, *self.lines]
        self.afterwards = [*earlier.afterwards, *self.afterwards]


class RunStore:
    """Steps, attempts, variables and log of one claimed execution.

    Changes are collected and written by `commit`; steps without outside effect thus share the next step's commit.
    """

    def __init__(self, execution: WorkflowExecution, claim: Claim) -> None:
        self.execution = execution
        self.claim = claim
        self.variables = RunVariables(execution.variables)
        self.output: Any = execution.output
        self.records = {record.path: record for record in execution.steps.all()}
        self.finished_steps = execution.current_step
        self._position = max((record.position for record in self.records.values()), default=0)
        self._changes = Changes()
        self._unwritten: set[int] = set()
        self._issued: set[str] = set()
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
            if "scheduled_at" in values and record.position < self._position:
                # Its row was made before it began, for a link to it.
                self._position += 1
                record.position = self._position
                values["position"] = record.position
            self._changes.note(record, values)

    def issue(self, record: StepExecution, token: WaitToken) -> bool:
        """Have `token`, a link to the step of `record`, written with the next commit; False if it was before."""
        with self._lock:
            if token.token_hash in self._issued:
                return False
            self._issued.add(token.token_hash)
            self._changes.note(record, ())
            self._changes.links[token.token_hash] = (record, token)
            return True

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call it once what has changed so far is committed."""
        with self._lock:
            self._changes.afterwards.append(callback)

    def open_attempt(self, record: StepExecution, *, now: datetime) -> StepAttempt:
        attempt = StepAttempt(
            step=record, number=record.attempt, epoch=self.claim.epoch, worker=self.claim.worker, started_at=now
        )
        with self._lock:
            self._changes.note(attempt, ())
            self._unwritten.add(id(attempt))
        return attempt

    def close_attempt(self, attempt: StepAttempt, *, status: str, now: datetime, error: Any = None) -> None:
        attempt.status, attempt.finished_at, attempt.error = status, now, error
        attempt.duration_ms = max(0, round((now - attempt.started_at).total_seconds() * 1000))
        with self._lock:
            self._changes.note(attempt, ("status", "finished_at", "error", "duration_ms"))

    def open_below(self, path: str) -> list[StepExecution]:
        """The steps inside the container at `path` that have begun and not ended."""
        with self._lock:
            records = list(self.records.values())
        return [record for record in records if record.path.startswith(f"{path}[") and record.status in OPEN]

    @property
    def has_open_steps(self) -> bool:
        return any(record.status in OPEN for record in self.records.values())

    def signal_of(self, record: StepExecution) -> Any:
        """What an event has brought to `record` by now. Raises Replaced.

        Services write signals under the lock of the execution, and only before the wait's end by the database's clock:
        asked after that end, this answer is final.
        """
        with transaction.atomic():
            queue.guard(self.claim)
            return StepExecution.objects.values_list("signal", flat=True).get(pk=record.pk)

    def log(self, level: str, text: str, *, path: str = "") -> None:
        self.claim.log.add(level, masked_text(text), at=clock.process_now(), path=path)

    def commit(self, *, now: datetime, also: Callable[[], None] = lambda: None) -> None:
        """Write what has changed, and do `also` in the same transaction. Raises Replaced if this claim was replaced.

        One at a time: a branch may take along what another one has changed, which then must not go on before it is
        written. What could not be written is kept for the next commit.
        """
        with self._commit_lock:
            changes = self._take()

            def write() -> None:
                self._write(changes, now)
                also()
                for callback in changes.afterwards:
                    transaction.on_commit(callback)

            try:
                queue.persist(write)
            except BaseException:
                with self._lock:
                    self._changes.take_back(changes)
                raise
            with self._lock:
                self._unwritten -= {*changes.steps, *changes.attempts}

    def commit_and_park(self, *, due_at: datetime | None, waiting_for: str, now: datetime) -> None:
        """Write what has changed and let go of the run; at once due again if an event came while it was held."""

        def park() -> None:
            # The write before this has locked the execution, so an event is either seen here or finds it parked.
            signalled = StepExecution.objects.filter(
                execution_id=self.claim.pk, status__in=(Status.WAITING, Status.INTERRUPTED), signal__isnull=False
            )
            due = now if signalled.exists() else due_at
            queue.park(self.claim, due_at=due, now=now, waiting_for=waiting_for)

        self.commit(now=now, also=park)

    def _take(self) -> Changes:
        with self._lock:
            changes, self._changes = self._changes, Changes()
        changes.lines += self.claim.log.drain()
        return changes

    def _write(self, changes: Changes, now: datetime) -> None:
        held = self.claim.rows().update(
            variables=self.variables.values,
            output=self.output,
            current_step=self.finished_steps,
            waiting_for="",
            attempt=0,  # counts the workers lost since something was last put on record
            updated_at=now,
        )
        if held == 0:
            raise Replaced(self.claim)
        self._save(list(changes.steps.values()), also=("updated_at",))
        for attempt, _ in changes.attempts.values():
            attempt.step = attempt.step  # the key that its row has now
        self._save(list(changes.attempts.values()))
        self._save_links(changes)
        WorkflowLog.objects.bulk_create(
            WorkflowLog(execution_id=self.claim.pk, epoch=self.claim.epoch, **line) for line in changes.lines
        )

    def _save(self, rows: Sequence[tuple[models.Model, set[str]]], *, also: Sequence[str] = ()) -> None:
        """Insert the rows not written yet, update the others. A write that was rolled back has set keys: forget them."""
        new = [row for row, _ in rows if id(row) in self._unwritten]
        for row in new:
            row.pk = None
        if new:
            type(new[0])._default_manager.bulk_create(new)
        for row, names in rows:
            if names and id(row) not in self._unwritten:
                row.save(update_fields=[*names, *also])

    def _save_links(self, changes: Changes) -> None:
        for record, token in changes.links.values():
            token.pk, token.step_id = None, record.pk
        WaitToken.objects.bulk_create((token for _, token in changes.links.values()), ignore_conflicts=True)
