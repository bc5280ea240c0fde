"""The step type `notify`: a message to channels."""

from __future__ import annotations

import hashlib
from typing import Any

from automation_lab.core import expressions
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import Reference
from tasks.models import NotificationChannel
from tasks.notifying import notifications
from tasks.notifying.messages import Message
from workflows.steps.base import Fault, StepContext, StepType, message_faults, message_references

WRITTEN = ("title", "message")
CHANNELS = {
    "type": ["string", "array"],
    "items": {"type": "string", "minLength": 1},
    "minItems": 1,
    "maxItems": 20,
    "minLength": 1,
}
EVENTS = {"success": "recovery"}  # the level's mark and name on the channel


class NotifyStep(StepType):
    """Send a message to channels; the output is `{channel: {"status": "sent", "throttled" or "failed", "error"}}`.

    Fails when none of them could be reached. With a `dedupe_key`, a channel is told about it once in `throttle_seconds`.
    """

    key = "notify"
    title = "Notify"
    has_effect = True
    retries = True
    unrendered = frozenset(WRITTEN)
    config_schema = {
        "type": "object",
        "required": ["channel", "message"],
        "additionalProperties": False,
        "properties": {
            "channel": {**CHANNELS, "title": "Channels", "description": "One name, or a list."},
            "title": {"type": "string", "maxLength": 300, "default": "{{ workflow.name }}", "title": "Title"},
            "message": {"type": "string", "minLength": 1, "maxLength": 8000, "title": "Message"},
            "level": {"enum": ["info", "success", "warning", "failure"], "default": "info", "title": "Level"},
            "dedupe_key": {"type": "string", "maxLength": 255, "default": "", "title": "Only once for"},
            "throttle_seconds": {
                "type": "integer",
                "minimum": 0,
                "maximum": 31_622_400,
                "default": 300,
                "title": "Seconds between two of the same key",
            },
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        title, text = (context.message(config[field]) for field in WRITTEN)
        message = Message(EVENTS.get(config["level"], config["level"]), title, text)
        key = config["dedupe_key"]
        subject = f"notify:{hashlib.sha256(key.encode()).hexdigest()[:32]}" if key else ""
        return send_to(config["channel"], message, context, subject=subject, quiet_seconds=config["throttle_seconds"])

    def is_safe_to_repeat(self, config: dict[str, Any]) -> bool:
        return bool(config.get("dedupe_key"))

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        return [
            fault
            for field in WRITTEN
            if isinstance(config.get(field), str)
            for fault in message_faults(config[field], names, field)
        ]

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        return {field: message_references(config.get(field)) for field in WRITTEN}

    def warnings(self, config: dict[str, Any]) -> list[str]:
        return missing_channels(config.get("channel"))


def send_to(
    channels: str | list[str], message: Message, context: StepContext, *, subject: str = "", quiet_seconds: float = 0
) -> dict[str, Any]:
    """Send to each; returns how it went, by name. Raises the first error when no channel could be reached."""
    results: dict[str, Any] = {}
    errors: list[RunError] = []
    for name in listed(channels):
        try:
            results[name] = notifications.send_now(
                name=name,
                message=message,
                http=context.http,
                key=context.idempotency_key,
                cancellation=context.cancellation,
                subject=subject,
                quiet_seconds=quiet_seconds,
            )
        except RunError as error:
            context.log("warning", f"Channel {name}: {error.message}")
            results[name] = {"status": "failed", "error": error.message}
            errors.append(error)
    if errors and len(errors) == len(results):
        raise errors[0]
    return results


def listed(channels: Any) -> list[str]:
    names = channels if isinstance(channels, list) else [channels]
    return [name for number, name in enumerate(names) if name not in names[:number]]


def missing_channels(channels: Any) -> list[str]:
    """A warning for every name that is no channel which is switched on."""
    wanted = [name for name in listed(channels) if isinstance(name, str) and not expressions.has_expression(name)]
    if not wanted:
        return []
    known = set(NotificationChannel.objects.filter(name__in=wanted, enabled=True).values_list("name", flat=True))
    return [f"There is no channel named {name!r} that is switched on." for name in wanted if name not in known]
