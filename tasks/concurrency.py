"""What a task's runs share a limit with."""

from __future__ import annotations

from tasks.models import ScheduledTask

QUEUEING = frozenset({
    ScheduledTask.Overlap.QUEUE_ONE,
    ScheduledTask.Overlap.QUEUE_ALL,
    ScheduledTask.Overlap.CANCEL_PREVIOUS,
})  # fmt: skip


def limits(task: ScheduledTask) -> tuple[list[str], list[int]]:
    """Keys and how many may run at a time, for `concurrency_keys` and `concurrency_limits` of its runs."""
    most = task.max_concurrency or (1 if task.overlap in QUEUEING else 0)
    return ([f"task:{task.pk}"], [most]) if most else ([], [])
