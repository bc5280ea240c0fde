"""Workflows, their versions, runs and steps, and the messages and schemas that steps name."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q

from automation_lab.core.execution.models import (
    Attempt,
    Execution,
    ExecutionStatus,
    LogLine,
    execution_constraints,
    execution_indexes,
)
from automation_lab.core.models import TimeStampedModel
from workflows.querysets import WorkflowExecutionQuerySet, WorkflowQuerySet


class Workflow(TimeStampedModel):
    """Steps that run one after the other when the trigger fires."""

    class TriggerType(models.TextChoices):
        WEBHOOK = "webhook"
        SCHEDULE = "schedule"
        MANUAL = "manual"
        EVENT = "event"

    class Concurrency(models.TextChoices):
        ALLOW = "allow"
        QUEUE = "queue"
        SKIP = "skip"
        CANCEL_PREVIOUS = "cancel_previous"

    name = models.CharField(max_length=200, unique=True)
    description = models.TextField(blank=True)
    enabled = models.BooleanField(default=True)
    trigger_type = models.CharField(max_length=10, choices=TriggerType, default=TriggerType.MANUAL)
    trigger_config = models.JSONField(default=dict, blank=True)
    steps = models.JSONField(default=list)
    variables = models.JSONField(default=dict, blank=True)
    timeout_seconds = models.PositiveIntegerField(default=3600, help_text="Of a whole run, waits included.")
    retry_policy = models.JSONField(default=dict, blank=True)
    concurrency = models.CharField(max_length=16, choices=Concurrency, default=Concurrency.ALLOW)
    notify = models.JSONField(
        default=dict, blank=True, help_text="{failure, recovery, skipped, paused: [channel names]}"
    )
    next_run_at = models.DateTimeField(null=True, blank=True)
    schedule_error = models.TextField(
        blank=True, help_text="Why the schedule cannot be evaluated; set aside until edited."
    )
    version = models.PositiveIntegerField(default=1)
    success_count = models.PositiveIntegerField(default=0)
    failure_count = models.PositiveIntegerField(default=0)

    objects = WorkflowQuerySet.as_manager()

    class Meta:
        db_table = "workflows"
        ordering = ["name", "id"]
        indexes = [
            models.Index(
                fields=["next_run_at"], condition=Q(enabled=True, next_run_at__isnull=False), name="workflows_due"
            ),
            models.Index(fields=["trigger_type"], condition=Q(enabled=True), name="workflows_trigger"),
            models.Index(fields=["-created_at", "-id"], name="workflows_created"),
        ]

    def __str__(self) -> str:
        return self.name


class WorkflowVersion(models.Model):
    """An immutable snapshot of a definition; runs stay on the one they started with."""

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    steps = models.JSONField()
    variables = models.JSONField(default=dict)
    retry_policy = models.JSONField(default=dict)
    timeout_seconds = models.PositiveIntegerField()
    trigger_type = models.CharField(max_length=10)
    trigger_config = models.JSONField(default=dict)
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=150, blank=True)

    class Meta:
        db_table = "workflow_versions"
        ordering = ["-number", "-id"]
        constraints = [models.UniqueConstraint(fields=["workflow", "number"], name="workflow_versions_number")]

    def __str__(self) -> str:
        return f"version {self.number} of workflow #{self.workflow_id}"


class WorkflowExecution(Execution):
    """One run of a workflow on one version of it. The document's `step_results` and `logs` are built from rows."""

    Status = ExecutionStatus

    class WaitingFor(models.TextChoices):
        NOTHING = "", "nothing"
        DELAY = "delay"
        RETRY = "retry"
        APPROVAL = "approval"
        WEBHOOK = "webhook"
        CHILD = "child"
        DECISION = "decision"

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="executions")
    version = models.ForeignKey(WorkflowVersion, on_delete=models.PROTECT, related_name="executions")
    waiting_for = models.CharField(max_length=10, choices=WaitingFor, default=WaitingFor.NOTHING, blank=True)
    trigger_source = models.CharField(max_length=64, default="manual")
    trigger_data = models.JSONField(null=True, blank=True)
    event_type = models.CharField(max_length=255, blank=True, help_text="Name of the event that started it.")
    started_by = models.CharField(max_length=150, blank=True, help_text="Who started it by hand or over the API.")
    webhook = models.ForeignKey(
        "inbox.Webhook", null=True, blank=True, on_delete=models.SET_NULL, related_name="workflow_executions"
    )
    variables = models.JSONField(default=dict, blank=True)
    output = models.JSONField(null=True, blank=True, help_text="What the run gives back to its caller.")
    current_step = models.PositiveIntegerField(default=0, help_text="Finished top-level steps.")
    total_steps = models.PositiveIntegerField(default=0)
    depth = models.PositiveSmallIntegerField(default=0, help_text="Hops from the first trigger; loops end at 10.")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    resumed_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="resumes")
    dedupe_key = models.CharField(max_length=255, blank=True)

    objects = WorkflowExecutionQuerySet.as_manager()

    class Meta:
        db_table = "workflow_executions"
        ordering = ["-id"]
        constraints = [
            *execution_constraints("workflow_executions"),
            models.UniqueConstraint(
                fields=["workflow", "dedupe_key"], condition=~Q(dedupe_key=""), name="workflow_executions_dedupe"
            ),
            models.UniqueConstraint(
                fields=["workflow", "idempotency_key"], condition=~Q(idempotency_key=""), name="workflow_executions_key"
            ),
        ]
        indexes = [
            *execution_indexes("workflow_exec"),
            models.Index(fields=["workflow", "-id"], name="workflow_exec_workflow"),
            models.Index(fields=["status", "-id"], name="workflow_exec_status"),
            models.Index(fields=["-created_at", "-id"], name="workflow_exec_created"),
            models.Index(fields=["correlation_id"], condition=~Q(correlation_id=""), name="workflow_exec_correlation"),
        ]

    def __str__(self) -> str:
        return f"run #{self.pk} of workflow #{self.workflow_id}"


class StepExecution(TimeStampedModel):
    """One step of a run. `path` names its place, such as `loop[3]/fetch`; there is one row, so one result, per path."""

    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        WAITING = "waiting"
        SUCCESS = "success"
        FAILED = "failed"
        SKIPPED = "skipped"
        CANCELLED = "cancelled"
        TIMEOUT = "timeout"
        INTERRUPTED = "interrupted"

    execution = models.ForeignKey(WorkflowExecution, on_delete=models.CASCADE, related_name="steps")
    path = models.CharField(max_length=500)
    step_id = models.CharField(max_length=40)
    type = models.CharField(max_length=40)
    name = models.CharField(max_length=200, blank=True)
    position = models.PositiveIntegerField(default=0, help_text="Order in which the steps of this run began.")
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    attempt = models.PositiveIntegerField(default=0)
    generation = models.PositiveIntegerField(default=0, help_text="Counts decisions to run again by hand.")
    interruptions = models.PositiveSmallIntegerField(default=0, help_text="Workers lost in this step.")
    idempotency_key = models.CharField(max_length=64, blank=True)
    input = models.JSONField(null=True, blank=True, help_text="The rendered config, redacted.")
    output = models.JSONField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    state = models.JSONField(null=True, blank=True, help_text="What a container or waiting step has to remember.")
    signal = models.JSONField(null=True, blank=True, help_text="What an event has brought to a waiting step.")
    scheduled_at = models.DateTimeField(null=True, blank=True, help_text="What `now` is in this step's expressions.")
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        db_table = "step_executions"
        ordering = ["execution_id", "position", "id"]
        constraints = [models.UniqueConstraint(fields=["execution", "path"], name="step_executions_path")]

    def __str__(self) -> str:
        return f"{self.path} of run #{self.execution_id}"

    @property
    def waits_until(self) -> datetime | None:
        """The end of its wait: its own, or that of its run."""
        ends = (self.next_attempt_at, self.execution.deadline_at)
        return min((end for end in ends if end is not None), default=None)


class StepAttempt(Attempt):
    """One try of a step, by one worker under one epoch."""

    step = models.ForeignKey(StepExecution, on_delete=models.CASCADE, related_name="attempts")
    error = models.JSONField(null=True, blank=True)

    class Meta:
        db_table = "step_attempts"
        ordering = ["step_id", "epoch", "id"]
        constraints = [
            models.UniqueConstraint(fields=["step"], condition=Q(status="running"), name="step_attempts_one_running")
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of step #{self.step_id}"


class WorkflowLog(LogLine):
    """One log line of a workflow run; `path` is the step that wrote it."""

    execution = models.ForeignKey(WorkflowExecution, on_delete=models.CASCADE, related_name="log_lines")
    path = models.CharField(max_length=500, blank=True)

    class Meta:
        db_table = "workflow_logs"
        ordering = ["execution_id", "epoch", "seq"]
        constraints = [
            models.UniqueConstraint(fields=["execution", "epoch", "seq"], name="workflow_logs_execution_seq")
        ]


class MessageTemplate(TimeStampedModel):
    """A message that `email` and `notify` steps name: `{"template": "order_confirmation"}`."""

    name = models.CharField(max_length=100, unique=True)
    to = models.CharField(max_length=1000, blank=True, help_text="Recipients, comma separated; expressions allowed.")
    subject = models.CharField(max_length=500)
    text = models.TextField(blank=True)
    html = models.TextField(blank=True)

    class Meta:
        db_table = "message_templates"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class NamedSchema(TimeStampedModel):
    """A JSON Schema that `validate` steps name: `{"schema": "order"}`."""

    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    schema = models.JSONField()

    class Meta:
        db_table = "named_schemas"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class WaitToken(TimeStampedModel):
    """A one-time link into a waiting run (approval or callback). Only the token's hash is stored."""

    class Kind(models.TextChoices):
        APPROVAL = "approval"
        WEBHOOK = "webhook"

    kind = models.CharField(max_length=10, choices=Kind)
    step = models.ForeignKey(StepExecution, on_delete=models.CASCADE, related_name="tokens")
    token_hash = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "wait_tokens"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} link of step #{self.step_id}"
