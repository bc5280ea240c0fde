"""Events of our own: `emit_event` steps and the API say that something has happened, and workflows start."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from automation_lab.core import expressions
from automation_lab.core.exceptions import Conflict
from automation_lab.core.expressions import ExpressionError
from automation_lab.core.safe_json import dump
from workflows.models import Workflow, WorkflowExecution, WorkflowVersion
from workflows.running import context
from workflows.triggering import starting

DEDUPE = "event:"


@dataclass(frozen=True)
class Emitted:
    """One event, and the runs that it has started or had started before."""

    event_id: str
    executions: list[WorkflowExecution]


@transaction.atomic
def emit(*, event: str, payload: Any, event_id: str = "", depth: int = 0, started_by: str = "") -> Emitted:
    """Record the runs of every enabled workflow whose trigger names `event`.

    An event of the same `event_id` starts no workflow twice. Raises Conflict if the id came with other contents before.
    """
    event_id = event_id or f"evt_{secrets.token_hex(16)}"
    request_hash = hashlib.sha256(dump([event, payload], sort_keys=True).encode()).hexdigest()
    started = []
    for version in _listening(event):
        run = starting.build(version)
        run.trigger_source, run.trigger_data, run.event_type = "event", payload, event
        run.dedupe_key, run.request_hash = f"{DEDUPE}{event_id}", request_hash
        run.depth, run.started_by = depth, started_by
        try:
            wanted, reason = _is_wanted(version, run), ""
        except ExpressionError as error:
            wanted, reason = True, f"The filter failed: {error.message}"
        if wanted:
            started.append(_start_once(run, reason))
    return Emitted(event_id, started)


def event_id_for(key: str) -> str:
    """The event id that an `Idempotency-Key` stands for."""
    return f"evt_{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _listening(event: str) -> list[WorkflowVersion]:
    versions = WorkflowVersion.objects.select_related("workflow").filter(
        workflow__enabled=True, workflow__trigger_type=Workflow.TriggerType.EVENT, number=F("workflow__version")
    )
    return [version for version in versions.order_by("workflow_id") if _names(version.trigger_config, event)]


def _names(config: dict[str, Any], event: str) -> bool:
    wanted = config.get("event")
    return wanted == event or (isinstance(wanted, list) and event in wanted)


def _is_wanted(version: WorkflowVersion, run: WorkflowExecution) -> bool:
    if "filter" not in version.trigger_config:
        return True
    return expressions.evaluate_condition(version.trigger_config["filter"], {"trigger": context.trigger_names(run)})


def _start_once(run: WorkflowExecution, reason_to_fail: str) -> WorkflowExecution:
    try:
        with transaction.atomic():
            return starting.start(run, reason_to_fail=reason_to_fail)
    except IntegrityError:
        first = WorkflowExecution.objects.filter(workflow_id=run.workflow_id, dedupe_key=run.dedupe_key).first()
        if first is None:
            raise
        if first.request_hash != run.request_hash:
            raise Conflict("This event id came with other contents before: take a new key for a new event.") from None
        return first
