"""Shapes of workflows and their runs on the API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from automation_lab.core.api.problems import FieldErrorSerializer
from automation_lab.core.api.serializers import (
    JSONListField,
    JSONObjectField,
    StrictCharField,
    StrictChoiceField,
    StrictIntegerField,
    StrictModelSerializer,
    StrictSerializer,
)
from workflows import named, services
from workflows.models import (
    MessageTemplate,
    NamedSchema,
    StepExecution,
    Workflow,
    WorkflowExecution,
    WorkflowLog,
    WorkflowVersion,
)


class WarningSerializer(serializers.Serializer[dict[str, str]]):
    path = serializers.CharField()
    detail = serializers.CharField()


class WorkflowSerializer(StrictModelSerializer):
    """A workflow. `warnings` names what is missing now and may exist by the time it runs."""

    steps = JSONListField(required=False)
    trigger_config = JSONObjectField(required=False)
    variables = JSONObjectField(required=False)
    retry_policy = JSONObjectField(required=False)
    notify = JSONObjectField(required=False)
    warnings = serializers.SerializerMethodField()

    class Meta:
        model = Workflow
        fields = [
            "id", "name", "description", "enabled", "trigger_type", "trigger_config", "steps", "variables",
            "timeout_seconds", "retry_policy", "concurrency", "notify", "next_run_at", "schedule_error", "version",
            "success_count", "failure_count", "warnings", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = [
            "next_run_at", "schedule_error", "version", "success_count", "failure_count", "created_at", "updated_at",
        ]  # fmt: skip

    @extend_schema_field(WarningSerializer(many=True))
    def get_warnings(self, workflow: Workflow) -> list[dict[str, str]]:
        return services.warnings(workflow)

    def create(self, validated_data: dict[str, Any]) -> Workflow:
        return services.create_workflow(fields=validated_data, author=self._author())

    def update(self, instance: Workflow, validated_data: dict[str, Any]) -> Workflow:
        return services.update_workflow(workflow=instance, changes=validated_data, author=self._author())

    def _author(self) -> str:
        return str(self.context["request"].user.get_username())


class WorkflowSummarySerializer(WorkflowSerializer):
    """A workflow in lists: without warnings, which ask the database for each step."""

    class Meta(WorkflowSerializer.Meta):
        fields = [name for name in WorkflowSerializer.Meta.fields if name != "warnings"]


class WorkflowVersionSerializer(serializers.ModelSerializer[WorkflowVersion]):
    class Meta:
        model = WorkflowVersion
        fields = [
            "number", "steps", "variables", "retry_policy", "timeout_seconds", "trigger_type", "trigger_config",
            "sha256", "created_at", "created_by",
        ]  # fmt: skip
        read_only_fields = fields


class StepResultSerializer(serializers.ModelSerializer[StepExecution]):
    """One entry of `step_results`."""

    id = serializers.CharField(source="step_id")

    class Meta:
        model = StepExecution
        fields = [
            "id", "path", "type", "name", "status", "attempt", "input", "output", "error", "idempotency_key",
            "next_attempt_at", "started_at", "finished_at", "duration_ms",
        ]  # fmt: skip
        read_only_fields = fields


class WorkflowLogSerializer(serializers.ModelSerializer[WorkflowLog]):
    class Meta:
        model = WorkflowLog
        fields = ["at", "level", "path", "text"]


class WorkflowExecutionSummarySerializer(serializers.ModelSerializer[WorkflowExecution]):
    """A run in lists: without steps, variables, trigger data and logs."""

    workflow_name = serializers.CharField(source="workflow.name", read_only=True)
    version = serializers.IntegerField(source="version.number", read_only=True)

    class Meta:
        model = WorkflowExecution
        fields = [
            "id", "workflow", "workflow_name", "version", "status", "waiting_for", "trigger_source", "webhook",
            "current_step", "total_steps", "due_at", "deadline_at", "worker", "cancel_requested_at", "error_message",
            "parent", "resumed_from", "idempotency_key", "correlation_id", "started_at", "finished_at", "duration_ms",
            "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields


class WorkflowExecutionSerializer(WorkflowExecutionSummarySerializer):
    """One run with everything that is known of it. `step_results` and `logs` are built from rows."""

    step_results = StepResultSerializer(source="steps", many=True, read_only=True)
    logs = WorkflowLogSerializer(source="log_lines", many=True, read_only=True)

    class Meta(WorkflowExecutionSummarySerializer.Meta):
        fields = [
            *WorkflowExecutionSummarySerializer.Meta.fields,
            "trigger_data",
            "event_type",
            "started_by",
            "variables",
            "output",
            "step_results",
            "logs",
        ]
        read_only_fields = fields


@extend_schema_field({})
class AnyJSONField(serializers.JSONField):
    """Any JSON value."""


class StartWorkflowSerializer(StrictSerializer):
    """What a run is started with; an empty body will do."""

    trigger_source = serializers.RegexField(
        r"^[\w.:-]{1,64}\Z", required=False, default="manual", help_text="Who starts it, such as manual."
    )
    trigger_data = AnyJSONField(required=False, default=None, allow_null=True)


class DecisionSerializer(StrictSerializer):
    """The answer for a step whose outcome is unknown."""

    action = StrictChoiceField(choices=["retry", "skip", "fail"])
    step = serializers.CharField(required=False, default="", help_text="Its path; needed when several wait.")
    output = AnyJSONField(required=False, default=None, allow_null=True)


class ApprovalSerializer(StrictSerializer):
    """What somebody decides about an approval."""

    step = StrictCharField(required=False, default="", help_text="Its path; needed when several wait.")
    comment = StrictCharField(required=False, default="", allow_blank=True, max_length=2000)
    form = JSONObjectField(required=False, default=dict, help_text="As the approval's form wants it.")


class EventSerializer(StrictSerializer):
    """Something that has happened, for workflows that its name starts."""

    event = StrictCharField(max_length=255)
    payload = AnyJSONField(required=False, default=dict, help_text="Is `trigger.data` in the runs.")


class EmittedSerializer(serializers.Serializer[Any]):
    event_id = serializers.CharField()
    executions = serializers.ListField(
        child=serializers.IntegerField(), help_text="The runs that it has started, now or before under the same key."
    )


class StepTypeSerializer(serializers.Serializer[Any]):
    """A step type, as the builder needs it."""

    key = serializers.CharField()
    title = serializers.CharField()
    help = serializers.CharField()
    schema = JSONObjectField(help_text="JSON Schema of the config; its defaults are filled in.")
    kind = serializers.ChoiceField(choices=["plain", "waiting", "container"])
    has_effect = serializers.BooleanField(help_text="Does something outside; a dry run leaves it out.")
    retries = serializers.BooleanField(help_text="Takes part in the workflow's retry policy.")
    branches = serializers.ListField(
        child=serializers.CharField(), help_text="Config fields that hold steps, such as `then` or `branches[].steps`."
    )
    child_names = serializers.ListField(
        child=serializers.CharField(), help_text="Names that only the steps inside see."
    )
    unrendered = serializers.ListField(
        child=serializers.CharField(), help_text="Config fields that take an expression with or without braces."
    )


class DraftSerializer(StrictSerializer):
    """A workflow that is not saved yet."""

    steps = JSONListField()
    trigger_type = StrictChoiceField(choices=Workflow.TriggerType.choices, required=False, default="manual")
    trigger_config = JSONObjectField(required=False, default=dict)
    variables = JSONObjectField(required=False, default=dict)
    retry_policy = JSONObjectField(required=False, default=dict)
    timeout_seconds = StrictIntegerField(required=False, default=3600)


class DraftResultSerializer(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    errors = FieldErrorSerializer(many=True)  # type: ignore[assignment]  # a field of that name
    warnings = WarningSerializer(many=True)
    steps = JSONListField(help_text="With the ids that were missing; as they were sent when they are not valid.")


class MessageTemplateSerializer(StrictModelSerializer):
    class Meta:
        model = MessageTemplate
        fields = ["id", "name", "to", "subject", "text", "html", "created_at", "updated_at"]
        read_only_fields = ["created_at", "updated_at"]

    def create(self, validated_data: dict[str, Any]) -> MessageTemplate:
        return named.save_template(row=MessageTemplate(), **validated_data)

    def update(self, instance: MessageTemplate, validated_data: dict[str, Any]) -> MessageTemplate:
        return named.save_template(row=instance, **validated_data)


class NamedSchemaSerializer(StrictModelSerializer):
    schema = JSONObjectField()

    class Meta:
        model = NamedSchema
        fields = ["id", "name", "description", "schema", "created_at", "updated_at"]
        read_only_fields = ["created_at", "updated_at"]

    def create(self, validated_data: dict[str, Any]) -> NamedSchema:
        return named.save_schema(row=NamedSchema(), **validated_data)

    def update(self, instance: NamedSchema, validated_data: dict[str, Any]) -> NamedSchema:
        return named.save_schema(row=instance, **validated_data)
