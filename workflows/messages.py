"""Messages to channels as the `notify` of a workflow asks: failures, recoveries, skipped and missed runs, broken schedules."""

from __future__ import annotations

from datetime import datetime

from tasks.notifying import notifications
from workflows.models import Workflow, WorkflowExecution

Status = WorkflowExecution.Status
BAD = (Status.FAILED, Status.TIMEOUT)
TITLES = {"failure": "failed", "recovery": "works again", "skipped": "skipped a run", "paused": "is paused"}


def run_ended(execution: WorkflowExecution, *, status: str, error_message: str, now: datetime) -> None:
    """In the transaction that ends the run."""
    if status in BAD:
        announce(execution, "failure", error_message, now=now)
    elif status == Status.SUCCESS and execution.workflow.notify.get("recovery") and _had_failed(execution):
        announce(execution, "recovery", "", now=now)


def announce(execution: WorkflowExecution, event: str, text: str, *, now: datetime) -> None:
    """`event` is failure, recovery or skipped."""
    url = notifications.console_url("workflows", "workflowexecution", execution.pk)
    _announce(execution.workflow, event, text, url=url, now=now)


def paused(workflow: Workflow, reason: str, *, now: datetime) -> None:
    """In the transaction that sets its schedule aside."""
    _announce(workflow, "paused", reason, url=notifications.console_url("workflows", "workflow", workflow.pk), now=now)


def _announce(workflow: Workflow, event: str, text: str, *, url: str, now: datetime) -> None:
    names = workflow.notify.get(event, [])
    if names:
        notifications.announce(
            names=names,
            event=event,
            subject=f"workflow:{workflow.pk}",
            title=f"Workflow {workflow.name} {TITLES[event]}",
            text=text,
            url=url,
            now=now,
        )


def _had_failed(execution: WorkflowExecution) -> bool:
    """Whether the run that ended before this one went wrong. Skipped and cancelled ones say nothing."""
    before = WorkflowExecution.objects.filter(
        workflow_id=execution.workflow_id, status__in=[Status.SUCCESS, *BAD], finished_at__isnull=False
    ).exclude(pk=execution.pk)
    last = before.order_by("-finished_at", "-id").values_list("status", flat=True).first()
    return last in BAD


def faults(workflow: Workflow) -> list[dict[str, str]]:
    """What keeps the workflow's `notify` from being saved."""
    return notifications.faults(workflow.notify)
