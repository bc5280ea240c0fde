"""The names that a workflow's expressions see."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from inbox.models import Webhook
from tasks.secret_context import SecretsContext
from workflows.models import StepExecution, WorkflowExecution
from workflows.running.scope import Scope


class Headers(dict[str, Any]):
    """Header fields without regard to case; `trigger.headers["X-GitHub-Event"]` and `["x-github-event"]` are one."""

    def __init__(self, pairs: Iterable[Any]) -> None:
        super().__init__((str(name).lower(), value) for name, value in pairs)

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def run_names(execution: WorkflowExecution) -> dict[str, Any]:
    """What stays the same over a whole run."""
    return {
        "trigger": trigger_names(execution),
        "execution": {
            "id": execution.pk,
            "attempt": execution.attempt,
            "started_at": execution.started_at,
            "idempotency_key": execution.idempotency_key,
            "url": f"/v1/workflows/executions/{execution.pk}",
        },
        "workflow": {
            "id": execution.workflow_id,
            "name": execution.workflow.name,
            "version": execution.version.number,
        },
        "secrets": SecretsContext(),
    }


def trigger_names(execution: WorkflowExecution) -> dict[str, Any]:
    """`trigger`: the data that was given, beside the parts of the webhook if one started the run."""
    names: dict[str, Any] = {
        "source": execution.trigger_source,
        "event_type": execution.event_type,
        "type": execution.event_type,
        "headers": Headers([]),
        "query": {},
        "method": "",
        "id": _event_id(execution) if execution.event_type else None,
        "received_at": None,
    }
    if execution.webhook is not None:
        names = _request_names(execution.webhook)
    return {**names, "data": execution.trigger_data, "body": execution.trigger_data}


def _event_id(execution: WorkflowExecution) -> str:
    """A resumed run has the event of the run where it began."""
    while not execution.dedupe_key and execution.resumed_from is not None:
        execution = execution.resumed_from
    return execution.dedupe_key.removeprefix("event:")


def webhook_names(webhook: Webhook) -> dict[str, Any]:
    """`trigger` as a webhook gives it."""
    return {**_request_names(webhook), "data": webhook.body, "body": webhook.body}


def _request_names(webhook: Webhook) -> dict[str, Any]:
    return {
        "source": webhook.source,
        "event_type": webhook.event_type,
        "type": webhook.event_type,
        "headers": Headers(webhook.headers),
        "query": dict(webhook.query_params),
        "method": webhook.method,
        "id": webhook.pk,
        "received_at": webhook.received_at,
    }


def step_names(record: StepExecution) -> dict[str, Any]:
    """`steps.<id>` of a step that has ended."""
    return {
        "output": record.output,
        "status": record.status,
        "error": record.error,
        "attempts": record.attempt,
    }


def names_at(scope: Scope, *, variables: dict[str, Any], now: datetime) -> dict[str, Any]:
    """All names at one step. `now` is frozen when the step is first scheduled, so that a retry sees the same value."""
    return {**scope.names, "vars": variables, "steps": scope.outputs, "now": now}
