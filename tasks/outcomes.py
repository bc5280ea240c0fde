"""What follows from the end of a run: the task's counters, its pause after too many failures, and the announcement."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import F, QuerySet

from tasks.models import ScheduledTask, TaskExecution
from tasks.signals import execution_finished, task_paused

Status = TaskExecution.Status
BAD = frozenset({Status.FAILED, Status.TIMEOUT})


def record(
    execution: TaskExecution,
    *,
    status: str,
    now: datetime,
    error_message: str = "",
    output: dict[str, Any] | None = None,
) -> None:
    """Count the end of `execution`, in the transaction that ends it."""
    task = ScheduledTask.objects.filter(pk=execution.task_id)
    recovered = False
    if status == Status.SUCCESS:
        recovered = _count_success(task, last_run_at=now, last_output=output, updated_at=now)
    elif status in BAD:
        task.update(
            failure_count=F("failure_count") + 1,
            consecutive_failures=F("consecutive_failures") + 1,
            last_run_at=now,
            updated_at=now,
        )
        _pause_if_failing(execution.task_id, now=now)
    execution.status, execution.error_message = status, error_message
    execution_finished.send(sender=TaskExecution, execution=execution, now=now, recovered=recovered)


def _count_success(task: QuerySet[ScheduledTask], **changes: Any) -> bool:
    """Whether it is the first success after failures; most runs end well after another that did, in one statement."""
    changes["success_count"] = F("success_count") + 1
    if task.filter(consecutive_failures=0).update(**changes):
        return False
    recovered = bool(task.filter(consecutive_failures__gt=0).update(consecutive_failures=0, **changes))
    if not recovered:  # another run has succeeded between the two
        task.update(**changes)
    return recovered


def _pause_if_failing(task_id: int, *, now: datetime) -> None:
    """After n failures in a row, and after n more when somebody has resumed it. The caller has changed the row."""
    rows = ScheduledTask.objects.filter(pk=task_id, enabled=True, pause_after_failures__gt=0)
    task = rows.first()
    if task is None or task.consecutive_failures % task.pause_after_failures:
        return
    reason = f"Paused after {task.consecutive_failures} failures in a row."
    rows.update(enabled=False, pause_note=reason, next_run_at=None, version=F("version") + 1, updated_at=now)
    task_paused.send(sender=ScheduledTask, task=task, reason=reason, now=now)
