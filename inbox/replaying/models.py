"""Webhooks sent again: replays, the attempts of forwards, and the saved views that a selection may come from."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from automation_lab.core.execution.models import (
    Execution,
    ExecutionAttempt,
    ExecutionStatus,
    execution_constraints,
    execution_indexes,
)
from automation_lab.core.models import TimeStampedModel

SLOWEST_RATE = 0.1
FASTEST_RATE = 100.0


class Replay(Execution):
    """Stored webhooks, each to be sent to one target again. The engine works it off in slices, at `rate_per_second`.

    `webhook_ids` is what the selection found when the replay was ordered; the first `position` of them are done.
    `options` is what the target needs (workflow, url, mode, body, headers, signing, retry_policy), its secret encrypted.
    """

    Status = ExecutionStatus

    filters = models.JSONField(default=dict, blank=True, help_text="The selection, as it was asked for.")
    webhook_ids = ArrayField(models.BigIntegerField(), default=list)
    target = models.CharField(max_length=20)
    options = models.JSONField(default=dict, blank=True)
    rate_per_second = models.FloatField(
        default=10, validators=[MinValueValidator(SLOWEST_RATE), MaxValueValidator(FASTEST_RATE)]
    )
    position = models.PositiveIntegerField(default=0)
    total_count = models.PositiveIntegerField(default=0)
    done_count = models.PositiveIntegerField(default=0, help_text="Webhooks handed to the target.")
    failed_count = models.PositiveIntegerField(default=0, help_text="Webhooks that the target could not take.")
    created_by = models.CharField(max_length=150, blank=True)

    class Meta:
        db_table = "webhook_replays"
        ordering = ["-id"]
        constraints = [
            *execution_constraints("webhook_replays"),
            models.CheckConstraint(condition=Q(position__lte=F("total_count")), name="webhook_replays_position"),
            models.UniqueConstraint(
                fields=["idempotency_key"], condition=~Q(idempotency_key=""), name="webhook_replays_key"
            ),
        ]
        indexes = execution_indexes("webhook_replays")

    def __str__(self) -> str:
        return f"replay #{self.pk} of {self.total_count} webhooks"


class ForwardAttempt(ExecutionAttempt):
    """One try of a forward, by one worker under one epoch."""

    forward = models.ForeignKey("inbox.Forward", on_delete=models.CASCADE, related_name="attempts")
    answer = models.JSONField(null=True, blank=True, help_text="{status, headers, body, elapsed_ms}: the body capped.")

    class Meta:
        db_table = "webhook_forward_attempts"
        ordering = ["forward_id", "epoch"]
        constraints = [models.UniqueConstraint(fields=["forward", "epoch"], name="webhook_forward_attempts_epoch")]

    def __str__(self) -> str:
        return f"attempt {self.number} of forward #{self.forward_id}"


class SavedView(TimeStampedModel):
    """A named query of the list of webhooks, such as `source=github&status=failed`."""

    name = models.CharField(max_length=100)
    query = models.CharField(max_length=2000, blank=True, help_text="As in the address, without the question mark.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhook_views")
    shared = models.BooleanField(default=False, help_text="Everybody who reads the inbox sees it.")

    class Meta:
        db_table = "webhook_views"
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="webhook_views_owner_name")]

    def __str__(self) -> str:
        return self.name
