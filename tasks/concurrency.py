"""What a task's runs share a limit with: the other runs of the task, and those that call the same host."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

from automation_lab.core.expressions import has_expression
from tasks.models import ScheduledTask

QUEUEING = frozenset({
    ScheduledTask.Overlap.QUEUE_ONE,
    ScheduledTask.Overlap.QUEUE_ALL,
    ScheduledTask.Overlap.CANCEL_PREVIOUS,
})  # fmt: skip


def limits(task: ScheduledTask, *, alone: bool = False) -> tuple[list[str], list[int]]:
    """Keys and how many may run at a time, for `concurrency_keys` and `concurrency_limits` of its runs.

    `alone`: one at a time even where the overlap rule is only asked by the schedule.
    """
    found = []
    if most := task.max_concurrency or int(alone or task.overlap in QUEUEING):
        found.append((f"task:{task.pk}", most))
    if settings.TASKS_PER_HOST and (host := target_host(task)):
        found.append((f"host:{host}", settings.TASKS_PER_HOST))
    return [key for key, _ in found], [most for _, most in found]


def target_host(task: ScheduledTask) -> str:
    """The host that every run of `task` calls, "" if it calls none or one that only the run knows."""
    url = task.config.get("url")
    if not isinstance(url, str):
        return ""
    try:
        host = (urlsplit(url.strip()).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""
    return "" if has_expression(url.partition("://")[2].partition("/")[0]) or len(host) > 253 else host
