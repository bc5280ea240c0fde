"""The step type `validate`: data against a JSON Schema or rules."""

from __future__ import annotations

from typing import Any

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import Reference
from workflows.models import NamedSchema
from workflows.steps.base import Fault, StepContext, StepType, condition_faults, condition_references


class ValidateStep(StepType):
    """Check `data`; the output is `{"valid", "errors": [{path, message, rule}]}`. Mode `fail` fails the step instead."""

    key = "validate"
    title = "Validate"
    unrendered = frozenset({"rules", "schema"})
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": ["schema"]}, {"required": ["rules"]}],
        "properties": {
            "data": {"default": "{{ trigger.data }}", "title": "Data"},
            "schema": {
                "type": ["string", "object"],
                "title": "Schema",
                "description": "A JSON Schema, or the name of a stored one.",
            },
            "rules": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["if", "message"],
                    "additionalProperties": False,
                    "properties": {"if": {"type": ["string", "boolean"]}, "message": {"type": "string"}},
                },
                "title": "Rules",
                "description": "Each `if` must be true, else its message is an error. `data` is the data.",
            },
            "mode": {"enum": ["fail", "report"], "default": "fail", "title": "When not valid"},
            "max_errors": {"type": "integer", "minimum": 1, "maximum": 50, "default": 20, "title": "Most errors"},
            "check_formats": {"type": "boolean", "default": True, "title": "Check formats"},
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        errors = [*self._schema_errors(config), *self._rule_errors(config, context)][: config["max_errors"]]
        if errors and config["mode"] == "fail":
            first = errors[0]
            where = f"{first['path']}: " if first["path"] else ""
            raise RunError(
                f"The data is not valid: {where}{first['message']}", code="validation.failed", detail={"errors": errors}
            )
        return {"valid": not errors, "errors": errors}

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        faults: list[Fault] = []
        if isinstance(config.get("schema"), dict):
            try:
                json_schema.check_schema(config["schema"])
            except Invalid as error:
                faults.append({"path": "schema", "code": "configuration.schema", "message": error.message})
        rules = config.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            if isinstance(rule, dict) and isinstance(rule.get("if"), str | bool):
                faults += condition_faults(rule["if"], names | {"data"}, f"rules[{number}].if")
        return faults

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        rules = config.get("rules")
        return {
            f"rules[{number}].if": condition_references(rule.get("if"))
            for number, rule in enumerate(rules if isinstance(rules, list) else [])
            if isinstance(rule, dict)
        }

    def warnings(self, config: dict[str, Any]) -> list[str]:
        name = config.get("schema")
        if not isinstance(name, str) or NamedSchema.objects.filter(name=name).exists():
            return []
        return [f"There is no schema named {name!r} yet: the step fails until it exists."]

    def _schema_errors(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        schema = config.get("schema")
        if schema is None:
            return []
        if isinstance(schema, str):
            schema = _named_schema(schema)
        try:
            faults = json_schema.validate(
                config["data"], schema, max_errors=config["max_errors"], formats=config["check_formats"]
            )
        except Invalid as error:
            raise RunError(error.message, code="configuration.schema") from error
        return [{"path": fault.path, "message": fault.message, "rule": fault.rule} for fault in faults]

    def _rule_errors(self, config: dict[str, Any], context: StepContext) -> list[dict[str, Any]]:
        names = {**context.names, "data": config["data"]}
        return [
            {"path": "", "message": rule["message"], "rule": "if"}
            for rule in config.get("rules") or []
            if not expressions.evaluate_condition(rule["if"], names)
        ]


def _named_schema(name: str) -> dict[str, Any]:
    row = NamedSchema.objects.filter(name=name).first()
    if row is None:
        raise RunError(
            f"There is no schema named {name!r}: add it under Schemas, or put the schema into the step.",
            code="configuration.schema",
        )
    return row.schema
