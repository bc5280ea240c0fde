"""What the live port tells of task runs."""

from automation_lab.core.live import Topic

TASK_EXECUTION = Topic(
    name="task_execution",
    table="task_executions",
    area="tasks",
    permission="tasks.view_taskexecution",
    columns=[
        "status", "trigger", "scheduled_for", "count", "attempt", "priority", "due_at", "worker", "cancel_requested_at",
        "started_at", "finished_at", "duration_ms", "error_message", "correlation_id",
    ],
    expressions={
        "task": "task_id",
        "task_name": "(SELECT name FROM scheduled_tasks WHERE scheduled_tasks.id = task_id)",
        "retry_of": "retry_of_id",
    },
)  # fmt: skip
