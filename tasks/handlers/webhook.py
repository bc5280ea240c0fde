"""Outgoing webhooks, signed by Standard Webhooks; the task type `webhook` and the step `webhook` share the sending."""

from __future__ import annotations

import time
from typing import Any

from automation_lab.core import json_schema
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import ExpressionError, has_expression, reveal
from automation_lab.core.safe_json import dump
from automation_lab.core.signing import sign_standard_webhook
from tasks.handlers import http_call
from tasks.handlers.base import TaskContext, TaskHandler
from tasks.handlers.http_call import CallContext

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "url": {"type": "string", "format": "uri", "minLength": 1, "maxLength": 2048, "title": "URL"},
        "event": {
            "type": "string",
            "maxLength": 255,
            "default": "",
            "title": "Event type",
            "description": "Becomes `type`.",
        },
        "payload": {"default": {}, "title": "Payload"},
        "secret": {
            "type": "string",
            "default": "",
            "title": "Signing secret",
            "description": "whsec_…, best as {{ secrets.NAME }}; empty: not signed.",
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "default": {},
            "title": "Headers",
        },
        "expect_status": http_call.EXPECT_STATUS,
        "timeout_seconds": {
            "type": "number",
            "minimum": 0.1,
            "maximum": 300,
            "default": 15,
            "title": "Timeout in seconds",
        },
    },
}


class WebhookHandler(TaskHandler):
    """Send a webhook; the output is `{"status", "message_id", "body", "elapsed_ms"}`."""

    key = "webhook"
    config_schema = CONFIG_SCHEMA

    def check(self, config: dict[str, Any]) -> list[ExpressionError]:
        fault = payload_fault(config)
        return [ExpressionError(fault, code="type", field="payload")] if fault else []

    def run(self, *, config: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        output = send(config, context.call)
        context.log("info", f"The webhook was answered {output['status']} after {output['elapsed_ms']} ms.")
        return output


def payload_fault(config: dict[str, Any]) -> str:
    """Why the event of a config that is to be saved would be lost, or "". What is stored goes on without its event."""
    event, payload = config.get("event"), config.get("payload", {})
    unknown = any(isinstance(value, str) and has_expression(value) for value in (event, payload))
    lost = event and not unknown and not isinstance(payload, dict)
    return "Must be an object: the event becomes its `type`." if lost else ""


def send(config: dict[str, Any], context: CallContext) -> dict[str, Any]:
    """Send `payload` as JSON with the three Standard Webhooks headers; `webhook-id` stays the same over attempts."""
    body = dump(_message(reveal(config["payload"]), config["event"])).encode()
    message_id = f"msg_{context.idempotency_key}"
    secret = reveal(config["secret"])
    answer = http_call.call(
        json_schema.with_defaults(
            {
                "method": "POST",
                "url": config["url"],
                "headers": {
                    "Content-Type": "application/json",
                    **config["headers"],
                    **_signature(secret, message_id, body),
                },
                "body": body.decode(),
                "body_type": "text",
                "expect_status": config["expect_status"],
                "timeout_seconds": config["timeout_seconds"],
            },
            http_call.CONFIG_SCHEMA,
        ),
        context,
    )
    return {
        "status": answer["status"],
        "message_id": message_id,
        "body": answer["body"],
        "elapsed_ms": answer["elapsed_ms"],
    }


def _message(payload: Any, event: str) -> Any:
    if event and isinstance(payload, dict):
        return {"type": event, **payload}
    return payload


def _signature(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    timestamp = int(time.time())
    if not secret:
        return {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    try:
        return sign_standard_webhook(secret, message_id, timestamp, body)
    except Invalid as error:
        raise RunError(error.message, code="configuration.secret") from error
