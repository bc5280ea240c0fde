"""The replay targets `workflows` (those that the webhook matches now) and `workflow` (a chosen one).

A replay is a run of its own, with its own dedupe key; the status of the webhook follows the newest run of each workflow.
"""

from __future__ import annotations

import copy
from typing import Any

from django.db.models import QuerySet

from automation_lab.core.exceptions import Conflict, Invalid, NotFound
from automation_lab.core.expressions import ExpressionError
from automation_lab.core.registry import ReplayTarget
from inbox.models import Replay, Webhook
from inbox.receiving.handshakes import FLAG as HANDSHAKE
from workflows import outcomes, services
from workflows.models import Workflow, WorkflowExecution, WorkflowVersion
from workflows.triggering import starting, triggers

PERMISSION = "workflows.add_workflowexecution"
REPLAY, EDITED_REPLAY = "replay", "replay_edited"


def check_matching(options: dict[str, Any]) -> dict[str, Any]:
    _refuse_others(options, ("body",))
    return options


def check_chosen(options: dict[str, Any]) -> dict[str, Any]:
    """Raises NotFound for an unknown workflow and Conflict for one that is switched off."""
    if "workflow" not in options:
        raise Invalid("Give the id of the workflow.", field="workflow", code="required")
    _refuse_others(options, ("workflow", "body"))
    _chosen_version(options["workflow"])
    return options


def start_matching(webhook: Webhook, replay: Replay) -> list[WorkflowExecution]:
    """A run of every enabled workflow that the webhook, with the edited body if there is one, matches."""
    _check_accepted(webhook)
    seen = _as_replayed(webhook, replay)
    wanted = [(version, reason) for version in triggers.webhook_versions() for reason in _reasons(version, seen)]
    if not wanted:
        raise Conflict("No enabled workflow matches this webhook.")
    runs = [_start(version, webhook, replay, reason_to_fail=reason) for version, reason in wanted]
    outcomes.settle_webhook(webhook.pk)
    return runs


def start_chosen(webhook: Webhook, replay: Replay) -> list[WorkflowExecution]:
    _check_accepted(webhook)
    run = _start(_chosen_version(replay.options["workflow"]), webhook, replay)
    outcomes.settle_webhook(webhook.pk)
    return [run]


def executions(replay: Replay) -> QuerySet[WorkflowExecution]:
    return WorkflowExecution.objects.filter(
        webhook_id__in=replay.webhook_ids, dedupe_key__startswith=f"replay:{replay.pk}:"
    )


def _start(
    version: WorkflowVersion, webhook: Webhook, replay: Replay, *, reason_to_fail: str = ""
) -> WorkflowExecution:
    edited = "body" in replay.options
    execution = starting.build(version)
    execution.trigger_source = EDITED_REPLAY if edited else REPLAY
    execution.trigger_data = replay.options["body"] if edited else webhook.body
    execution.webhook = webhook
    execution.dedupe_key = f"replay:{replay.pk}:{webhook.pk}"
    execution.depth = triggers.depth_of(webhook)
    return starting.start(execution, reason_to_fail=reason_to_fail)


def _reasons(version: WorkflowVersion, webhook: Webhook) -> list[str]:
    """Empty if the version does not match; else why its run fails at once, mostly an empty text."""
    try:
        return [""] if triggers.matches(version.workflow.trigger_config, webhook) else []
    except ExpressionError as error:
        return [f"The filter failed: {error.message}"]


def _chosen_version(workflow_id: int) -> WorkflowVersion:
    workflow = Workflow.objects.filter(pk=workflow_id).first()
    if workflow is None:
        raise NotFound(f"There is no workflow {workflow_id}.", field="workflow")
    if not workflow.enabled:
        raise Conflict("This workflow is switched off: enable it first.", field="workflow")
    return services.current_version(workflow)


def _check_accepted(webhook: Webhook) -> None:
    if webhook.status == Webhook.Status.REJECTED:
        raise Conflict("A rejected webhook starts no workflow: nobody knows who has sent it.")
    if HANDSHAKE in webhook.flags:
        raise Conflict("A handshake starts no workflow.")


def _as_replayed(webhook: Webhook, replay: Replay) -> Webhook:
    if "body" not in replay.options:
        return webhook
    seen = copy.copy(webhook)
    seen.body = replay.options["body"]
    return seen


def _refuse_others(options: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(options) - {*known, "mode"})
    if unknown:
        raise Invalid(f"Only for the target url: {', '.join(unknown)}.", field=unknown[0])


MATCHING = ReplayTarget(check_matching, start_matching, executions, permission=PERMISSION, scope_area="workflows")
CHOSEN = ReplayTarget(check_chosen, start_chosen, executions, permission=PERMISSION, scope_area="workflows")
