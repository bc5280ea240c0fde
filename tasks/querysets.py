"""Reads of tasks and their runs, shared by API and console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from tasks.models import ScheduledTask, TaskExecution  # noqa: F401 - named in the base classes


class ScheduledTaskQuerySet(models.QuerySet["ScheduledTask"]):
    def unarchived(self) -> ScheduledTaskQuerySet:
        return self.filter(archived_at__isnull=True)


class TaskExecutionQuerySet(models.QuerySet["TaskExecution"]):
    def with_task(self) -> TaskExecutionQuerySet:
        return self.select_related("task")

    def with_history(self) -> TaskExecutionQuerySet:
        return self.with_task().prefetch_related("attempts", "log_lines")
