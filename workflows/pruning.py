"""Old runs of workflows."""

from __future__ import annotations

from datetime import datetime, timedelta

from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.pruning import delete_in_batches
from automation_lab.core.registry import PrunableTable
from workflows.models import WorkflowExecution


def prune_executions(*, now: datetime, days: int, dry_run: bool) -> int:
    """Runs that ended more than `days` ago, with steps, attempts and logs; those that a run waits for stay with it."""
    before = now - timedelta(days=days)
    old = WorkflowExecution.objects.filter(created_at__lt=before, finished_at__lt=before)
    old = old.exclude(status__in=LIVE_STATUSES).exclude(parent__status__in=LIVE_STATUSES)
    return delete_in_batches(old, dry_run=dry_run)


WORKFLOW_EXECUTIONS = PrunableTable("RETENTION_EXECUTIONS_DAYS", prune_executions)
