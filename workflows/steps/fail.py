"""The step type `fail`: an error on purpose."""

from __future__ import annotations

from typing import Any

from automation_lab.core import expressions
from automation_lab.core.execution.failures import RunError
from workflows.steps.base import StepContext, StepType


class FailStep(StepType):
    """Fail with `message` and `code`. Handled, or not, like any other failure."""

    key = "fail"
    title = "Fail"
    config_schema = {
        "type": "object",
        "required": ["message"],
        "additionalProperties": False,
        "properties": {
            "message": {"type": "string", "minLength": 1, "maxLength": 2000, "title": "Message"},
            "code": {
                "type": "string",
                "pattern": "^[a-z_]+(\\.[a-z0-9_]+)*$",
                "maxLength": 100,
                "default": "runtime.failed",
                "title": "Error code",
                "description": "family.detail, such as validation.stock.",
            },
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> None:
        raise RunError(expressions.redact(config["message"]), code=config["code"])
