"""Runs for slots of the past: missed and skipped ones come back, slots without a row get one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.execution.queue import enqueue_many, send_jobs
from tasks.models import ScheduledTask, TaskExecution
from tasks.scheduling import ticking
from tasks.scheduling.schedules import EARLIEST, LATEST, TICK

Status = TaskExecution.Status
MOST_SLOTS = 1_000


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

    The runs go one after the other, unless the task lets runs overlap. Raises Invalid: no schedule, a period in the
    future or upside down, or more than 1,000 slots.
    """
    row = ScheduledTask.objects.select_for_update().get(pk=task.pk)
    if row.archived_at:
        raise Conflict("This task is archived.")
    now = clock.database_now()
    slots = _slots(row, from_at, to_at, now=now)
    rows = TaskExecution.objects.filter(task=row, scheduled_for__in=slots)
    # The others stay free: a worker that ends one holds its row and then wants the task's.
    revived = list(rows.filter(status__in=(Status.MISSED, Status.SKIPPED)).select_for_update(no_key=True))
    recorded = set(rows.values_list("scheduled_for", flat=True))
    missing = [slot for slot in slots if slot not in recorded]
    if not dry_run and slots:
        _split_missed(row, slots, now=now)
        _revive(revived, [_run(row, run.scheduled_for, now=now) for run in revived], now=now)
        enqueue_many([_run(row, slot, now=now) for slot in missing], due_at=now)
    return Backfill(len(slots), len(revived), len(missing), len(recorded) - len(revived))


def _run(task: ScheduledTask, slot: datetime | None, *, now: datetime) -> TaskExecution:
    alone = task.overlap != ScheduledTask.Overlap.ALLOW
    run = ticking.build_run(task, trigger=TaskExecution.Trigger.BACKFILL, scheduled_for=slot, now=now, alone=alone)
    run.expires_at = None
    return run


def _slots(task: ScheduledTask, from_at: datetime, to_at: datetime, *, now: datetime) -> list[datetime]:
    schedule = ticking.schedule_of(task)
    if schedule is None:
        raise Invalid("This task has no schedule, so it has no slots.", field="schedule")
    if from_at > to_at:
        raise Invalid("Must not be earlier than from.", field="to")
    if to_at > now:
        raise Invalid("Must not be in the future: slots to come run by themselves.", field="to")
    slots = schedule.slots_between(max(from_at, EARLIEST) - TICK, to_at, limit=MOST_SLOTS + 1)
    if len(slots) > MOST_SLOTS:
        raise Invalid(f"More than {MOST_SLOTS} slots: take a shorter period.", field="from")
    return slots


def _split_missed(task: ScheduledTask, slots: list[datetime], *, now: datetime) -> None:
    """Take `slots` out of the rows that stand for several missed ones; what is left of a row stays missed."""
    missed = TaskExecution.objects.filter(task=task, status=Status.MISSED, count__gt=1, scheduled_for__lte=slots[-1])
    before = missed.filter(scheduled_for__lt=slots[0]).order_by("-scheduled_for").first()
    for row in [*([before] if before else []), *missed.filter(scheduled_for__gte=slots[0])]:
        members = _members(task, row)
        earlier = [slot for slot in members if slot < slots[0]]
        later = [slot for slot in members if slot > slots[-1]]
        if earlier and len(earlier) < len(members):
            TaskExecution.objects.filter(pk=row.pk).update(count=len(earlier), updated_at=now)
        if later and len(later) < len(members):
            _record_missed(task, later, like=row)


def _members(task: ScheduledTask, row: TaskExecution) -> list[datetime]:
    """The slots that `row` stands for, by the schedule as it is now: none if that has no such slot any more."""
    schedule = ticking.schedule_of(task)
    assert schedule is not None and row.scheduled_for is not None  # noqa: S101 - it has slots, and the row is one's
    return schedule.slots_between(row.scheduled_for - TICK, LATEST, limit=row.count)


def _record_missed(task: ScheduledTask, slots: list[datetime], *, like: TaskExecution) -> None:
    if not TaskExecution.objects.filter(task=task, scheduled_for=slots[0]).exists():
        TaskExecution.objects.create(
            task=task,
            trigger=like.trigger,
            scheduled_for=slots[0],
            status=Status.MISSED,
            count=len(slots),
            finished_at=like.finished_at,
            error_message=like.error_message,
        )


def _revive(runs: list[TaskExecution], fresh: list[TaskExecution], *, now: datetime) -> None:
    """A row that stood for several slots stands for its own now; the others get rows like any slot without one."""
    for run, new in zip(runs, fresh, strict=True):
        run.status, run.trigger, run.count, run.priority = new.status, new.trigger, 1, new.priority
        run.due_at, run.finished_at, run.expires_at, run.error_message, run.updated_at = now, None, None, "", now
        run.concurrency_keys, run.concurrency_limits = new.concurrency_keys, new.concurrency_limits
    TaskExecution.objects.bulk_update(
        runs,
        ["status", "trigger", "count", "priority", "due_at", "finished_at", "expires_at", "error_message", "updated_at",
         "concurrency_keys", "concurrency_limits"],
    )  # fmt: skip
    send_jobs(runs)
