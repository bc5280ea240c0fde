"""Runs for slots of the past: missed and skipped ones come back, slots without a row get one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from automation_lab.core import clock
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.hints import send_job
from automation_lab.core.execution.queue import enqueue_many
from tasks import ticking
from tasks.models import ScheduledTask, TaskExecution

Status = TaskExecution.Status
MOST_SLOTS = 1_000
TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Backfill:
    """`revived` rows were missed or skipped, `created` slots had no row, `kept` ones have run or are going to."""

    slots: int
    revived: int
    created: int
    kept: int


@transaction.atomic
def backfill(*, task: ScheduledTask, from_at: datetime, to_at: datetime, dry_run: bool = False) -> Backfill:
    """Run every slot of `task` from `from_at` to `to_at`, both included. `dry_run` only counts.

    Raises Invalid: no schedule, a period in the future or upside down, or more than 1,000 slots.
    """
    row = ScheduledTask.objects.select_for_update().get(pk=task.pk)
    now = clock.database_now()
    slots = _slots(row, from_at, to_at, now=now)
    recorded = {
        run.scheduled_for: run
        for run in TaskExecution.objects.select_for_update(no_key=True).filter(task=row, scheduled_for__in=slots)
    }
    revived = [run for run in recorded.values() if run.status in (Status.MISSED, Status.SKIPPED)]
    missing = [slot for slot in slots if slot not in recorded]
    if not dry_run:
        _revive(row, revived, now=now)
        runs = [
            ticking.build_run(row, trigger=TaskExecution.Trigger.BACKFILL, scheduled_for=slot, now=now)
            for slot in missing
        ]
        for run in runs:
            run.expires_at = None
        enqueue_many(runs, due_at=now)
    return Backfill(len(slots), len(revived), len(missing), len(recorded) - len(revived))


def _slots(task: ScheduledTask, from_at: datetime, to_at: datetime, *, now: datetime) -> list[datetime]:
    schedule = ticking.schedule_of(task)
    if schedule is None:
        raise Invalid("This task has no schedule, so it has no slots.", field="schedule")
    if from_at > to_at:
        raise Invalid("Must not be earlier than from.", field="to")
    if to_at > now:
        raise Invalid("Must not be in the future: slots to come run by themselves.", field="to")
    slots = schedule.slots_between(from_at - TICK, to_at, limit=MOST_SLOTS + 1)
    if len(slots) > MOST_SLOTS:
        raise Invalid(f"More than {MOST_SLOTS} slots: take a shorter period.", field="from")
    return slots


def _revive(task: ScheduledTask, runs: list[TaskExecution], *, now: datetime) -> None:
    """A row that stood for several slots stands for its own now; the others get rows like any slot without one."""
    for run in runs:
        fresh = ticking.build_run(task, trigger=TaskExecution.Trigger.BACKFILL, now=now)
        run.status, run.trigger, run.count = Status.PENDING, TaskExecution.Trigger.BACKFILL, 1
        run.due_at, run.finished_at, run.expires_at, run.error_message = now, None, None, ""
        run.concurrency_keys, run.concurrency_limits = fresh.concurrency_keys, fresh.concurrency_limits
    TaskExecution.objects.bulk_update(
        runs,
        ["status", "trigger", "count", "due_at", "finished_at", "expires_at", "error_message", "concurrency_keys",
         "concurrency_limits"],
    )  # fmt: skip
    for run in runs:
        send_job(run, due_at=now)
