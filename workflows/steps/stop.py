"""The step type `stop`: the end of the run, as a success."""

from __future__ import annotations

from typing import Any

from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import contains_secret
from workflows.steps.base import StepContext, StepType, Stop


class StopStep(StepType):
    """End the whole run as a success; `output` is what the run gives back to its caller."""

    key = "stop"
    title = "Stop"
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "status": {"const": "success", "default": "success", "title": "Status of the run"},
            "output": {"title": "Output"},
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> None:
        output = config.get("output")
        if contains_secret(output):
            raise RunError("A secret cannot be part of a run's output.", code="expression.secret")
        raise Stop(output)
