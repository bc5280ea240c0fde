"""The step type `condition`: one of two branches."""

from __future__ import annotations

from typing import Any

from automation_lab.core.expressions import Reference
from workflows.steps.base import (
    Branch,
    Children,
    ContainerType,
    Fault,
    StepContext,
    condition_faults,
    condition_references,
)


class ConditionStep(ContainerType):
    """Run `then` when `if` is true, else `else`; the output is `{"result": true}` or `{"result": false}`."""

    key = "condition"
    title = "If"
    unrendered = frozenset({"if", "then", "else"})
    branches = ("then", "else")
    config_schema = {
        "type": "object",
        "required": ["if"],
        "additionalProperties": False,
        "properties": {
            "if": {"type": ["string", "boolean"], "title": "Condition", "description": "An expression, braces or not."},
            "then": {"type": "array", "default": [], "title": "Then"},
            "else": {"type": "array", "default": [], "title": "Else"},
        },
    }

    def decide(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        return {"result": context.is_true(config["if"])}

    def walk(
        self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], children: Children
    ) -> dict[str, Any]:
        branch = "then" if state["result"] else "else"
        children.run(Branch(branch, config[branch]))
        return {"result": state["result"]}

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        return condition_faults(config["if"], names, "if") if isinstance(config.get("if"), str | bool) else []

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        return {"if": condition_references(config.get("if"))}
