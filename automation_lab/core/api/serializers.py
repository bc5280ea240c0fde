"""Serializers that take exactly what they document: unknown fields and loosely typed values are refused.

class TaskSerializer(StrictModelSerializer):
    config = JSONObjectField(default=dict)

    class Meta:
        model = ScheduledTask
        fields = ["id", "name", "config", "created_at"]     # always listed
        read_only_fields = ["created_at"]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from django.db import models
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from automation_lab.core.suggestions import unknown_name


class StrictBooleanField(serializers.BooleanField):
    """true or false; neither "yes" nor 1."""

    def to_internal_value(self, data: Any) -> Any:
        return data if isinstance(data, bool) else self.fail("invalid", input=data)


class StrictIntegerField(serializers.IntegerField):
    """A JSON number without fraction; neither "12" nor true."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictFloatField(serializers.FloatField):
    """A JSON number."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, (int, float)):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictCharField(serializers.CharField):
    """A JSON string; numbers are not turned into text."""

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data) if isinstance(data, str) else self.fail("invalid")


class StrictSlugField(StrictCharField, serializers.SlugField):
    pass


class StrictURLField(StrictCharField, serializers.URLField):
    pass


class StrictEmailField(StrictCharField, serializers.EmailField):
    pass


class StrictChoiceField(serializers.ChoiceField):
    """One of a few words; a refusal names them."""

    default_error_messages = {"invalid_choice": 'There is no "{input}" here; known are {known}.'}

    def fail(self, key: str, **kwargs: Any) -> NoReturn:
        super().fail(key, known=", ".join(map(str, self.choices)), **kwargs)


@extend_schema_field({"type": "object", "additionalProperties": {}})
class JSONObjectField(serializers.JSONField):
    """A JSON object with free content."""

    default_error_messages = {"not_an_object": "Give a JSON object."}

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data) if isinstance(data, dict) else self.fail("not_an_object")


@extend_schema_field({"type": "array", "items": {}})
class JSONListField(serializers.JSONField):
    """A JSON array with free content."""

    default_error_messages = {"not_a_list": "Give a JSON array."}

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data) if isinstance(data, list) else self.fail("not_a_list")


class StrictFieldsMixin:
    """Refuses fields that the serializer does not take, beside every other fault of the input."""

    def to_internal_value(self, data: Any) -> Any:
        refused = self._refused_fields(data) if isinstance(data, Mapping) else {}
        try:
            value = super().to_internal_value(data)  # type: ignore[misc]
        except serializers.ValidationError as exc:
            if refused and isinstance(exc.detail, dict):
                raise serializers.ValidationError({**exc.detail, **refused}) from exc
            raise
        if refused:
            raise serializers.ValidationError(refused)
        return value

    def _refused_fields(self, data: Mapping[str, Any]) -> dict[str, list[ErrorDetail]]:
        fields: dict[str, serializers.Field[Any, Any, Any, Any]] = self.fields  # type: ignore[attr-defined]
        writable = [name for name, field in fields.items() if not field.read_only]
        refused = {}
        for name in data:
            if name in writable:
                continue
            if name in fields:
                refused[name] = [ErrorDetail("This field is read-only; leave it out.", code="read_only")]
            else:
                refused[str(name)] = [ErrorDetail(unknown_name(str(name), writable, what="field"), code="unknown")]
        return refused


class StrictSerializer(StrictFieldsMixin, serializers.Serializer):
    """For bodies that are no model. Use the Strict… fields in it."""


class StrictModelSerializer(StrictFieldsMixin, serializers.ModelSerializer):
    """For models; `fields` are listed by name."""

    serializer_choice_field = StrictChoiceField
    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.BooleanField: StrictBooleanField,
        models.CharField: StrictCharField,
        models.TextField: StrictCharField,
        models.SlugField: StrictSlugField,
        models.URLField: StrictURLField,
        models.EmailField: StrictEmailField,
        models.FloatField: StrictFloatField,
        models.AutoField: StrictIntegerField,
        models.BigIntegerField: StrictIntegerField,
        models.IntegerField: StrictIntegerField,
        models.PositiveBigIntegerField: StrictIntegerField,
        models.PositiveIntegerField: StrictIntegerField,
        models.PositiveSmallIntegerField: StrictIntegerField,
        models.SmallIntegerField: StrictIntegerField,
    }

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        """Write the given fields only: the row's counters may move at the same time."""
        for name, value in validated_data.items():
            setattr(instance, name, value)
        names = {field.name for field in instance._meta.concrete_fields}
        instance.save(update_fields=[*validated_data, *({"updated_at"} & names)])
        return instance
