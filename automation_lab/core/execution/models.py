"""What every execution has: task runs, workflow runs and webhook forwards are concrete executions in their apps."""

from __future__ import annotations

import hashlib
from typing import TypeVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from automation_lab.core.models import TimeStampedModel

LIVE_STATUSES = ("pending", "running")
E = TypeVar("E", bound="Execution")


class ExecutionStatus(models.TextChoices):
    """What every execution can be in; a task execution has two more."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class Execution(TimeStampedModel):
    """One run, as the row that is at once its queue entry, its lock and its record.

    `due_at` is the instant from which it may be claimed (null: only an event moves it on), `worker` the Procrastinate
    worker that holds it, `epoch` the number of the claim: every write of a worker tests it, so a replaced worker writes
    nothing. `job_id` is the waiting hint in the queue.
    """

    status = models.CharField(max_length=10, choices=ExecutionStatus, default=ExecutionStatus.PENDING)
    due_at = models.DateTimeField(null=True, blank=True)
    worker = models.BigIntegerField(null=True, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    job_id = models.BigIntegerField(null=True, blank=True)
    priority = models.SmallIntegerField(default=0, help_text="Higher runs first.")
    attempt = models.PositiveIntegerField(default=0)
    idempotency_key = models.CharField(max_length=255, blank=True)
    request_hash = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the request that carried the key.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Not started by then: missed.")
    deadline_at = models.DateTimeField(
        null=True, blank=True, help_text="Not finished by then: timeout, waits included."
    )
    correlation_id = models.CharField(max_length=64, blank=True)
    concurrency_keys = ArrayField(
        models.CharField(max_length=300),
        default=list,
        blank=True,
        help_text="What it shares a limit with, such as task:5.",
    )
    concurrency_limits = ArrayField(
        models.PositiveIntegerField(), default=list, blank=True, help_text="Running at a time, key by key."
    )
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.PositiveBigIntegerField(null=True, blank=True)
    error_message = models.TextField(blank=True)

    class Meta:
        abstract = True

    def effect_key(self, *parts: str | int) -> str:
        """The `Idempotency-Key` of an effect of this execution: the same over its attempts, and of no other lab.

        Ids begin at 1 in every database, so the instant of creation is part of it.
        """
        text = "|".join([self._meta.label_lower, str(self.pk), self.created_at.isoformat(), *map(str, parts)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def is_finished(self) -> bool:
        return self.status not in LIVE_STATUSES


class Attempt(models.Model):
    """One try, by one worker under one epoch."""

    class Status(models.TextChoices):
        RUNNING = "running"
        SUCCESS = "success"
        FAILED = "failed"
        CANCELLED = "cancelled"
        TIMEOUT = "timeout"
        LOST = "lost"
        RELEASED = "released"

    number = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    worker = models.BigIntegerField()
    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        abstract = True


class ExecutionAttempt(Attempt):
    """One try of a whole execution, with what came back and what follows."""

    error_class = models.CharField(max_length=100, blank=True, help_text="Error code such as timeout.total.")
    error_message = models.TextField(blank=True)
    answer = models.JSONField(null=True, blank=True, help_text="{status, headers, body}: head and capped body.")
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    next_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        abstract = True


def reference(model: type[E], pk: int) -> E:
    """An instance that stands for row `pk` and has not been read."""
    execution = model()
    execution.pk = pk
    return execution


class LogLine(models.Model):
    """One line of an execution's log. `seq` counts within an epoch, so a run again never overwrites the first run's lines."""

    class Level(models.TextChoices):
        DEBUG = "debug"
        INFO = "info"
        WARNING = "warning"
        ERROR = "error"

    epoch = models.PositiveIntegerField(default=0)
    seq = models.PositiveIntegerField()
    at = models.DateTimeField()
    level = models.CharField(max_length=7, choices=Level, default=Level.INFO)
    text = models.TextField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.text[:80]


def execution_constraints(table: str, *, running: str = "running") -> list[models.BaseConstraint]:
    """The rules of the claim protocol that the database itself keeps, for a concrete execution's `Meta`."""
    return [
        models.CheckConstraint(
            condition=models.Q(worker__isnull=True) | models.Q(status=running), name=f"{table}_held_is_running"
        ),
        models.CheckConstraint(
            condition=models.Q(finished_at__isnull=True) | ~models.Q(status__in=LIVE_STATUSES),
            name=f"{table}_live_is_unfinished",
        ),
    ]


def execution_indexes(prefix: str) -> list[models.Index]:
    """Partial indexes over the few live rows, for claim, recovery and deadlines. `prefix` of at most 16 characters."""
    live = models.Q(status__in=LIVE_STATUSES)
    return [
        models.Index(fields=["due_at"], condition=live & models.Q(worker__isnull=True), name=f"{prefix}_due"),
        models.Index(fields=["worker"], condition=models.Q(worker__isnull=False), name=f"{prefix}_held"),
        models.Index(
            fields=["deadline_at"], condition=live & models.Q(deadline_at__isnull=False), name=f"{prefix}_deadline"
        ),
    ]
