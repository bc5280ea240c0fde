"""The step type `respond`: the answer to who started the run."""

from __future__ import annotations

from typing import Any

from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import contains_secret
from workflows.steps.base import Fault, StepContext, StepType

# What the server sets itself, or what would let a workflow act in the name of this site.
REFUSED_HEADERS = frozenset({"connection", "content-length", "date", "server", "set-cookie", "transfer-encoding"})


class RespondStep(StepType):
    """Answer the sender of a synchronous webhook; the last answer of a run is also its output."""

    key = "respond"
    title = "Respond"
    is_awaited = True
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "status": {"type": "integer", "minimum": 200, "maximum": 599, "default": 200, "title": "Status"},
            "headers": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
                "default": {},
                "title": "Headers",
            },
            "body": {"default": None, "title": "Body", "description": "Text is sent as it is, anything else as JSON."},
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        answer = {"status": config["status"], "headers": config["headers"], "body": config["body"]}
        if contains_secret(answer):
            raise RunError("A secret cannot be part of an answer.", code="expression.secret")
        refused = _refused(config["headers"])
        if refused:
            raise RunError(f"The header {refused[0]} cannot be set by a workflow.", code="configuration.headers")
        context.respond(answer)
        return answer

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        return [
            {
                "path": f"headers.{name}",
                "code": "configuration.headers",
                "message": f"The header {name} cannot be set by a workflow.",
            }
            for name in _refused(config.get("headers"))
        ]


def _refused(headers: Any) -> list[str]:
    return [name for name in headers if name.lower() in REFUSED_HEADERS] if isinstance(headers, dict) else []
