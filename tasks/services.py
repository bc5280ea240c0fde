"""Every write to tasks and their runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.execution import idempotency, queue, retry
from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.uniqueness import refused_if_taken
from tasks import validation
from tasks.models import ScheduledTask, TaskExecution
from tasks.scheduling import ticking

Trigger = TaskExecution.Trigger
EDITABLE = frozenset({
    "name", "description", "task_type", "schedule", "timezone", "anchor_at", "start_at", "end_at", "jitter_seconds",
    "enabled", "pause_note", "config", "retry_policy", "timeout_seconds", "overlap", "misfire", "grace_seconds",
    "misfire_limit", "max_concurrency", "pause_after_failures", "on_lost_worker", "priority", "notify",
})  # fmt: skip
SCHEDULING = frozenset({"schedule", "timezone", "anchor_at", "start_at", "end_at", "jitter_seconds", "enabled"})
WRITTEN_ALONG = ("next_run_at", "schedule_error")


@transaction.atomic
def create_task(*, fields: dict[str, Any]) -> ScheduledTask:
    """Save a new task. Raises Invalid with every fault."""
    defaults = {"on_lost_worker": _default_on_lost_worker(fields.get("task_type", ""))}
    task = ScheduledTask(**{**defaults, **_editable(fields)})
    _check(task)
    now = clock.database_now()
    with refused_if_taken(_name_taken(task.name)):
        task.save(force_insert=True)
    task.next_run_at = _first_run(task, now=now)
    task.save(update_fields=["next_run_at"])
    return task


@transaction.atomic
def update_task(*, task: ScheduledTask, changes: dict[str, Any]) -> ScheduledTask:
    """Change `task`, as it is in the database now. Raises Invalid with every fault, Conflict if it is archived.

    A slot that is due at this instant by the old schedule still runs; the new one counts from now on. So an edit
    neither swallows nor doubles a slot. Slots that are older than the grace do not run any more, they are missed.
    """
    row = _locked(task)
    now = clock.database_now()
    scheduling = _rescheduled(row, changes)
    if scheduling:
        _fire_due(row, now=now)
    for name, value in _editable(changes).items():
        setattr(row, name, value)
    if not _only_pauses(changes):
        _check(row)
    row.version += 1
    if scheduling:
        row.schedule_error = ""
        row.next_run_at = _first_run(row, now=now)
    along = WRITTEN_ALONG if scheduling else ()
    with refused_if_taken(_name_taken(row.name)):
        row.save(update_fields=[*changes, *along, "retry_policy", "version", "updated_at"])
    return row


@transaction.atomic
def delete_task(*, task: ScheduledTask) -> None:
    """Remove the task with its history. Raises Conflict while a run is going on."""
    row = _locked(task)
    if row.executions.filter(status__in=LIVE_STATUSES).exists():
        raise Conflict("The task has runs that are pending or running: cancel them first, or pause the task.")
    row.delete()


def pause_task(*, task: ScheduledTask, note: str = "") -> ScheduledTask:
    """Stop the schedule; runs by hand stay possible."""
    return update_task(task=task, changes={"enabled": False, "pause_note": note})


def resume_task(*, task: ScheduledTask) -> ScheduledTask:
    """Start the schedule again, from now on: slots of the pause do not fire."""
    return update_task(task=task, changes={"enabled": True, "pause_note": ""})


@transaction.atomic
def start_execution(
    *,
    task: ScheduledTask,
    trigger: str = Trigger.MANUAL,
    input_data: dict[str, Any] | None = None,
    idempotency_key: str = "",
    retry_of: TaskExecution | None = None,
) -> TaskExecution:
    """Record one run of `task` and queue it; neither exists without the other.

    The same `idempotency_key` gives the same execution. Raises Conflict if the task is archived, or if the key came
    with another input, or for another retry, before.
    """
    if task.archived_at:
        raise Conflict("This task is archived.")
    now = clock.database_now()
    execution = ticking.build_run(task, trigger=trigger, now=now)
    execution.input_data = input_data or {}
    execution.idempotency_key = idempotency_key
    execution.retry_of = retry_of
    request = {"retry_of": retry_of.pk} if retry_of else execution.input_data
    return idempotency.once(execution, lambda: queue.enqueue(execution, due_at=now), request=request, task=task)


def cancel_execution(*, execution: TaskExecution) -> TaskExecution:
    """End a pending run at once; ask the worker of a running one to stop. Raises Conflict if it has finished."""
    return queue.cancel(execution, now=clock.database_now())


def retry_execution(*, execution: TaskExecution, idempotency_key: str = "") -> TaskExecution:
    """A new run with the same input, linked to the finished one. Raises Conflict while that one is going on."""
    if not execution.is_finished:
        raise Conflict(f"This execution is {execution.status}: it can be retried when it has finished.")
    return start_execution(
        task=execution.task,
        trigger=Trigger.RETRY,
        input_data=execution.input_data,
        idempotency_key=idempotency_key,
        retry_of=execution,
    )


def _rescheduled(task: ScheduledTask, changes: dict[str, Any]) -> bool:
    """Whether `changes` say anything new about when `task` runs; saving it again also takes up one that was set aside."""
    named = SCHEDULING & changes.keys()
    return any(getattr(task, name) != changes[name] for name in named) or bool(named and task.schedule_error)


def _only_pauses(changes: dict[str, Any]) -> bool:
    """What a task names may be gone, such as a channel: that must not keep anybody from stopping it."""
    return changes.get("enabled") is False and changes.keys() <= {"enabled", "pause_note"}


def _fire_due(task: ScheduledTask, *, now: datetime) -> None:
    while task.enabled and task.next_run_at is not None and task.next_run_at <= now:
        ticking.fire([task], now=now, make_up=False)


def _first_run(task: ScheduledTask, *, now: datetime) -> datetime | None:
    """When the schedule first fires. Raises Invalid for an enabled schedule that is over already."""
    first = ticking.next_run_at(task, now=now)
    if first is None and task.enabled and task.schedule:
        raise Invalid(
            "The schedule has no run in the future: change it or its end, or switch the task off.",
            field="schedule",
            code="never_fires",
        )
    return first


def _check(task: ScheduledTask) -> None:
    validation.check_task(task)
    if task.retry_policy:
        task.retry_policy = retry.normalise(task.retry_policy).as_dict()


def _editable(fields: dict[str, Any]) -> dict[str, Any]:
    unknown = fields.keys() - EDITABLE
    if unknown:
        raise Invalid(f"Not editable: {', '.join(sorted(unknown))}.")
    return fields


def _locked(task: ScheduledTask) -> ScheduledTask:
    row = ScheduledTask.objects.select_for_update().get(pk=task.pk)
    if row.archived_at:
        raise Conflict("This task is archived.")
    return row


def _default_on_lost_worker(task_type: str) -> str:
    """Requests carry a key by which the receiver can tell a repeat; a server job does not."""
    if task_type == ScheduledTask.TaskType.CRON:
        return ScheduledTask.OnLostWorker.FAIL
    return ScheduledTask.OnLostWorker.RERUN


def _name_taken(name: str) -> Invalid:
    return Invalid(f"A task named {name!r} exists already.", field="name", code="unique")
