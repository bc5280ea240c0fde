"""How a worker runs one workflow execution: walk it with the engine, then record how it ended and what follows."""

from __future__ import annotations

import functools
import threading
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import F, QuerySet

from automation_lab.core import clock, expressions
from automation_lab.core.execution import queue
from automation_lab.core.execution.attempts import crash_loop
from automation_lab.core.execution.claims import CANCELLED, Claim
from automation_lab.core.execution.failures import Interrupted, internal_error
from automation_lab.core.execution.interruptions import end_of
from automation_lab.core.execution.models import Execution
from automation_lab.core.execution.runner import Executable
from automation_lab.core.http import HttpClient
from inbox.querysets import BODIES
from tasks.handlers.http_call import secret_names
from tasks.secret_context import allowed_hosts
from workflows import outcomes, waits
from workflows.models import StepAttempt, StepExecution, WorkflowExecution
from workflows.running.engine import Engine, Toolbox
from workflows.running.flow import StepFailed, Waiting
from workflows.running.recording import kept
from workflows.running.store import OPEN, RunStore
from workflows.steps.base import Stop, WaitingType, step_types

Status = WorkflowExecution.Status


class WorkflowExecutable(Executable):
    """Runs workflow executions. `http` is the outbound client, replaced in tests."""

    model = WorkflowExecution

    def __init__(self, http: HttpClient | None = None) -> None:
        self.http = http or HttpClient()

    def rows(self) -> QuerySet[WorkflowExecution]:
        related = WorkflowExecution.objects.select_related("workflow", "version", "webhook")
        return related.defer(*(f"webhook__{name}" for name in BODIES))

    def run(self, execution: Execution, claim: Claim) -> None:
        assert isinstance(execution, WorkflowExecution)  # noqa: S101 - the registry pairs model and executable
        store = RunStore(execution, claim)
        engine = Engine(store, self.tools(), execution.version.retry_policy)
        if waits.is_forsaken(execution):  # its parent has ended, and could not cancel it any more
            claim.cancellation.cancel(CANCELLED)
        try:
            engine.run(execution.version.steps)
        except Waiting as waiting:
            store.commit_and_park(due_at=waiting.until, waiting_for=waiting.waiting_for, now=clock.database_now())
        except Stop as stopped:
            store.output = kept(stopped.output) if stopped.output is not None else store.output
            _finish(store, Status.SUCCESS, "Stopped by a step.")
        except Interrupted as interrupted:
            _settle_interruption(store, interrupted)
        except StepFailed as failed:
            error = failed.record.error or {}
            _finish(
                store,
                Status.FAILED,
                f"Step {error.get('step', failed.record.path)}: {error.get('message', 'failed')}",
            )
        else:
            _finish(store, Status.SUCCESS)

    def tools(self) -> Toolbox:
        return Toolbox(
            now=clock.running_clock(),
            http=self.http,
            allowed_hosts=lambda config: allowed_hosts(secret_names(expressions.references(config))),
            release_connection=release_connection,
        )

    def crashed(self, execution: Execution, claim: Claim, *, now: datetime, error: Exception) -> None:
        message = internal_error(error)
        _close_steps(execution, Status.FAILED, now, message)
        queue.finish(claim, status=Status.FAILED, now=now, error_message=message, waiting_for="")
        assert isinstance(execution, WorkflowExecution)  # noqa: S101 - the registry pairs model and executable
        outcomes.record(execution, status=Status.FAILED, error_message=message, now=now)

    def taken_over(self, execution: Execution, *, worker: int, now: datetime) -> str:
        StepAttempt.objects.filter(step__execution_id=execution.pk, status=StepAttempt.Status.RUNNING).update(
            status=StepAttempt.Status.LOST,
            finished_at=now,
            error={"code": "runtime.worker_lost", "message": f"Worker {worker} was lost."},
        )
        effects = [key for key, step_type in step_types.items() if step_type.has_effect]
        StepExecution.objects.filter(
            execution_id=execution.pk, status=StepExecution.Status.RUNNING, type__in=effects
        ).update(interruptions=F("interruptions") + 1, updated_at=now)
        lost = execution.attempt + 1
        WorkflowExecution.objects.filter(pk=execution.pk).update(attempt=lost)
        return crash_loop(lost, "run")

    def ended(self, execution: Execution, *, now: datetime) -> None:
        assert isinstance(execution, WorkflowExecution)  # noqa: S101 - the registry pairs model and executable
        cut_off = execution.status in (Status.CANCELLED, Status.TIMEOUT)
        _close_steps(execution, execution.status if cut_off else Status.FAILED, now, execution.error_message)
        WorkflowExecution.objects.filter(pk=execution.pk).update(waiting_for="")
        outcomes.record(execution, status=execution.status, error_message=execution.error_message, now=now)


def release_connection() -> None:
    """Give the connection back for the time of an effect: branches would otherwise need one each."""
    if threading.current_thread() is not threading.main_thread() and not connection.in_atomic_block:
        connection.close()


def _finish(store: RunStore, status: str, message: str = "") -> None:
    now = clock.database_now()
    succeeded = status == Status.SUCCESS
    store.log("info" if succeeded else "error", message or "Finished.")

    def follow_up() -> None:
        if store.has_open_steps:  # beside the one that has stopped the run
            _close_steps(store.execution, Status.CANCELLED, now, message)
        error_message = "" if succeeded else message
        queue.finish(store.claim, status=status, now=now, error_message=error_message, waiting_for="")
        outcomes.record(store.execution, status=status, error_message=error_message, now=now)

    store.commit(now=now, also=follow_up)


def _settle_interruption(store: RunStore, interrupted: Interrupted) -> None:
    now = clock.database_now()
    end = end_of(store.claim, interrupted.reason)
    if end is None:
        store.log("info", "The worker stops: another one goes on from here.")
        store.commit_and_park(due_at=now, waiting_for="", now=now)
        return

    def follow_up() -> None:
        _close_steps(store.execution, end.status, now, end.error_message)
        queue.finish(store.claim, status=end.status, now=now, error_message=end.error_message, waiting_for="")
        outcomes.record(store.execution, status=end.status, error_message=end.error_message, now=now)

    store.commit(now=now, also=follow_up)


def _abandon_waits(execution: Execution) -> None:
    waiting = StepExecution.objects.filter(execution_id=execution.pk, status=StepExecution.Status.WAITING)
    for key, state in waiting.values_list("type", "state"):
        step_type = step_types.get(key) if key in step_types else None
        if isinstance(step_type, WaitingType):
            transaction.on_commit(functools.partial(step_type.abandon, state or {}))


def _close_steps(execution: Execution, status: str, now: datetime, message: str) -> None:
    """End the steps that are open, and their attempts, with the same state."""
    error: dict[str, Any] = {"code": str(status), "message": message}
    _abandon_waits(execution)
    StepAttempt.objects.filter(step__execution_id=execution.pk, status=StepAttempt.Status.RUNNING).update(
        status=status, finished_at=now, error=error
    )
    StepExecution.objects.filter(execution_id=execution.pk, status__in=OPEN).update(
        status=status, finished_at=now, error=error, next_attempt_at=None, updated_at=now
    )
