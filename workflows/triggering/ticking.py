"""Turns due schedules of workflows into runs, by the same slots as tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime

from automation_lab.core.execution import ticker
from tasks.scheduling import schedules, slots
from tasks.scheduling.zones import zone_named
from workflows import messages
from workflows.models import Workflow, WorkflowExecution, WorkflowVersion
from workflows.triggering import starting

Status = WorkflowExecution.Status
BATCH = 100
GRACE_SECONDS = 60
MISFIRE_LIMIT = 10


def tick(now: datetime) -> datetime | None:
    """Record what is due at `now`. Returns when to look again: at the next slot of any workflow, None without one."""
    return ticker.fire_due(Workflow.objects.filter(enabled=True), fire, now=now, batch=BATCH)


def fire(workflows: Sequence[Workflow], *, now: datetime) -> None:
    """Write the runs for the due slots of `workflows` and move their schedules on. The caller holds their locks."""
    versions = {
        (version.workflow_id, version.number): version
        for version in WorkflowVersion.objects.select_related("workflow").filter(workflow__in=workflows)
    }
    for workflow in workflows:
        plan = _plan(workflow, now)
        version = versions[workflow.pk, workflow.version]
        for slot in plan.runs:
            _start(version, slot, now=now)
        if plan.missed is not None:
            _record_missed(version, plan.missed, now=now)
        if plan.fault:
            _set_aside(workflow, plan.fault, now=now)
        workflow.next_run_at = plan.next_at
    ticker.move_on(workflows)


def schedule_of(trigger_config: dict[str, Any], *, workflow_id: int | None = None) -> schedules.Schedule | None:
    """The schedule that a trigger of type schedule means. Raises Invalid, on the field of `trigger_config`."""
    return schedules.parse(
        str(trigger_config.get("schedule", "")),
        zone=zone_named(trigger_config.get("timezone", "UTC")),
        anchor_at=_instant(trigger_config.get("anchor_at")),
        start_at=_instant(trigger_config.get("start_at")),
        end_at=schedules.reachable_end(_instant(trigger_config.get("end_at"))),
        jitter_seconds=trigger_config.get("jitter_seconds", 0),
        jitter_key=f"workflow:{workflow_id}",
    )


def next_run_at(workflow: Workflow, *, now: datetime) -> datetime | None:
    """The first slot after `now`, or None: not by schedule, switched off, or over."""
    if workflow.trigger_type != Workflow.TriggerType.SCHEDULE or not workflow.enabled:
        return None
    schedule = schedule_of(workflow.trigger_config, workflow_id=workflow.pk)
    return schedule.next_after(now) if schedule else None


def _plan(workflow: Workflow, now: datetime) -> slots.SlotPlan:
    config = workflow.trigger_config
    return slots.plan_or_fault(
        lambda: schedule_of(config, workflow_id=workflow.pk),
        due_from=workflow.next_run_at,
        now=now,
        grace_seconds=config.get("grace_seconds", GRACE_SECONDS),
        misfire=config.get("misfire", slots.RUN_ONCE),
        misfire_limit=MISFIRE_LIMIT,
    )


def _set_aside(workflow: Workflow, fault: str, *, now: datetime) -> None:
    """What was saved could be evaluated, so the data of time zones has changed since."""
    workflow.schedule_error = fault
    workflow.save(update_fields=["schedule_error"])
    messages.paused(workflow, fault, now=now)


def _start(version: WorkflowVersion, slot: datetime, *, now: datetime) -> None:
    execution = _build(version, slot, now=now)
    if not _is_recorded(execution):
        starting.start(execution)


def _record_missed(version: WorkflowVersion, missed: slots.Missed, *, now: datetime) -> None:
    """Missed slots are one visible row. The document has no status for them, so it is a cancelled one with the reason."""
    execution = _build(version, missed.first_at, now=now)
    if not _is_recorded(execution):
        reason = f"Missed: {missed.count} slots from {missed.first_at:%Y-%m-%d %H:%M:%S} UTC on."
        starting.insert_ended(execution, Status.CANCELLED, reason, now)


def _build(version: WorkflowVersion, slot: datetime, *, now: datetime) -> WorkflowExecution:
    execution = starting.build(version, now=now)
    execution.trigger_source = "schedule"
    execution.trigger_data = {"scheduled_for": slot.isoformat(), **(version.trigger_config.get("data") or {})}
    execution.dedupe_key = f"slot:{slot.isoformat()}"
    return execution


def _is_recorded(execution: WorkflowExecution) -> bool:
    return WorkflowExecution.objects.filter(workflow_id=execution.workflow_id, dedupe_key=execution.dedupe_key).exists()


def _instant(text: Any) -> datetime | None:
    return parse_datetime(text) if isinstance(text, str) else None
