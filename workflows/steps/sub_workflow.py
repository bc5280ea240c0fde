"""The step type `sub_workflow`: a run of another workflow."""

from __future__ import annotations

import contextlib
from typing import Any

from automation_lab.core import clock, expressions
from automation_lab.core.exceptions import Conflict
from automation_lab.core.execution import queue
from automation_lab.core.execution.failures import RunError
from workflows.models import StepExecution, Workflow, WorkflowExecution, WorkflowVersion
from workflows.steps.base import StepContext, Wait, WaitingType
from workflows.triggering import starting
from workflows.waits import end_of_run

MAX_DEPTH = 5


class SubWorkflowStep(WaitingType):
    """Start the workflow and, with `wait`, go on when it has ended; the output is `{"execution_id", "status", "output"}`.

    `output` is what its `respond` or `stop` step gives. Its version is the current one, the one that was current when
    this workflow was saved (`pinned`), or a number.
    """

    key = "sub_workflow"
    title = "Sub-workflow"
    config_schema = {
        "type": "object",
        "required": ["workflow"],
        "additionalProperties": False,
        "properties": {
            "workflow": {"type": "string", "minLength": 1, "maxLength": 200, "title": "Workflow"},
            "version": {
                "anyOf": [{"enum": ["current", "pinned"]}, {"type": "integer", "minimum": 1}],
                "default": "current",
                "title": "Version",
            },
            "input": {"default": None, "title": "Input", "description": "Is `trigger.data` there."},
            "wait": {"type": "boolean", "default": True, "title": "Wait for its end"},
            "max_depth": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_DEPTH,
                "default": MAX_DEPTH,
                "title": "Depth",
            },
        },
    }

    def begin(self, *, config: dict[str, Any], context: StepContext) -> Wait:
        if expressions.contains_secret(config["input"]):
            raise RunError("A secret cannot be the input of a workflow.", code="expression.secret")
        version = _version(config, context.execution)
        _check_depth(version.workflow, context.execution, config["max_depth"])

        def start(step: StepExecution) -> None:
            _start(step, version, config["input"], context)

        return Wait(
            "child", until=None if config["wait"] else context.now, state={"wait": config["wait"]}, record=start
        )

    def resume(self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], signal: Any) -> Any:
        if not state["wait"]:
            return {"execution_id": state["execution_id"], "status": "pending", "output": None}
        if signal["status"] != WorkflowExecution.Status.SUCCESS:
            raise RunError(
                f"Run {signal['execution_id']} of {config['workflow']!r} {signal['status']}: {signal['error_message']}",
                code=f"runtime.child_{signal['status']}",
                detail={"execution_id": signal["execution_id"]},
            )
        return {name: signal[name] for name in ("execution_id", "status", "output")}

    def abandon(self, state: dict[str, Any]) -> None:
        run = WorkflowExecution.objects.filter(pk=state.get("execution_id", 0)).first() if state.get("wait") else None
        if run is not None:
            with contextlib.suppress(Conflict):  # it has ended meanwhile
                queue.cancel(run, now=clock.database_now(), reason="Cancelled with the run that has started it.")

    def warnings(self, config: dict[str, Any]) -> list[str]:
        name = config.get("workflow")
        if not isinstance(name, str) or expressions.has_expression(name):
            return []
        workflow = Workflow.objects.filter(name=name).first()
        if workflow is None:
            return [f"There is no workflow named {name!r} yet: the step fails until it exists."]
        return [] if workflow.enabled else [f"The workflow {name!r} is switched off: the step fails until it is on."]


def _version(config: dict[str, Any], parent: WorkflowExecution) -> WorkflowVersion:
    name, wanted = config["workflow"], config["version"]
    workflow = Workflow.objects.filter(name=name).first()
    if workflow is None:
        raise RunError(f"There is no workflow named {name!r}.", code="configuration.workflow")
    if not workflow.enabled:
        raise RunError(f"The workflow {name!r} is switched off.", code="configuration.workflow")
    versions = WorkflowVersion.objects.select_related("workflow").filter(workflow=workflow)
    if wanted == "pinned":
        versions = versions.filter(created_at__lte=parent.version.created_at)
    else:
        versions = versions.filter(number=workflow.version if wanted == "current" else wanted)
    version = versions.order_by("-number").first()
    if version is None:
        raise RunError(f"The workflow {name!r} has no version {wanted!r}.", code="configuration.workflow")
    return version


def _check_depth(workflow: Workflow, parent: WorkflowExecution, most: int) -> None:
    chain = [parent.workflow_id]
    ancestor = parent
    while ancestor.parent_id is not None and len(chain) <= MAX_DEPTH:
        ancestor = WorkflowExecution.objects.only("workflow_id", "parent_id").get(pk=ancestor.parent_id)
        chain.append(ancestor.workflow_id)
    if workflow.pk in chain:
        raise RunError(f"{workflow.name!r} would start itself again: a cycle.", code="configuration.cycle")
    if len(chain) >= most + 1:
        raise RunError(f"Sub-workflows are nested deeper than {most}.", code="limit.depth")


def _start(step: StepExecution, version: WorkflowVersion, data: Any, context: StepContext) -> None:
    """In the transaction that begins the wait: neither is there without the other, so it is started once."""
    parent = context.execution
    child = starting.build(version)
    child.trigger_source, child.trigger_data = "workflow", data
    child.parent_id, child.depth = parent.pk, parent.depth + 1
    child.started_by, child.correlation_id = parent.started_by, parent.correlation_id
    child.dedupe_key = f"step:{context.idempotency_key}"
    starting.start(child)
    step.state = {**(step.state or {}), "execution_id": child.pk}
    if child.is_finished:  # its trigger or its concurrency rule has ended it at once
        step.signal = end_of_run(child.pk, child.status)
    step.save(update_fields=["state", "signal"])
