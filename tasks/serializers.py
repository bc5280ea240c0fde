"""Shapes of tasks and their runs on the API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation_lab.core.api.serializers import (
    JSONObjectField,
    StrictBooleanField,
    StrictIntegerField,
    StrictModelSerializer,
    StrictSerializer,
)
from tasks import services
from tasks.models import ScheduledTask, TaskAttempt, TaskExecution, TaskLog


class ScheduledTaskSerializer(StrictModelSerializer):
    """A task with its schedule, its config and its counters."""

    config = JSONObjectField(required=False)
    retry_policy = JSONObjectField(required=False)
    notify = JSONObjectField(required=False)

    class Meta:
        model = ScheduledTask
        fields = [
            "id", "name", "description", "task_type", "schedule", "timezone", "anchor_at", "start_at", "end_at",
            "jitter_seconds", "enabled", "pause_note", "schedule_error", "config", "retry_policy", "timeout_seconds",
            "overlap", "misfire", "grace_seconds", "misfire_limit", "max_concurrency", "pause_after_failures",
            "on_lost_worker",
            "priority", "notify", "next_run_at", "last_run_at", "last_output", "success_count", "failure_count",
            "consecutive_failures", "version", "archived_at", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = [
            "schedule_error", "next_run_at", "last_run_at", "last_output", "success_count", "failure_count",
            "consecutive_failures", "version", "archived_at", "created_at", "updated_at",
        ]  # fmt: skip

    def create(self, validated_data: dict[str, Any]) -> ScheduledTask:
        return services.create_task(fields=validated_data)

    def update(self, instance: ScheduledTask, validated_data: dict[str, Any]) -> ScheduledTask:
        return services.update_task(task=instance, changes=validated_data)


class ScheduledTaskSummarySerializer(ScheduledTaskSerializer):
    """A task in lists: without its last output."""

    class Meta(ScheduledTaskSerializer.Meta):
        fields = [name for name in ScheduledTaskSerializer.Meta.fields if name != "last_output"]


class TaskAttemptSerializer(serializers.ModelSerializer[TaskAttempt]):
    class Meta:
        model = TaskAttempt
        fields = [
            "number", "epoch", "worker", "status", "started_at", "finished_at", "duration_ms", "error_class",
            "error_message", "answer", "next_attempt_at", "next_reason",
        ]  # fmt: skip


class TaskLogSerializer(serializers.ModelSerializer[TaskLog]):
    class Meta:
        model = TaskLog
        fields = ["at", "level", "text"]


class TaskExecutionSummarySerializer(serializers.ModelSerializer[TaskExecution]):
    """A run in lists: without output, attempts and logs."""

    task_name = serializers.CharField(source="task.name", read_only=True)

    class Meta:
        model = TaskExecution
        fields = [
            "id", "task", "task_name", "status", "trigger", "scheduled_for", "count", "attempt", "priority", "due_at",
            "expires_at", "worker", "cancel_requested_at", "input_data", "error_message", "retry_of",
            "idempotency_key", "correlation_id", "started_at", "finished_at", "duration_ms", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields


class TaskExecutionSerializer(TaskExecutionSummarySerializer):
    """One run with everything that is known of it."""

    attempts = TaskAttemptSerializer(many=True, read_only=True)
    logs = TaskLogSerializer(source="log_lines", many=True, read_only=True)

    class Meta(TaskExecutionSummarySerializer.Meta):
        fields = [*TaskExecutionSummarySerializer.Meta.fields, "output_data", "attempts", "logs"]
        read_only_fields = fields


class StartTaskSerializer(StrictSerializer):
    """What a run is started with; an empty body will do."""

    input_data = JSONObjectField(required=False)


class PauseSerializer(StrictSerializer):
    """Why the task is paused, for the colleagues."""

    note = serializers.CharField(required=False, allow_blank=True, max_length=2000, default="")


class BackfillSerializer(StrictSerializer):
    """The period whose slots are to run, both ends included."""

    to = serializers.DateTimeField()
    dry_run = StrictBooleanField(required=False, default=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # `from` is a word of Python, so it cannot be written as an attribute.
        return {"from": serializers.DateTimeField(), **super().get_fields()}


class BackfillResultSerializer(serializers.Serializer[Any]):
    slots = serializers.IntegerField(help_text="Of the schedule in that period.")
    revived = serializers.IntegerField(help_text="Rows that were missed or skipped.")
    created = serializers.IntegerField(help_text="Slots that had no row.")
    kept = serializers.IntegerField(help_text="Slots that have run or are going to.")


class NextRunsSerializer(StrictSerializer):
    """How many runs to look ahead."""

    count = StrictIntegerField(required=False, default=5, min_value=1, max_value=100)


class SchedulePreviewRequestSerializer(NextRunsSerializer):
    """A schedule to look at before saving it."""

    schedule = serializers.CharField(max_length=120, allow_blank=True)
    timezone = serializers.CharField(max_length=64, required=False, default="UTC")
    anchor_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    start_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    end_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class PreviewRunSerializer(serializers.Serializer[Any]):
    at_utc = serializers.DateTimeField()
    at_local = serializers.CharField(help_text="With the zone's offset.")
    note = serializers.CharField(help_text="What a change of clocks does to it; mostly empty.")


class SchedulePreviewSerializer(serializers.Serializer[Any]):
    """`runs` are the next ones; `explanation` is the schedule in words."""

    schedule = serializers.CharField()
    timezone = serializers.CharField()
    explanation = serializers.CharField()
    runs = PreviewRunSerializer(many=True)
