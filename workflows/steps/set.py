"""The step type `set`: values into the run's variables."""

from __future__ import annotations

import re
from typing import Any

from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import contains_secret
from workflows.links import contains_token
from workflows.steps.base import Fault, StepContext, StepType

PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")


class SetStep(StepType):
    """Set variables; the output is the values. `order.total` sets a field inside `vars.order`."""

    key = "set"
    title = "Set variables"
    config_schema = {
        "type": "object",
        "required": ["values"],
        "additionalProperties": False,
        "properties": {"values": {"type": "object", "title": "Variables"}},
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        for path, value in config["values"].items():
            if contains_secret(value) or contains_token(value):
                raise RunError(f"A secret cannot be kept in the variable {path}.", code="expression.secret")
        for path, value in config["values"].items():
            context.variables.set(path, value)
        return config["values"]

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        values = config.get("values")
        if not isinstance(values, dict):
            return []
        return [
            {"path": f"values.{path}", "code": "configuration.path", "message": f"{path!r} is not a variable's name."}
            for path in values
            if not PATH.match(path)
        ]
