"""Turns due schedules of tasks into executions: in one transaction, in any worker, each slot exactly once."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from automation_lab.core.exceptions import Conflict
from automation_lab.core.execution import queue, ticker
from automation_lab.core.execution.models import LIVE_STATUSES
from tasks import concurrency
from tasks.models import ScheduledTask, TaskExecution
from tasks.scheduling import schedules, slots
from tasks.scheduling.zones import zone_named
from tasks.signals import execution_finished, task_paused

Status = TaskExecution.Status
Overlap = ScheduledTask.Overlap
BATCH = 200


def tick(now: datetime) -> datetime | None:
    """Record what is due at `now`. Returns when to look again: at the next slot of any task, None without one."""
    scheduled = ScheduledTask.objects.filter(enabled=True, archived_at__isnull=True).defer("last_output")
    return ticker.fire_due(scheduled, fire, now=now, batch=BATCH)


def fire(tasks: Sequence[ScheduledTask], *, now: datetime, make_up: bool = True) -> None:
    """Write the rows for the due slots of `tasks` and move their schedules on. The caller holds their locks.

    Without `make_up`, slots older than the grace are missed whatever the misfire rule says.
    """
    if not tasks:
        return
    plans = {task.pk: _plan(task, now, make_up) for task in tasks}
    planned = [task for task in tasks if not plans[task.pk].fault]
    rows = _without_recorded_slots([row for task in planned for row in _rows(task, plans[task.pk], now=now)], planned)
    _apply_overlap(rows, planned, now=now)
    runs = [row for row in rows if row.status == Status.PENDING]
    rest = [row for row in rows if row.status != Status.PENDING]
    queue.enqueue_many(runs, due_at=now)
    TaskExecution.objects.bulk_create(rest)
    for task in tasks:
        task.next_run_at = plans[task.pk].next_at
    ticker.move_on(tasks)
    for row in rest:
        execution_finished.send(sender=TaskExecution, execution=row, now=now)
    for task in tasks:
        if fault := plans[task.pk].fault:
            _set_aside(task, fault, now=now)


def _set_aside(task: ScheduledTask, fault: str, *, now: datetime) -> None:
    task.schedule_error = fault
    task.save(update_fields=["schedule_error"])
    task_paused.send(sender=ScheduledTask, task=task, reason=fault, now=now)


def schedule_of(task: ScheduledTask) -> schedules.Schedule | None:
    """The parsed schedule of `task`. Raises Invalid if it cannot be evaluated."""
    return schedules.parse(
        task.schedule,
        zone=zone_named(task.timezone),
        anchor_at=task.anchor_at or task.created_at,
        start_at=task.start_at,
        end_at=schedules.reachable_end(task.end_at),
        jitter_seconds=task.jitter_seconds,
        jitter_key=f"task:{task.pk}",
    )


def next_run_at(task: ScheduledTask, *, now: datetime) -> datetime | None:
    """The first slot after `now`, or None: switched off, by hand only, or over."""
    schedule = schedule_of(task) if task.enabled and not task.archived_at else None
    return schedule.next_after(now) if schedule else None


def _plan(task: ScheduledTask, now: datetime, make_up: bool) -> slots.SlotPlan:
    return slots.plan_or_fault(
        lambda: schedule_of(task),
        due_from=task.next_run_at,
        now=now,
        grace_seconds=task.grace_seconds,
        misfire=task.misfire if make_up else slots.SKIP,
        misfire_limit=task.misfire_limit,
    )


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
