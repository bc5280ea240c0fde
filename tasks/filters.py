"""What task lists can be filtered by."""

from __future__ import annotations

from django_filters import CharFilter

from automation_lab.core.api.filters import StrictFilterSet, created_after, created_before
from tasks.models import ScheduledTask, TaskExecution


class ScheduledTaskFilterSet(StrictFilterSet):
    name = CharFilter(lookup_expr="icontains", label="Name contains")
    created_after = created_after()
    created_before = created_before()

    class Meta:
        model = ScheduledTask
        fields = ["task_type", "enabled"]


class TaskExecutionFilterSet(StrictFilterSet):
    created_after = created_after()
    created_before = created_before()

    class Meta:
        model = TaskExecution
        fields = ["task", "status", "trigger", "correlation_id"]
