"""The step type `wait_for_webhook`: a request to the step's own link."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import Reference, redact
from workflows import links
from workflows.steps.base import Fault, StepContext, Wait, WaitingType, condition_faults, condition_references

LONGEST_SECONDS = 31_622_400
MATCH_NAMES = {"body", "headers", "query"}
HIDDEN_NAMES = {"steps", "secrets", "now", "callbacks", "item", "index", "error"}


class WaitForWebhookStep(WaitingType):
    """Wait until somebody sends a request to `callbacks.<id>`; the output is `{"body", "headers", "query", "received_at"}`.

    The link works once. Earlier steps can send it out: the request may even come before this step begins.
    """

    key = "wait_for_webhook"
    title = "Wait for webhook"
    unrendered = frozenset({"match"})
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "timeout_seconds": {
                "type": "number",
                "minimum": 1,
                "maximum": LONGEST_SECONDS,
                "default": 86_400,
                "title": "Wait at most (seconds)",
            },
            "match": {
                "type": ["string", "boolean"],
                "title": "Only when",
                "description": "A condition over body, headers, query, trigger and vars; others are refused.",
            },
            "respond": {
                "type": "object",
                "additionalProperties": False,
                "default": {},
                "title": "Answer",
                "properties": {
                    "status": {"type": "integer", "minimum": 200, "maximum": 299, "default": 200},
                    "body": {},
                },
            },
            "on_timeout": {"enum": ["fail", "continue"], "default": "fail", "title": "When nothing comes"},
        },
    }

    def begin(self, *, config: dict[str, Any], context: StepContext) -> Wait:
        until = context.now + timedelta(seconds=config["timeout_seconds"])
        return Wait(
            "webhook",
            until=until,
            state={"respond": redact(config["respond"])},
            record=lambda step: links.register(step, expires_at=until),
        )

    def resume(self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], signal: Any) -> Any:
        if signal is not None:
            return signal
        if config["on_timeout"] == "fail":
            raise RunError("No request came in time.", code="timeout.wait")
        return {"body": None, "headers": {}, "query": {}, "received_at": None}

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        source = config.get("match")
        known = names - HIDDEN_NAMES | MATCH_NAMES
        return condition_faults(source, known, "match") if isinstance(source, str | bool) else []

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        return {"match": condition_references(config.get("match"))}
