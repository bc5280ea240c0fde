"""The step type `webhook`: a signed webhook, by the same code as the task type."""

from __future__ import annotations

from typing import Any

from automation_lab.core.crypto import DecryptionError
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import SecretValue, has_expression
from tasks.handlers import webhook
from tasks.models import NotificationChannel
from tasks.notifying import channels
from tasks.secret_context import reveal_secret
from workflows.steps.base import Fault, StepContext, StepType, url_warnings

PROPERTIES = {
    **webhook.CONFIG_SCHEMA["properties"],
    "channel": {
        "type": "string",
        "minLength": 1,
        "title": "Channel",
        "description": "A channel of kind webhook, in place of the URL and the secret.",
    },
}


class WebhookStep(StepType):
    """Send a webhook; the output is `{"status", "message_id", "body", "elapsed_ms"}`."""

    key = "webhook"
    title = "Send webhook"
    has_effect = True
    retries = True
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "oneOf": [{"required": ["url"]}, {"required": ["channel"]}],
        "properties": PROPERTIES,
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        if "channel" in config:
            config = {**config, **_target(config["channel"])}
        output = webhook.send(config, context.call())
        context.log("info", f"The webhook was answered {output['status']} after {output['elapsed_ms']} ms.")
        return output

    def is_safe_to_repeat(self, config: dict[str, Any]) -> bool:
        """The receiver can tell a repeat by its `webhook-id`."""
        return True

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        fault = webhook.payload_fault(config)
        return [{"path": "payload", "code": "type", "message": fault}] if fault else []

    def warnings(self, config: dict[str, Any]) -> list[str]:
        name = config.get("channel")
        if name is None:
            return url_warnings(config.get("url"))
        if not isinstance(name, str) or has_expression(name) or _channels().filter(name=name).exists():
            return []
        return [f"There is no channel {name!r} of kind webhook that is switched on: the step fails until there is."]


def _channels() -> Any:
    return NotificationChannel.objects.filter(kind=NotificationChannel.Kind.WEBHOOK, enabled=True)


def _target(name: str) -> dict[str, Any]:
    channel = _channels().select_related("secret").filter(name=name).first()
    if channel is None:
        message = f"There is no channel {name!r} of kind webhook that is switched on."
        raise RunError(message, code="configuration.channel")
    try:
        secret = reveal_secret(channel.secret) if channel.secret else ""
        return {"url": channels.target_of(channel), "secret": SecretValue(secret) if secret else ""}
    except DecryptionError as error:
        raise RunError(error.message, code="configuration.channel") from error
