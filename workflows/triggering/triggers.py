"""Which workflows a webhook starts, and whether a trigger's config makes sense."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, QuerySet

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.failures import internal_error
from automation_lab.core.expressions import ExpressionError
from automation_lab.core.prepared import prepared_cursor
from inbox.models import Webhook
from workflows.models import Workflow, WorkflowExecution, WorkflowVersion
from workflows.running.context import Headers, webhook_names
from workflows.triggering import answers, starting, ticking

logger = logging.getLogger(__name__)

HOP_HEADER = "X-Automation-Lab-Hop"
TEXTS = {"type": ["string", "array"], "items": {"type": "string"}}
CONDITION = {"type": ["string", "boolean"]}
INPUT = {"type": "object"}
DEDUPE = {"type": "string", "minLength": 1, "maxLength": 2000}
CONFIG_SCHEMAS: dict[str, dict[str, Any]] = {
    Workflow.TriggerType.WEBHOOK: {
        "type": "object",
        "additionalProperties": False,
        "properties": {"source": TEXTS, "event_type": TEXTS, "filter": CONDITION, "input": INPUT, "dedupe": DEDUPE},
    },
    Workflow.TriggerType.EVENT: {
        "type": "object",
        "additionalProperties": False,
        "properties": {"event": TEXTS, "filter": CONDITION, "input": INPUT, "dedupe": DEDUPE},
    },
    Workflow.TriggerType.SCHEDULE: {
        "type": "object",
        "additionalProperties": False,
        "required": ["schedule"],
        "properties": {
            "schedule": {"type": "string", "minLength": 1, "maxLength": 120},
            "timezone": {"type": "string"},
            "anchor_at": {"type": "string", "format": "date-time"},
            "start_at": {"type": "string", "format": "date-time"},
            "end_at": {"type": "string", "format": "date-time"},
            "jitter_seconds": {"type": "integer", "minimum": 0, "maximum": 86400},
            "grace_seconds": {"type": "integer", "minimum": 0, "maximum": 86400},
            "misfire": {"enum": ["run_once", "skip", "run_all"]},
            "data": {"type": "object"},
            "input": INPUT,
        },
    },
    # What another type of trigger has left stays: it may be wanted again.
    Workflow.TriggerType.MANUAL: {
        "type": "object",
        "properties": {"filter": CONDITION, "input": INPUT, "dedupe": DEDUPE},
    },
}
FILTER_NAMES = ("trigger",)

# What is not named is any; `?` asks for an element of a list and for a text on its own.
_NAMED = """COALESCE(NULLIF(trigger_config->'{0}', 'null'), to_jsonb(%({0})s::text)) ? %({0})s"""
_NAMING = f"""
    SELECT id FROM {Workflow._meta.db_table}
    WHERE enabled AND trigger_type = 'webhook' AND {_NAMED.format("source")} AND {_NAMED.format("event_type")}
"""  # noqa: S608 - the name of our own table

Fault = dict[str, Any]


def start_matching(sender: Any, webhook: Webhook, **kwargs: Any) -> Callable[[], answers.Answer | None] | None:
    """Receiver of `inbox.signals.webhook_received`: record the runs that `webhook` starts, in its transaction.

    What is wrong with one workflow neither loses the webhook nor stops the others. Returns what gives the sender's answer,
    if one of them has a `respond` step.
    """
    answer = None
    for version in _versions_naming(webhook):
        execution = _start_if_wanted(version, webhook)
        if execution and answer is None and answers.responds(version):
            answer = answers.answer_of(execution)
    return answer


def _start_if_wanted(version: WorkflowVersion, webhook: Webhook) -> WorkflowExecution | None:
    """In a savepoint of its own. A trigger that cannot be judged leaves a failed run, so that it shows."""
    try:
        reason = ""
        try:
            if not matches(version.workflow.trigger_config, webhook):
                return None
        except ExpressionError as error:
            reason = f"The filter failed: {error.message}"
        with transaction.atomic():
            return start_for_webhook(version=version, webhook=webhook, reason_to_fail=reason)
    except (OperationalError, InterfaceError):
        raise  # nothing is kept, and the sender is told to come again
    except Exception as error:  # nobody foresaw it
        logger.exception("Workflow %s could not be started by webhook %s.", version.workflow_id, webhook.pk)
        with transaction.atomic():
            return start_for_webhook(version=version, webhook=webhook, reason_to_fail=internal_error(error))


def _versions_naming(webhook: Webhook) -> Iterable[WorkflowVersion]:
    """Those of `webhook_versions` whose config names its source and event type.

    Most webhooks start nothing, or one workflow of many: they are not to pay for reading all definitions.
    """
    with prepared_cursor() as cursor:
        cursor.execute(_NAMING, {"source": webhook.source, "event_type": webhook.event_type})
        ids = [row[0] for row in cursor.fetchall()]
    return webhook_versions().filter(workflow__in=ids) if ids else ()


def webhook_versions() -> QuerySet[WorkflowVersion]:
    """The current version of every enabled workflow that webhooks start."""
    versions = WorkflowVersion.objects.select_related("workflow").filter(
        workflow__enabled=True, workflow__trigger_type=Workflow.TriggerType.WEBHOOK, number=F("workflow__version")
    )
    return versions.order_by("workflow_id")


def start_for_webhook(*, version: WorkflowVersion, webhook: Webhook, reason_to_fail: str = "") -> WorkflowExecution:
    """Record and queue the run that `webhook` triggers, in the transaction that stores it. One per webhook and workflow.

    With `reason_to_fail` the run has failed already: a trigger that could not be judged leaves a visible row.
    """
    execution = starting.build(version)
    execution.trigger_source, execution.trigger_data, execution.webhook = "webhook", webhook.body, webhook
    execution.dedupe_key = f"webhook:{webhook.pk}"
    execution.depth = depth_of(webhook)
    return starting.start(execution, reason_to_fail=reason_to_fail)


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
    schema = CONFIG_SCHEMAS[Workflow.TriggerType(trigger_type)]
    found = [
        _fault(f"trigger_config.{fault.path}" if fault.path else "trigger_config", fault.message, fault.rule)
        for fault in json_schema.validate(config, schema)
    ]
    if found:
        return found
    if "filter" in config:
        errors = expressions.check_condition(config["filter"], FILTER_NAMES)
        found += [_fault("trigger_config.filter", error.message, error.code) for error in errors]
    errors = expressions.check(config.get("input", {}), FILTER_NAMES)
    found += [_fault(f"trigger_config.input.{error.field}", error.message, error.code) for error in errors]
    errors = expressions.check(config.get("dedupe", ""), FILTER_NAMES)
    found += [_fault("trigger_config.dedupe", error.message, error.code) for error in errors]
    if trigger_type == Workflow.TriggerType.SCHEDULE:
        found += _schedule_faults(config)
    return found


def _schedule_faults(config: dict[str, Any]) -> list[Fault]:
    try:
        ticking.schedule_of(config)
    except Invalid as error:
        return [_fault(f"trigger_config.{error.field}", error.message, error.code)]
    return []


def warnings(workflow: Workflow) -> list[dict[str, str]]:
    config = workflow.trigger_config
    if workflow.trigger_type == Workflow.TriggerType.WEBHOOK and _matches_none(config):
        detail = 'Matches no webhook: name what starts it, such as {"source": "github", "event_type": "push"}.'
    elif workflow.trigger_type == Workflow.TriggerType.EVENT and not config.get("event"):
        detail = 'Matches no event: name what starts it, such as {"event": "order.paid"}.'
    else:
        return []
    return [{"path": "trigger_config", "detail": detail}]


def _matches_none(config: dict[str, Any]) -> bool:
    """A source has a name; an event type may be empty, as that of webhooks without one is."""
    return not config or config.get("source") in ("", []) or config.get("event_type") == []


def depth_of(webhook: Webhook) -> int:
    """How many workflow calls led to this webhook, by the header that outgoing requests carry."""
    value = str(Headers(webhook.headers).get(HOP_HEADER, "0"))
    return min(int(value), 1_000) if value.isascii() and value.isdigit() and len(value) < 6 else 0


def _is_one_of(config: dict[str, Any], key: str, value: str) -> bool:
    wanted = config.get(key)
    return wanted is None or value == wanted or (isinstance(wanted, list) and value in wanted)


def _fault(field: str, detail: str, code: str = "invalid") -> Fault:
    return {"field": field, "code": code, "detail": detail}
