"""Turns due schedules of workflows into runs, by the same slots as tasks."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime

from automation_lab.core.exceptions import Invalid
from tasks import schedules, slots
from workflows import messages, starting
from workflows.models import Workflow, WorkflowExecution, WorkflowVersion

Status = WorkflowExecution.Status
BATCH = 100
GRACE_SECONDS = 60
MISFIRE_LIMIT = 10


def tick(now: datetime) -> datetime | None:
    """Record what is due at `now`. Returns the instant of the next slot of any workflow."""
    while True:
        with transaction.atomic():
            due = list(_scheduled().filter(next_run_at__lte=now).select_for_update(skip_locked=True)[:BATCH])
            fire(due, now=now)
        if len(due) < BATCH:
            return _scheduled().values_list("next_run_at", flat=True).first()


def fire(workflows: list[Workflow], *, now: datetime) -> None:
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
        workflow.next_run_at = plan.next_at
    Workflow.objects.bulk_update(workflows, ["next_run_at"])


def schedule_of(trigger_config: dict[str, Any], *, workflow_id: int | None = None) -> schedules.Schedule | None:
    """The schedule that a trigger of type schedule means. Raises Invalid, on `schedule`."""
    return schedules.parse(
        str(trigger_config.get("schedule", "")),
        zone=ZoneInfo(trigger_config.get("timezone", "UTC")),
        anchor_at=_instant(trigger_config.get("anchor_at")),
        start_at=_instant(trigger_config.get("start_at")),
        end_at=_instant(trigger_config.get("end_at")),
        jitter_seconds=trigger_config.get("jitter_seconds", 0),
        jitter_key=f"workflow:{workflow_id}",
    )


def next_run_at(workflow: Workflow, *, now: datetime) -> datetime | None:
    """The first slot after `now`, or None: not by schedule, switched off, or over."""
    if workflow.trigger_type != Workflow.TriggerType.SCHEDULE or not workflow.enabled:
        return None
    schedule = schedule_of(workflow.trigger_config, workflow_id=workflow.pk)
    return schedule.next_after(now) if schedule else None


def _scheduled() -> QuerySet[Workflow]:
    return Workflow.objects.filter(enabled=True, next_run_at__isnull=False).order_by("next_run_at", "id")


def _plan(workflow: Workflow, now: datetime) -> slots.SlotPlan:
    config, due_from = workflow.trigger_config, workflow.next_run_at
    try:
        schedule = schedule_of(config, workflow_id=workflow.pk)
    except (Invalid, ValueError, LookupError):
        return slots.SlotPlan()  # checked on save, so only a change of the time zone data comes here
    if schedule is None or due_from is None:
        return slots.SlotPlan()
    return slots.plan(
        schedule,
        due_from=due_from,
        now=now,
        grace_seconds=config.get("grace_seconds", GRACE_SECONDS),
        misfire=config.get("misfire", slots.RUN_ONCE),
        misfire_limit=MISFIRE_LIMIT,
    )


def _start(version: WorkflowVersion, slot: datetime, *, now: datetime) -> None:
    execution = _build(version, slot, now=now)
    if not _is_recorded(execution):
        starting.start(execution)


def _record_missed(version: WorkflowVersion, missed: slots.Missed, *, now: datetime) -> None:
    """Missed slots are one visible row. The document has no status for them, so it is a cancelled one with the reason."""
    execution = _build(version, missed.first_at, now=now)
    if _is_recorded(execution):
        return
    execution.status, execution.finished_at = Status.CANCELLED, now
    execution.error_message = f"Missed: {missed.count} slots from {missed.first_at:%Y-%m-%d %H:%M:%S} UTC on."
    execution.save(force_insert=True)
    messages.announce(execution, "skipped", execution.error_message, now=now)


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
