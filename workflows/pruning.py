"""Old runs of workflows."""

from __future__ import annotations

from datetime import datetime, timedelta

from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.pruning import delete_in_batches, ended_before
from automation_lab.core.registry import PrunableTable
from workflows.models import WorkflowExecution


def prune_executions(*, now: datetime, days: int, dry_run: bool) -> int:
    """Runs that ended more than `days` ago, with steps, attempts and logs; those that a run waits for stay with it."""
    old = ended_before(WorkflowExecution.objects.exclude(parent__status__in=LIVE_STATUSES), now - timedelta(days=days))
    return delete_in_batches(old, dry_run=dry_run)


WORKFLOW_EXECUTIONS = PrunableTable("RETENTION_EXECUTIONS_DAYS", prune_executions)
