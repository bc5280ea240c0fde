"""Turns due schedules of tasks into executions: in one transaction, in any worker, each slot exactly once."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import QuerySet

from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.execution import queue
from automation_lab.core.execution.models import LIVE_STATUSES
from tasks import concurrency, schedules, slots
from tasks.models import ScheduledTask, TaskExecution
from tasks.signals import execution_finished, task_paused
from tasks.zones import zone_named

Status = TaskExecution.Status
Overlap = ScheduledTask.Overlap
BATCH = 200
MOVE_ON = """
    UPDATE scheduled_tasks t SET next_run_at = v.next_run_at
    FROM unnest(%s::bigint[], %s::timestamptz[]) AS v(id, next_run_at) WHERE t.id = v.id
"""
HELD_PAUSE = timedelta(milliseconds=50)


def tick(now: datetime) -> datetime | None:
    """Record what is due at `now`. Returns when to look again: at the next slot of any task, None without one."""
    while _fire_batch(now):
        continue
    next_at = _scheduled().order_by("next_run_at").values_list("next_run_at", flat=True).first()
    if next_at is not None and next_at <= now:
        return now + HELD_PAUSE  # somebody else holds its task at this moment: do not spin meanwhile
    return next_at


def _fire_batch(now: datetime) -> bool:
    """Whether there may be more that is due."""
    with transaction.atomic():
        due = list(_due(now).select_for_update(skip_locked=True).order_by("next_run_at", "id")[:BATCH])
        fire(due, now=now)
    return len(due) == BATCH or any(task.next_run_at and task.next_run_at <= now for task in due)


def fire(tasks: Sequence[ScheduledTask], *, now: datetime, make_up: bool = True) -> None:
    """Write the rows for the due slots of `tasks` and move their schedules on. The caller holds their locks.

    Without `make_up`, slots older than the grace are missed whatever the misfire rule says.
    """
    if not tasks:
        return
    plans = {task.pk: plan for task in tasks if (plan := _plan(task, now, make_up)) is not None}
    planned = [task for task in tasks if task.pk in plans]
    rows = _without_recorded_slots([row for task in planned for row in _rows(task, plans[task.pk], now=now)], planned)
    _apply_overlap(rows, planned, now=now)
    runs = [row for row in rows if row.status == Status.PENDING]
    rest = [row for row in rows if row.status != Status.PENDING]
    queue.enqueue_many(runs, due_at=now)
    TaskExecution.objects.bulk_create(rest)
    for task in planned:
        task.next_run_at = plans[task.pk].next_at
    _move_on(planned)
    for row in rest:
        execution_finished.send(sender=TaskExecution, execution=row, now=now)
    for task in tasks:
        if task.pk not in plans:
            task.save(update_fields=["next_run_at", "schedule_error"])
            task_paused.send(sender=ScheduledTask, task=task, reason=task.schedule_error, now=now)


def _move_on(tasks: Sequence[ScheduledTask]) -> None:
    """Not `bulk_update`: its expressions take as long as all the rest of a tick."""
    with connection.cursor() as cursor:
        cursor.execute(MOVE_ON, [[task.pk for task in tasks], [task.next_run_at for task in tasks]])


def schedule_of(task: ScheduledTask) -> schedules.Schedule | None:
    """The parsed schedule of `task`. Raises Invalid if it cannot be evaluated."""
    return schedules.parse(
        task.schedule,
        zone=zone_named(task.timezone),
        anchor_at=task.anchor_at or task.created_at,
        start_at=task.start_at,
        end_at=task.end_at,
        jitter_seconds=task.jitter_seconds,
        jitter_key=f"task:{task.pk}",
    )


def next_run_at(task: ScheduledTask, *, now: datetime) -> datetime | None:
    """The first slot after `now`, or None: switched off, by hand only, or over."""
    schedule = schedule_of(task) if task.enabled and not task.archived_at else None
    return schedule.next_after(now) if schedule else None


def _scheduled() -> QuerySet[ScheduledTask]:
    return ScheduledTask.objects.filter(enabled=True, archived_at__isnull=True, next_run_at__isnull=False)


def _due(now: datetime) -> QuerySet[ScheduledTask]:
    return _scheduled().filter(next_run_at__lte=now)


def _plan(task: ScheduledTask, now: datetime, make_up: bool) -> slots.SlotPlan | None:
    """None when the schedule cannot be evaluated: it is set aside with its error and does not stop the others."""
    due_from = task.next_run_at
    try:
        schedule = schedule_of(task)
        if schedule is None or due_from is None:
            return slots.SlotPlan()
        return slots.plan(
            schedule,
            due_from=due_from,
            now=now,
            grace_seconds=task.grace_seconds,
            misfire=task.misfire if make_up else slots.SKIP,
            misfire_limit=task.misfire_limit,
        )
    except (Invalid, ValueError, OverflowError, LookupError) as error:
        task.schedule_error = f"The schedule cannot be evaluated: {error}"[:1000]
        task.next_run_at = None
        return None


def _rows(task: ScheduledTask, plan: slots.SlotPlan, *, now: datetime) -> list[TaskExecution]:
    rows = [build_run(task, trigger=TaskExecution.Trigger.SCHEDULE, scheduled_for=slot, now=now) for slot in plan.runs]
    if plan.missed is not None:
        missed = build_run(task, trigger=TaskExecution.Trigger.SCHEDULE, scheduled_for=plan.missed.first_at, now=now)
        missed.status, missed.finished_at, missed.count = Status.MISSED, now, plan.missed.count
        missed.error_message = f"Missed: more than {task.grace_seconds} s late."
        rows.append(missed)
    return rows


def build_run(
    task: ScheduledTask, *, trigger: str, scheduled_for: datetime | None = None, now: datetime, alone: bool = False
) -> TaskExecution:
    """A pending run of `task`, not written yet. `alone`: not beside other such runs of it."""
    keys, limits = concurrency.limits(task, alone=alone)
    expires_at = None
    if scheduled_for is not None and task.misfire == ScheduledTask.Misfire.SKIP:
        expires_at = max(scheduled_for, now) + timedelta(seconds=max(1, task.grace_seconds))
    return TaskExecution(
        task=task,
        trigger=trigger,
        scheduled_for=scheduled_for,
        priority=task.priority,
        concurrency_keys=keys,
        concurrency_limits=limits,
        expires_at=expires_at,
    )


def _without_recorded_slots(rows: list[TaskExecution], tasks: Sequence[ScheduledTask]) -> list[TaskExecution]:
    """Leave out slots that have a row: the clock went back, or a backfill was quicker. The unique key decides anyway."""
    if not rows:
        return []
    recorded = set(
        TaskExecution.objects.filter(task__in=tasks, scheduled_for__in={row.scheduled_for for row in rows}).values_list(
            "task_id", "scheduled_for"
        )
    )
    return [row for row in rows if (row.task_id, row.scheduled_for) not in recorded]


def _apply_overlap(rows: list[TaskExecution], tasks: Sequence[ScheduledTask], *, now: datetime) -> None:
    """Skip what its task's rule does not let run beside the runs that are going on, in the order of the slots."""
    live = _live_runs([task for task in tasks if task.overlap != Overlap.ALLOW])
    for row in sorted(rows, key=lambda row: row.scheduled_for or now):
        if row.status != Status.PENDING:
            continue
        others = live[row.task_id]
        reason = _skip_reason(row.task.overlap, others)
        if reason:
            row.status, row.finished_at, row.error_message = Status.SKIPPED, now, reason
            continue
        if row.task.overlap == Overlap.CANCEL_PREVIOUS:
            _cancel(others, now=now)
            others.clear()
        others.append(row)


def _skip_reason(overlap: str, others: list[TaskExecution]) -> str:
    if overlap == Overlap.SKIP and others:
        return f"Skipped: {_named(others[0])} is still going on."
    if overlap == Overlap.QUEUE_ONE and len(others) > 1:
        return f"Skipped: {_named(others[-1])} is waiting already."
    return ""


def _named(row: TaskExecution) -> str:
    return f"run {row.pk}" if row.pk else "the run of an earlier slot"


def _live_runs(tasks: Sequence[ScheduledTask]) -> defaultdict[int, list[TaskExecution]]:
    live: defaultdict[int, list[TaskExecution]] = defaultdict(list)
    if tasks:
        rows = TaskExecution.objects.filter(task__in=tasks, status__in=LIVE_STATUSES).order_by("id")
        for row in rows.only("id", "task_id", "status"):
            live[row.task_id].append(row)
    return live


def _cancel(others: list[TaskExecution], *, now: datetime) -> None:
    for row in others:
        if row._state.adding:
            row.status, row.finished_at = Status.SKIPPED, now
            row.error_message = "Skipped: a later slot was due at the same time."
        else:
            with contextlib.suppress(Conflict):  # it has ended in the meantime
                queue.cancel(row, now=now, reason="Cancelled: the next run of its task was due.")
