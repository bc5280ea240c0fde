"""Shapes of what the builder asks for: dry runs, tests of a step, resumes, imports."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation_lab.core.api.serializers import (
    JSONListField,
    JSONObjectField,
    StrictBooleanField,
    StrictChoiceField,
    StrictIntegerField,
    StrictSerializer,
)
from workflows import resume
from workflows.definitions import transfer
from workflows.serializers import AnyJSONField


class RehearsalInputSerializer(StrictSerializer):
    """Sample data: given, or that of a stored webhook."""

    trigger_data = AnyJSONField(required=False, default=None, allow_null=True)
    webhook = StrictIntegerField(required=False, allow_null=True, default=None, help_text="Id of a stored webhook.")
    outputs = JSONObjectField(required=False, default=dict, help_text="Outputs by step id, in place of effects.")


class DryRunSerializer(RehearsalInputSerializer):
    steps = JSONListField(required=False, help_text="A definition that is not saved yet.")


class TestStepSerializer(RehearsalInputSerializer):
    step = JSONObjectField()
    workflow = StrictIntegerField(required=False, allow_null=True, default=None)
    variables = JSONObjectField(required=False, default=dict)
    do_it = StrictBooleanField(
        required=False, default=False, help_text="Really do the outside effect; otherwise it is only rendered."
    )


class RehearsalResultSerializer(serializers.Serializer[Any]):
    status = serializers.CharField(help_text="success, failed or waiting.")
    error_message = serializers.CharField()
    variables = JSONObjectField()
    step_results = JSONListField()
    logs = JSONListField()


class ResumeSerializer(StrictSerializer):
    """From where, on which version, and with what."""

    version = StrictChoiceField(choices=[resume.SAME, resume.LATEST], default=resume.SAME)
    trigger_data = AnyJSONField(required=False, allow_null=True, help_text="Another input.")
    variables = JSONObjectField(required=False, help_text="Other variables at the start.")
    skip = JSONObjectField(required=False, default=dict, help_text="Outputs by path for steps to skip.")
    dry_run = StrictBooleanField(required=False, default=False, help_text="Only say what would run again.")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # `from` is a word of Python, so it cannot be written as an attribute.
        start = serializers.CharField(
            required=False, default=resume.FROM_FAILED, help_text="failed, start, or the path of a step."
        )
        return {"from": start, **super().get_fields()}


class ResumePreviewSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField()
    kept = serializers.ListField(child=serializers.CharField(), help_text="Paths whose results are kept.")
    again = serializers.ListField(child=serializers.CharField(), help_text="Paths that ran and run again.")
    skipped = serializers.ListField(child=serializers.CharField())
    variables = JSONObjectField()


class WorkflowFileSerializer(serializers.Serializer[Any]):
    """An exported workflow."""

    format = serializers.CharField()
    workflow = JSONObjectField()
    templates = JSONListField()
    schemas = JSONListField()
    secrets = serializers.ListField(child=serializers.CharField())


class ImportSerializer(StrictSerializer):
    document = JSONObjectField()
    on_conflict = StrictChoiceField(choices=[transfer.SKIP, transfer.RENAME, transfer.UPDATE], default=transfer.SKIP)
    dry_run = StrictBooleanField(required=False, default=False)


class ImportResultSerializer(serializers.Serializer[Any]):
    action = serializers.CharField(help_text="created, renamed or updated.")
    id = serializers.IntegerField()
    name = serializers.CharField()
    warnings = serializers.ListField(child=serializers.CharField())


class VersionDiffSerializer(serializers.Serializer[Any]):
    """What changed, step by step."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {
            "from": serializers.IntegerField(),
            "to": serializers.IntegerField(),
            "steps": JSONListField(),
            "fields": JSONListField(),
        }
