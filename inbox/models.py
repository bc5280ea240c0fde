"""Webhooks received, the senders they come from, and their forwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from automation_lab.core.execution.models import (
    Execution,
    ExecutionStatus,
    execution_constraints,
    execution_indexes,
)
from automation_lab.core.models import TimeStampedModel
from inbox import validators
from inbox.querysets import SourceQuerySet, WebhookQuerySet
from inbox.replaying.models import ForwardAttempt, Replay, SavedView  # noqa: F401 - Django finds an app's models here
from inbox.terms import BodyTermsField, HeaderTermsField

PAYLOAD_REMOVED = "payload_removed"  # a flag: the source's retention took the body, the rest is still there
WITH_ONE_TIME_TOKEN = (
    "mailgun",
)  # the schemes that sign nothing else, so it has to count once, whatever comes with it
MAX_BODY_BYTES_LIMIT = 25 * 1024 * 1024


def default_dedupe() -> dict[str, Any]:
    return {"by": "delivery_id"}


def default_methods() -> list[str]:
    return ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Source(TimeStampedModel):
    """A configured sender: how its requests are verified, limited, answered and kept."""

    name = models.CharField(
        max_length=64,
        unique=True,
        validators=[validators.validate_source_name],
        help_text="Part of the address: lower-case letters, digits, - and _.",
    )
    description = models.TextField(blank=True)
    scheme = models.CharField(max_length=40, default="none", validators=[validators.validate_scheme])
    scheme_settings = models.JSONField(default=dict, blank=True, validators=[validators.validate_object])
    secrets = models.JSONField(
        default=list, blank=True, editable=False, help_text="[{id, use, ciphertext, starts_at, expires_at, last4}]"
    )
    dedupe = models.JSONField(default=default_dedupe, validators=[validators.validate_dedupe])
    rate_limit = models.CharField(
        max_length=32,
        blank=True,
        validators=[validators.validate_rate_limit],
        help_text='Such as "600/minute"; empty: the default, 0: none.',
    )
    max_body_bytes = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_BODY_BYTES_LIMIT)],
        help_text="Empty: the default.",
    )
    allowed_methods = ArrayField(
        models.CharField(max_length=16), default=default_methods, validators=[validators.validate_methods]
    )
    response = models.JSONField(
        default=dict,
        blank=True,
        validators=[validators.validate_response],
        help_text="{status, headers, body}; empty: the standard answer.",
    )
    retention = models.JSONField(
        default=dict,
        blank=True,
        validators=[validators.validate_retention],
        help_text="{days, count, bytes, payload_days}; empty: the default.",
    )
    allowed_addresses = ArrayField(
        models.CharField(max_length=64),
        default=list,
        blank=True,
        validators=[validators.validate_networks],
        help_text="Addresses and networks that may send; empty: all.",
    )
    event_type_from = ArrayField(
        models.CharField(max_length=200),
        default=list,
        blank=True,
        validators=[validators.validate_places],
        help_text='Where the event type stands, such as "header:X-Event" or "body:event.type"; empty: by the scheme.',
    )
    delivery_id_from = ArrayField(
        models.CharField(max_length=200),
        default=list,
        blank=True,
        validators=[validators.validate_places],
        help_text="Where the sender's own id stands; empty: by the scheme.",
    )
    enabled = models.BooleanField(default=True)
    open_confirmed = models.BooleanField(default=False, help_text="A person has confirmed that anybody may send here.")

    objects = SourceQuerySet.as_manager()

    class Meta:
        db_table = "webhook_sources"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(name__regex=r"^[a-z0-9][a-z0-9_-]{0,63}$") & Q(name__regex=r"[^0-9]") & ~Q(name="export"),
                name="webhook_sources_name",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Field validators are not asked about empty values, of which `[]` and `""` are no objects."""
        for name in ("scheme_settings", "response", "retention"):
            try:
                validators.validate_object(getattr(self, name))
            except ValidationError as exc:
                raise ValidationError({name: exc}) from exc
        validators.validate_scheme_settings(self.scheme, self.scheme_settings)
        if self.scheme in WITH_ONE_TIME_TOKEN and (self.dedupe != default_dedupe() or self.delivery_id_from):
            message = "Mailgun signs only a token, which has to count once: it stays the delivery id."
            raise ValidationError({"dedupe": ValidationError(message, code="one_time_token")})

    @property
    def is_stored(self) -> bool:
        """False for a name that nobody has set up."""
        return not self._state.adding

    @property
    def is_open(self) -> bool:
        """Anybody may send: no scheme checks who it is."""
        return self.scheme == "none"


class Webhook(TimeStampedModel):
    """One request received from a sender. `raw_body` is the exact bytes; everything parsed is derived from it."""

    class Status(models.TextChoices):
        RECEIVED = "received"
        PROCESSED = "processed"
        FAILED = "failed"
        REJECTED = "rejected"

    source = models.CharField(max_length=64)
    event_type = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.RECEIVED)
    method = models.CharField(max_length=32)
    path = models.TextField(help_text="As the server gives it, percent-decoded.")
    query_params = models.JSONField(default=list, help_text="Pairs, in the order sent.")
    query_string = models.TextField(blank=True, help_text="Exactly as sent: some senders sign it.")
    headers = models.JSONField(default=list, help_text="Pairs, as the server gives them.")
    body = models.JSONField(null=True, blank=True, help_text="Parsed JSON; null when the body is not JSON.")
    raw_body = models.BinaryField(help_text="Exactly the bytes received.")
    content_type = models.CharField(max_length=255, blank=True)
    size_bytes = models.PositiveIntegerField(default=0)
    sha256 = models.CharField(max_length=64)
    remote_addr = models.GenericIPAddressField(null=True, blank=True)
    delivery_id = models.CharField(
        max_length=255, blank=True, help_text="The sender's own id; repeats are linked, not run again."
    )
    dedupe_key = models.CharField(
        max_length=255, blank=True, help_text="What the source's rule makes of it: the delivery id, or another value."
    )
    is_duplicate = models.BooleanField(default=False)
    duplicate_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="duplicates"
    )
    duplicate_count = models.PositiveIntegerField(default=0)
    verification = models.CharField(
        max_length=32, default="not_configured", help_text="verified, not_configured, or the reason of refusal."
    )
    matched_secret = models.CharField(max_length=64, blank=True, help_text="Which of the source's secrets matched.")
    flags = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    error_message = models.TextField(blank=True)
    notes = models.TextField(blank=True)
    received_at = models.DateTimeField(db_default=Now())
    processed_at = models.DateTimeField(null=True, blank=True)
    correlation_id = models.CharField(max_length=64, blank=True)
    header_terms = HeaderTermsField()
    body_terms = BodyTermsField()

    answer: Callable[[], dict[str, Any] | None] | None = None
    """Gives the answer to its sender after the commit, when a receiver of `webhook_received` offered one."""

    objects = WebhookQuerySet.as_manager()

    class Meta:
        db_table = "webhook_inbox"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "dedupe_key"],
                condition=Q(is_duplicate=False) & ~Q(dedupe_key="") & ~Q(status="rejected"),
                name="webhook_inbox_source_dedupe",
            )
        ]
        indexes = [
            models.Index(fields=["-received_at", "-id"], name="webhook_inbox_received"),
            models.Index(fields=["source", "-id"], name="webhook_inbox_source"),
            models.Index(fields=["source", "event_type", "-id"], name="webhook_inbox_event_type"),
            models.Index(fields=["event_type", "-id"], name="webhook_inbox_type"),
            models.Index(fields=["status", "-id"], name="webhook_inbox_status"),
            models.Index(fields=["verification", "-id"], name="webhook_inbox_verification"),
            models.Index(fields=["method", "-id"], condition=~Q(method="POST"), name="webhook_inbox_method"),
            models.Index(fields=["-id"], condition=Q(is_duplicate=True), name="webhook_inbox_repetitions"),
            GinIndex(fields=["flags"], condition=~Q(flags=[]), name="webhook_inbox_flags"),
            GinIndex(fields=["header_terms", "body_terms"], gin_pending_list_limit=1024, name="webhook_inbox_terms"),
            models.Index(
                fields=["source", "-id"],
                condition=Q(status="rejected") | Q(verification="unsigned"),
                name="webhook_inbox_refused",
            ),
            models.Index(fields=["correlation_id"], condition=~Q(correlation_id=""), name="webhook_inbox_correlation"),
            models.Index(fields=["delivery_id"], condition=~Q(delivery_id=""), name="webhook_inbox_delivery"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.event_type or 'webhook'} #{self.pk}"


class Forward(Execution):
    """One sending of a stored webhook to another address, with every answer."""

    Status = ExecutionStatus

    class Mode(models.TextChoices):
        ORIGINAL = "original"
        RESIGNED = "resigned"
        EDITED = "edited"

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="forwards")
    replay = models.ForeignKey(
        Replay, null=True, blank=True, on_delete=models.CASCADE, related_name="forwards", help_text="What ordered it."
    )
    target = models.CharField(max_length=2048)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.ORIGINAL)
    trigger = models.CharField(max_length=20, default="manual")
    answer = models.JSONField(
        null=True, blank=True, help_text="{status, headers, body, elapsed_ms} of the last attempt."
    )

    class Meta:
        db_table = "webhook_forwards"
        ordering = ["-id"]
        constraints = [
            *execution_constraints("webhook_forwards"),
            models.UniqueConstraint(fields=["replay", "webhook"], name="webhook_forwards_replay_webhook"),
        ]
        indexes = execution_indexes("webhook_forwards")

    def __str__(self) -> str:
        return f"forward #{self.pk} of webhook #{self.webhook_id}"


class RateWindow(models.Model):
    """Requests counted for one key within the last period, in buckets; see limits.py.

    The table is not logged: a crash of the database forgets the counts, and counting waits for no disk.
    """

    key = models.CharField(max_length=128)
    period_seconds = models.PositiveIntegerField(default=60)
    max_count = models.PositiveIntegerField(default=0, help_text="The limit, when it was last asked.")
    needed = models.PositiveIntegerField(default=0, help_text="What was asked for last, at least.")
    granted = models.PositiveIntegerField(default=0, help_text="What was given last.")
    bucket = models.BigIntegerField(default=0, help_text="The number of the newest bucket since 1970.")
    counts = ArrayField(models.IntegerField(), default=list, help_text="The newest bucket first.")
    window_at = models.DateTimeField(help_text="When it was last asked.")
    count = models.PositiveIntegerField(default=0, help_text="In the period before it was last asked.")
    refused_count = models.PositiveIntegerField(default=0)
    refused_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "webhook_rate_windows"
        constraints = [models.UniqueConstraint(fields=["key"], name="webhook_rate_windows_key")]

    def __str__(self) -> str:
        return f"{self.key} {self.window_at:%H:%M:%S}"
