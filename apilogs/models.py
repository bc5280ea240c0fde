"""Every API request and answer, and their hourly summary."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import HashIndex
from django.db import models
from django.db.models import F, Q

from apilogs.querysets import ApiLogQuerySet


class ApiLog(models.Model):
    """One API request with its answer, redacted before it is stored. Written by COPY, so no field has a default."""

    correlation_id = models.CharField(max_length=64)
    method = models.CharField(max_length=16)
    path = models.TextField()
    route = models.CharField(max_length=200, blank=True, help_text="The URL template, such as /v1/tasks/{id}.")
    query_params = models.JSONField()
    status_code = models.PositiveSmallIntegerField()
    request_headers = models.JSONField()
    request_body = models.TextField(null=True, blank=True)  # noqa: DJ001 - null: not kept; empty: an empty body
    response_headers = models.JSONField()
    response_body = models.TextField(null=True, blank=True)  # noqa: DJ001 - as above
    duration_ms = models.FloatField()
    user_id = models.BigIntegerField(null=True, blank=True)
    username = models.CharField(max_length=150, blank=True)
    client_ip = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    request_size = models.PositiveIntegerField()
    response_size = models.PositiveIntegerField()
    error = models.CharField(max_length=300, blank=True, help_text="Class of the exception that the view raised.")
    created_at = models.DateTimeField(help_text="When the request arrived.")
    row_key = models.UUIDField(null=True, editable=False, help_text="Set with a spool: makes a segment loadable twice.")

    objects = ApiLogQuerySet.as_manager()

    class Meta:
        db_table = "api_logs"
        ordering = ["-created_at", "-id"]
        verbose_name = "API log"
        constraints = [
            models.UniqueConstraint(fields=["row_key"], condition=Q(row_key__isnull=False), name="api_logs_row_key")
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="api_logs_created"),
            models.Index(fields=["-created_at", "-id"], condition=Q(status_code__gte=400), name="api_logs_errors"),
            HashIndex(fields=["correlation_id"], name="api_logs_correlation"),
            models.Index(F("route"), F("created_at").desc(), name="api_logs_route"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status_code}"


class ApiLogHour(models.Model):
    """One hour of one route and status class. `histogram` counts durations in log-spaced buckets (apilogs.histogram)."""

    hour = models.DateTimeField()
    route = models.CharField(max_length=200, blank=True)
    status_class = models.PositiveSmallIntegerField(help_text="2 for 2xx, …")
    count = models.PositiveIntegerField(default=0)
    duration_ms_sum = models.FloatField(default=0)
    duration_ms_max = models.FloatField(default=0)
    histogram = ArrayField(models.PositiveIntegerField(), default=list)

    class Meta:
        db_table = "api_log_hours"
        ordering = ["-hour", "route", "status_class"]
        constraints = [
            models.UniqueConstraint(fields=["hour", "route", "status_class"], name="api_log_hours_hour_route")
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}h {self.route} {self.status_class}xx"


class ApiLogDrop(models.Model):
    """Rows that the log had to drop, by cause: nothing is lost silently."""

    at = models.DateTimeField()
    process = models.CharField(max_length=64)
    count = models.PositiveIntegerField()
    reason = models.CharField(max_length=100)

    class Meta:
        db_table = "api_log_drops"
        ordering = ["-at", "-id"]
        verbose_name = "dropped API log rows"
        verbose_name_plural = "dropped API log rows"

    def __str__(self) -> str:
        return f"{self.count} dropped: {self.reason}"
