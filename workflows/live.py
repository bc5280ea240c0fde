"""What the live port tells of workflow runs."""

from automation_lab.core.live import Topic

WORKFLOW_EXECUTION = Topic(
    name="workflow_execution",
    table="workflow_executions",
    area="workflows",
    permission="workflows.view_workflowexecution",
    columns=[
        "status", "waiting_for", "trigger_source", "current_step", "total_steps", "attempt", "priority", "due_at",
        "worker", "cancel_requested_at", "started_at", "finished_at", "duration_ms", "error_message", "correlation_id",
    ],
    expressions={
        "workflow": "workflow_id",
        "workflow_name": "(SELECT name FROM workflows WHERE workflows.id = workflow_id)",
        "webhook": "webhook_id",
        "parent": "parent_id",
        "resumed_from": "resumed_from_id",
    },
)  # fmt: skip
