"""Which workflows a webhook starts, and whether a trigger's config makes sense."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F

from automation_lab.core import expressions
from automation_lab.core.expressions import ExpressionError
from inbox.models import Webhook
from workflows.context import Headers, webhook_names
from workflows.models import Workflow, WorkflowVersion

HOP_HEADER = "X-Automation-Lab-Hop"
WEBHOOK_KEYS = ("source", "event_type", "filter")
FILTER_NAMES = ("trigger",)

Fault = dict[str, Any]


def start_matching(sender: Any, webhook: Webhook, **kwargs: Any) -> None:
    """Receiver of `inbox.signals.webhook_received`: record the runs that `webhook` starts, in its transaction.

    Each in its own savepoint: what is wrong with one workflow neither loses the webhook nor stops the others.
    """
    from workflows import services

    versions = WorkflowVersion.objects.select_related("workflow").filter(
        workflow__enabled=True, workflow__trigger_type=Workflow.TriggerType.WEBHOOK, number=F("workflow__version")
    )
    for version in versions.order_by("workflow_id"):
        try:
            wanted, reason = matches(version.workflow.trigger_config, webhook), ""
        except ExpressionError as error:
            wanted, reason = True, f"The filter failed: {error.message}"
        if wanted:
            with transaction.atomic():
                services.start_for_webhook(version=version, webhook=webhook, reason_to_fail=reason)


def matches(config: dict[str, Any], webhook: Webhook) -> bool:
    """Whether `config` names this webhook. An empty config matches nothing. Raises ExpressionError from the filter."""
    if not config or not (
        _is_one_of(config, "source", webhook.source) and _is_one_of(config, "event_type", webhook.event_type)
    ):
        return False
    return "filter" not in config or expressions.evaluate_condition(
        config["filter"], {"trigger": webhook_names(webhook)}
    )


def faults(trigger_type: str, config: Any) -> list[Fault]:
    """What keeps a trigger from being saved."""
    if trigger_type not in Workflow.TriggerType.values:
        return [_fault("trigger_type", f"Must be one of {', '.join(Workflow.TriggerType.values)}.")]
    if not isinstance(config, dict):
        return [_fault("trigger_config", "Must be an object.")]
    if trigger_type != Workflow.TriggerType.WEBHOOK:
        return []
    found = [
        _fault(f"trigger_config.{key}", f"Unknown; known are {', '.join(WEBHOOK_KEYS)}.")
        for key in config
        if key not in WEBHOOK_KEYS
    ]
    found += [
        _fault(f"trigger_config.{key}", "Must be a text or a list of texts.")
        for key in ("source", "event_type")
        if key in config and not _is_text_or_texts(config[key])
    ]
    if "filter" in config:
        errors = expressions.check_condition(config["filter"], FILTER_NAMES)
        found += [_fault("trigger_config.filter", error.message, error.code) for error in errors]
    return found


def warnings(workflow: Workflow) -> list[dict[str, str]]:
    if workflow.trigger_type == Workflow.TriggerType.WEBHOOK and not workflow.trigger_config:
        detail = 'Matches no webhook: name what starts it, such as {"source": "github", "event_type": "push"}.'
        return [{"path": "trigger_config", "detail": detail}]
    return []


def depth_of(webhook: Webhook) -> int:
    """How many workflow calls led to this webhook, by the header that outgoing requests carry."""
    value = str(Headers(webhook.headers).get(HOP_HEADER, "0"))
    return min(int(value), 1_000) if value.isascii() and value.isdigit() and len(value) < 6 else 0


def _is_one_of(config: dict[str, Any], key: str, value: str) -> bool:
    wanted = config.get(key)
    return wanted is None or value == wanted or (isinstance(wanted, list) and value in wanted)


def _is_text_or_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _fault(field: str, detail: str, code: str = "invalid") -> Fault:
    return {"field": field, "code": code, "detail": detail}
