"""Old runs and messages."""

from __future__ import annotations

from datetime import datetime, timedelta

from automation_lab.core.pruning import delete_in_batches, ended_before
from automation_lab.core.registry import PrunableTable
from tasks.models import Notification, TaskExecution


def prune_executions(*, now: datetime, days: int, dry_run: bool) -> int:
    """Runs that ended more than `days` ago, with attempts and logs."""
    old = ended_before(TaskExecution.objects.all(), now - timedelta(days=days))
    return delete_in_batches(old, dry_run=dry_run)


def prune_notifications(*, now: datetime, days: int, dry_run: bool) -> int:
    before = now - timedelta(days=days)
    return delete_in_batches(Notification.objects.filter(finished_at__lt=before), dry_run=dry_run)


TASK_EXECUTIONS = PrunableTable("RETENTION_EXECUTIONS_DAYS", prune_executions)
NOTIFICATIONS = PrunableTable("RETENTION_EXECUTIONS_DAYS", prune_notifications)
