"""How a run begins, whatever starts it: input mapping, the workflow's concurrency rule, and the rows."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction

from automation_lab.core import clock, expressions
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution import queue
from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.execution.results import MAX_OUTPUT_BYTES, storable
from automation_lab.core.expressions import ExpressionError
from automation_lab.core.previews import is_cut
from automation_lab.core.safe_json import dump
from workflows import messages, outcomes
from workflows.models import Workflow, WorkflowExecution, WorkflowVersion
from workflows.running import context

Concurrency = Workflow.Concurrency
Status = WorkflowExecution.Status
MAX_HOPS = 10
LOOP = f"Stopped: {MAX_HOPS} hops from workflow to workflow, so this is a loop."
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7402))"


def build(version: WorkflowVersion, *, now: datetime | None = None) -> WorkflowExecution:
    """A pending run of `version`, not written yet."""
    now = now or clock.database_now()
    workflow = version.workflow
    limited = workflow.concurrency in (Concurrency.QUEUE, Concurrency.CANCEL_PREVIOUS)
    return WorkflowExecution(
        workflow=workflow,
        version=version,
        variables=version.variables,
        total_steps=len(version.steps),
        deadline_at=now + timedelta(seconds=version.timeout_seconds),
        concurrency_keys=[f"workflow:{workflow.pk}"] if limited else [],
        concurrency_limits=[1] if limited else [],
    )


def start(execution: WorkflowExecution, *, reason_to_fail: str = "") -> WorkflowExecution:
    """Write the run and its job, in the caller's transaction; the rules may end it at once, with the reason.

    `reason_to_fail` is why its trigger could not be judged: a failed row makes that visible.
    """
    now = clock.database_now()
    try:
        if not reason_to_fail:
            _take_trigger(execution)
    except Invalid as error:
        reason_to_fail = error.message
    if not reason_to_fail and execution.depth >= MAX_HOPS:
        reason_to_fail = LOOP
    if reason_to_fail:
        return insert_ended(execution, Status.FAILED, reason_to_fail, now)
    skipped = _repetition_of(execution) or _apply_concurrency(execution, now=now)
    if skipped:
        return _insert_skipped(execution, skipped, now)
    try:
        with transaction.atomic():
            return queue.enqueue(execution, due_at=now)
    except IntegrityError:
        skipped = _repetition_of(execution)  # another trigger with this key was quicker
        if not skipped:
            raise
        return _insert_skipped(execution, skipped, now)


def mapped_variables(execution: WorkflowExecution) -> dict[str, Any]:
    """The variables that a run begins with: its version's, and those that `trigger_config.input` fills with expressions.

    Raises Invalid when what triggers the run does not give them.
    """
    variables = execution.version.variables
    if not execution.version.trigger_config.get("input"):
        return variables
    values = storable(_evaluated(execution, "input", "input mapping"))
    if is_cut(values):
        limit = f"{MAX_OUTPUT_BYTES // 1024} kB"
        raise Invalid(
            f"The input mapping failed: it gives more than {limit}. Let steps read large data from `trigger`."
        )
    return {**variables, **values}


def _take_trigger(execution: WorkflowExecution) -> None:
    """Fill the variables, and the dedupe key: triggers for which `trigger_config.dedupe` is the same start one run.

    Raises Invalid when what triggers the run does not give them.
    """
    execution.variables = mapped_variables(execution)
    if execution.version.trigger_config.get("dedupe"):
        value = _evaluated(execution, "dedupe", "dedupe key")
        execution.dedupe_key = "key:" + hashlib.sha256(dump(value, sort_keys=True).encode()).hexdigest()


def _evaluated(execution: WorkflowExecution, setting: str, what: str) -> Any:
    """What a setting of the trigger gives for `execution`."""
    try:
        return expressions.render(
            execution.version.trigger_config[setting], {"trigger": context.trigger_names(execution)}
        )
    except ExpressionError as error:
        raise Invalid(f"The {what} failed: {error.message}") from error


def _repetition_of(execution: WorkflowExecution) -> str:
    """Why `execution` repeats an earlier run, or ""."""
    if not execution.dedupe_key.startswith("key:"):
        return ""
    runs = WorkflowExecution.objects.filter(workflow_id=execution.workflow_id, dedupe_key=execution.dedupe_key)
    first = runs.values_list("pk", flat=True).first()
    return f"Skipped: run {first} has the same dedupe key." if first else ""


def _insert_skipped(execution: WorkflowExecution, reason: str, now: datetime) -> WorkflowExecution:
    if execution.dedupe_key.startswith("key:"):
        execution.dedupe_key = ""  # it belongs to the run that goes on
    return insert_ended(execution, Status.CANCELLED, reason, now)


def _apply_concurrency(execution: WorkflowExecution, *, now: datetime) -> str:
    """Make room by the workflow's rule. Returns why this run is skipped, or ""."""
    rule = execution.workflow.concurrency
    if rule not in (Concurrency.SKIP, Concurrency.CANCEL_PREVIOUS):
        return ""
    with connection.cursor() as cursor:
        # Of two that start at the same time, the second sees the first.
        cursor.execute(LOCK, [f"workflow:{execution.workflow_id}"])
    live = WorkflowExecution.objects.filter(workflow_id=execution.workflow_id, status__in=LIVE_STATUSES).order_by("id")
    if rule == Concurrency.SKIP:
        first = live.first()
        return f"Skipped: run {first.pk} is still going on." if first else ""
    for previous in live:
        queue.cancel(previous, now=now, reason="Cancelled: the workflow was started again.")
    return ""


def insert_ended(execution: WorkflowExecution, status: str, reason: str, now: datetime) -> WorkflowExecution:
    """Write a run that does not begin, with the reason and with all that follows from the end of a run."""
    execution.status, execution.error_message, execution.finished_at = status, reason, now
    execution.save(force_insert=True)
    if status == Status.CANCELLED:
        messages.announce(execution, "skipped", reason, now=now)
    outcomes.record(execution, status=status, error_message=reason, now=now)
    return execution
