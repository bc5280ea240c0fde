"""The step type `emit_event`: an event that starts other workflows."""

from __future__ import annotations

from typing import Any

from automation_lab.core import expressions
from automation_lab.core.execution.failures import RunError
from workflows.steps.base import StepContext, StepType
from workflows.triggering import events
from workflows.triggering.starting import MAX_HOPS


class EmitEventStep(StepType):
    """Start every workflow whose trigger names the event; the output is `{"event_id", "executions"}`, the runs' ids."""

    key = "emit_event"
    title = "Emit event"
    has_effect = True
    config_schema = {
        "type": "object",
        "required": ["event"],
        "additionalProperties": False,
        "properties": {
            "event": {"type": "string", "minLength": 1, "maxLength": 255, "title": "Event"},
            "payload": {"default": {}, "title": "Payload", "description": "Is `trigger.data` there."},
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        if expressions.contains_secret(config):
            raise RunError("A secret cannot be part of an event.", code="expression.secret")
        if context.depth + 1 >= MAX_HOPS:
            raise RunError(f"{MAX_HOPS} hops from workflow to workflow: this is a loop.", code="limit.depth")
        emitted = events.emit(
            event=config["event"],
            payload=config["payload"],
            event_id=f"evt_{context.idempotency_key}",
            depth=context.depth + 1,
            started_by=context.execution.started_by,
        )
        return {"event_id": emitted.event_id, "executions": [run.pk for run in emitted.executions]}

    def is_safe_to_repeat(self, config: dict[str, Any]) -> bool:
        """The event's id stays the same, and starts each workflow once."""
        return True
