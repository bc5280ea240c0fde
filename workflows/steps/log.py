"""The step type `log`: a line in the run's log."""

from __future__ import annotations

from typing import Any

from automation_lab.core import expressions
from automation_lab.core.safe_json import dump
from workflows.steps.base import StepContext, StepType


class LogStep(StepType):
    """Write one line, with `data` as JSON behind it. Has no output."""

    key = "log"
    title = "Log"
    config_schema = {
        "type": "object",
        "required": ["message"],
        "additionalProperties": False,
        "properties": {
            "message": {"title": "Message", "description": "Text, or any value."},
            "level": {"enum": ["debug", "info", "warning", "error"], "default": "info", "title": "Level"},
            "data": {"title": "Data", "description": "Written behind the message as JSON."},
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> None:
        shown = expressions.redact(config)
        message = shown["message"]
        text = message if isinstance(message, str) else dump(message)
        context.log(config["level"], f"{text} {dump(shown['data'])}" if "data" in shown else text)
