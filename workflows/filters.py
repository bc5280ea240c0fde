"""What workflow lists can be filtered by."""

from __future__ import annotations

from django_filters import CharFilter

from automation_lab.core.api.filters import StrictFilterSet, created_after, created_before
from workflows.models import MessageTemplate, NamedSchema, Workflow, WorkflowExecution


class WorkflowFilterSet(StrictFilterSet):
    name = CharFilter(lookup_expr="icontains", label="Name contains")
    created_after = created_after()
    created_before = created_before()

    class Meta:
        model = Workflow
        fields = ["enabled", "trigger_type"]


class WorkflowExecutionFilterSet(StrictFilterSet):
    created_after = created_after()
    created_before = created_before()

    class Meta:
        model = WorkflowExecution
        fields = ["workflow", "status", "waiting_for", "trigger_source", "webhook", "correlation_id"]


class MessageTemplateFilterSet(StrictFilterSet):
    class Meta:
        model = MessageTemplate
        fields = ["name"]


class NamedSchemaFilterSet(StrictFilterSet):
    class Meta:
        model = NamedSchema
        fields = ["name"]
