"""What follows from the end of a run: the workflow's counters and the status of the webhook that started it."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count, F, Q

from automation_lab.core.execution.models import LIVE_STATUSES
from inbox import services as inbox
from workflows import messages
from workflows.models import Workflow, WorkflowExecution
from workflows.signals import execution_finished

Status = WorkflowExecution.Status


def record(execution: WorkflowExecution, *, status: str, now: datetime, error_message: str = "") -> None:
    """Count the end of `execution` and tell of it, in the transaction that ends it."""
    counter = "success_count" if status == Status.SUCCESS else "failure_count"
    if status != Status.CANCELLED:
        Workflow.objects.filter(pk=execution.workflow_id).update(**{counter: F(counter) + 1, "updated_at": now})
    if execution.webhook_id is not None:
        settle_webhook(execution.webhook_id)
    messages.run_ended(execution, status=status, error_message=error_message, now=now)
    execution_finished.send(sender=WorkflowExecution, execution=execution, status=status, now=now)


def settle_webhook(webhook_id: int) -> None:
    """Give the webhook the status that its runs add up to: the newest of each workflow, as it replaces those before it.

    The webhook is locked first: of two runs that end at the same time, the second counts the first.
    """
    if not inbox.lock_webhook(webhook_id=webhook_id):
        return
    of_webhook = WorkflowExecution.objects.filter(webhook_id=webhook_id)
    newest = of_webhook.order_by("workflow_id", "-id").distinct("workflow_id").values("pk")
    runs = of_webhook.filter(pk__in=newest)
    counts = runs.aggregate(
        total=Count("pk"),
        running=Count("pk", filter=Q(status__in=LIVE_STATUSES)),
        bad=Count("pk", filter=~Q(status__in=[*LIVE_STATUSES, Status.SUCCESS])),
    )
    error = ""
    if counts["bad"]:
        bad = runs.exclude(status__in=[*LIVE_STATUSES, Status.SUCCESS]).order_by("-id").first()
        error = f"Workflow run {bad.pk} {bad.status}: {bad.error_message}" if bad else ""
    inbox.settle_webhook(webhook_id=webhook_id, error_message=error, **counts)
