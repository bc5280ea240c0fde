"""Shapes of tasks and their runs on the API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation_lab.core.serializers import JSONObjectField, StrictModelSerializer, StrictSerializer
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
