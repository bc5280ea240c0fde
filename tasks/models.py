"""Scheduled tasks, their runs, and what they share with workflows: secrets and notification channels."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from automation_lab.core.execution.models import (
    Execution,
    ExecutionAttempt,
    ExecutionStatus,
    LogLine,
    execution_constraints,
    execution_indexes,
)
from automation_lab.core.models import TimeStampedModel
from tasks.querysets import ScheduledTaskQuerySet, TaskExecutionQuerySet


class ScheduledTask(TimeStampedModel):
    """Work that runs by schedule or by hand. An empty `schedule` means only by hand."""

    class TaskType(models.TextChoices):
        WEBHOOK = "webhook"
        CRON = "cron"
        API_CALL = "api_call"

    class Overlap(models.TextChoices):
        SKIP = "skip"
        QUEUE_ONE = "queue_one"
        QUEUE_ALL = "queue_all"
        CANCEL_PREVIOUS = "cancel_previous"
        ALLOW = "allow"

    class Misfire(models.TextChoices):
        RUN_ONCE = "run_once"
        SKIP = "skip"
        RUN_ALL = "run_all"

    class OnLostWorker(models.TextChoices):
        RERUN = "rerun"
        FAIL = "fail"

    name = models.CharField(max_length=200, unique=True)
    description = models.TextField(blank=True)
    task_type = models.CharField(max_length=10, choices=TaskType)
    schedule = models.CharField(
        max_length=120, blank=True, help_text='Cron expression, alias, interval ("every 15 minutes") or instant.'
    )
    timezone = models.CharField(max_length=64, default="UTC")
    anchor_at = models.DateTimeField(null=True, blank=True, help_text="Intervals count from here.")
    start_at = models.DateTimeField(null=True, blank=True)
    end_at = models.DateTimeField(null=True, blank=True)
    jitter_seconds = models.PositiveIntegerField(default=0)
    enabled = models.BooleanField(default=True)
    pause_note = models.TextField(blank=True)
    schedule_error = models.TextField(
        blank=True, help_text="Why the schedule cannot be evaluated; set aside until edited."
    )
    config = models.JSONField(default=dict, blank=True)
    retry_policy = models.JSONField(default=dict, blank=True)
    timeout_seconds = models.PositiveIntegerField(default=300, help_text="Of one attempt.")
    overlap = models.CharField(max_length=16, choices=Overlap, default=Overlap.SKIP)
    misfire = models.CharField(max_length=10, choices=Misfire, default=Misfire.RUN_ONCE)
    grace_seconds = models.PositiveIntegerField(default=60)
    misfire_limit = models.PositiveSmallIntegerField(default=10, help_text="Missed runs made up for with run_all.")
    max_concurrency = models.PositiveSmallIntegerField(
        default=0, help_text="Runs at a time; 0: one when the overlap rule queues or cancels, else no limit."
    )
    pause_after_failures = models.PositiveSmallIntegerField(default=0, help_text="Failures in a row; 0: never.")
    on_lost_worker = models.CharField(max_length=5, choices=OnLostWorker, default=OnLostWorker.RERUN)
    priority = models.SmallIntegerField(default=0, help_text="Higher runs first.")
    notify = models.JSONField(
        default=dict, blank=True, help_text="{failure, recovery, skipped, paused: [channel names]}"
    )
    next_run_at = models.DateTimeField(null=True, blank=True)
    last_run_at = models.DateTimeField(null=True, blank=True)
    last_output = models.JSONField(null=True, blank=True, help_text="Of the last success.")
    success_count = models.PositiveIntegerField(default=0)
    failure_count = models.PositiveIntegerField(default=0)
    consecutive_failures = models.PositiveIntegerField(default=0)
    version = models.PositiveIntegerField(default=1)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = ScheduledTaskQuerySet.as_manager()

    class Meta:
        db_table = "scheduled_tasks"
        ordering = ["name", "id"]
        permissions = [("run_command", "Can define and start tasks that run a named command")]
        indexes = [
            models.Index(
                fields=["next_run_at"],
                condition=Q(enabled=True, next_run_at__isnull=False, archived_at__isnull=True),
                name="scheduled_tasks_due",
            ),
            models.Index(fields=["-created_at", "-id"], name="scheduled_tasks_created"),
        ]

    def __str__(self) -> str:
        return self.name


class TaskExecution(Execution):
    """One run of a scheduled task, from its slot or its caller to its one result."""

    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        SUCCESS = "success"
        FAILED = "failed"
        CANCELLED = "cancelled"
        TIMEOUT = "timeout"
        SKIPPED = "skipped"
        MISSED = "missed"

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule"
        MANUAL = "manual"
        API = "api"
        WORKFLOW = "workflow"
        RETRY = "retry"
        BACKFILL = "backfill"

    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    task = models.ForeignKey(ScheduledTask, on_delete=models.CASCADE, related_name="executions")
    trigger = models.CharField(max_length=10, choices=Trigger, default=Trigger.MANUAL)
    scheduled_for = models.DateTimeField(null=True, blank=True, help_text="The slot of the schedule.")
    count = models.PositiveIntegerField(default=1, help_text="Slots that this row stands for.")
    input_data = models.JSONField(default=dict, blank=True)
    output_data = models.JSONField(null=True, blank=True)
    retry_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries")

    objects = TaskExecutionQuerySet.as_manager()

    class Meta:
        db_table = "task_executions"
        ordering = ["-id"]
        constraints = [
            *execution_constraints("task_executions"),
            models.UniqueConstraint(
                fields=["task", "scheduled_for"],
                condition=Q(scheduled_for__isnull=False),
                name="task_executions_task_slot",
            ),
            models.UniqueConstraint(
                fields=["task", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="task_executions_task_key",
            ),
        ]
        indexes = [
            *execution_indexes("task_executions"),
            models.Index(fields=["task", "-id"], name="task_executions_task"),
            models.Index(fields=["status", "-id"], name="task_executions_status"),
            models.Index(fields=["-created_at", "-id"], name="task_executions_created"),
            models.Index(
                fields=["correlation_id"], condition=~Q(correlation_id=""), name="task_executions_correlation"
            ),
        ]

    def __str__(self) -> str:
        return f"run #{self.pk} of task #{self.task_id}"


class TaskAttempt(ExecutionAttempt):
    """One try of a task execution, by one worker under one epoch."""

    execution = models.ForeignKey(TaskExecution, on_delete=models.CASCADE, related_name="attempts")

    class Meta:
        db_table = "task_attempts"
        ordering = ["execution_id", "epoch"]
        constraints = [models.UniqueConstraint(fields=["execution", "epoch"], name="task_attempts_execution_epoch")]

    def __str__(self) -> str:
        return f"attempt {self.number} of run #{self.execution_id}"


class TaskLog(LogLine):
    """One log line of a task execution."""

    execution = models.ForeignKey(TaskExecution, on_delete=models.CASCADE, related_name="log_lines")

    class Meta:
        db_table = "task_logs"
        ordering = ["execution_id", "epoch", "seq"]
        constraints = [models.UniqueConstraint(fields=["execution", "epoch", "seq"], name="task_logs_execution_seq")]


class Secret(TimeStampedModel):
    """A value that configurations name as `secrets.NAME`: encrypted, write-only, bound to the hosts it may be sent to."""

    name = models.CharField(max_length=64, unique=True, help_text="Letters, digits and _, as in secrets.NAME.")
    description = models.TextField(blank=True)
    ciphertext = models.TextField(editable=False)
    allowed_hosts = ArrayField(
        models.CharField(max_length=253),
        default=list,
        blank=True,
        help_text="Hosts it may be sent to; *.example.com too.",
    )
    last4 = models.CharField(max_length=4, blank=True, editable=False)
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "secrets"
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=Q(name__regex=r"^[A-Za-z][A-Za-z0-9_]*$"), name="secrets_name")]

    def __str__(self) -> str:
        return self.name


class NotificationChannel(TimeStampedModel):
    """Where messages about failures and recoveries go. The target is encrypted and write-only."""

    class Kind(models.TextChoices):
        EMAIL = "email"
        SLACK = "slack"
        DISCORD = "discord"
        TEAMS = "teams"
        WEBHOOK = "webhook"

    name = models.SlugField(max_length=64, unique=True)
    kind = models.CharField(max_length=10, choices=Kind)
    target_ciphertext = models.TextField(editable=False)
    target_hint = models.CharField(
        max_length=100, blank=True, editable=False, help_text="What may be shown of the target."
    )
    secret = models.ForeignKey(
        Secret, null=True, blank=True, on_delete=models.PROTECT, help_text="Signs messages of kind webhook."
    )
    enabled = models.BooleanField(default=True)
    throttle_seconds = models.PositiveIntegerField(default=300)
    last_sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.TextField(blank=True, editable=False)

    class Meta:
        db_table = "notification_channels"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Notification(Execution):
    """One message to one channel. While it waits, further events of the same kind only raise its `count`."""

    Status = ExecutionStatus

    channel = models.ForeignKey(NotificationChannel, on_delete=models.CASCADE, related_name="notifications")
    event = models.CharField(max_length=20, help_text="failure, recovery, skipped or paused.")
    subject = models.CharField(max_length=64, help_text="What it is about, such as task:5.")
    title = models.CharField(max_length=300)
    text = models.TextField(blank=True)
    url = models.CharField(max_length=500, blank=True)
    count = models.PositiveIntegerField(default=1, help_text="Events that this message stands for.")
    first_at = models.DateTimeField(help_text="When the first of them happened.")

    class Meta:
        db_table = "notifications"
        ordering = ["-id"]
        constraints = execution_constraints("notifications")
        indexes = [
            *execution_indexes("notifications"),
            models.Index(fields=["channel", "subject", "event", "-id"], name="notifications_subject"),
        ]

    def __str__(self) -> str:
        return self.title
