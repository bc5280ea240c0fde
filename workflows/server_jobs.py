"""What tasks of type `cron` may ask of workflows."""

from __future__ import annotations

from typing import Any

from automation_lab.core.exceptions import NotFound
from automation_lab.core.registry import ServerJob
from workflows import services
from workflows.models import Workflow


def _start(arguments: dict[str, Any]) -> dict[str, Any]:
    workflow = Workflow.objects.filter(name=arguments["workflow"]).first()
    if workflow is None:
        raise NotFound(f"There is no workflow named {arguments['workflow']!r}.", field="workflow")
    execution = services.start_execution(workflow=workflow, trigger_source="schedule", trigger_data=arguments["data"])
    return {"workflow": workflow.name, "execution_id": execution.pk}


START_WORKFLOW = ServerJob(
    run=_start,
    config_schema={
        "type": "object",
        "required": ["workflow"],
        "additionalProperties": False,
        "properties": {
            "workflow": {"type": "string", "minLength": 1, "maxLength": 200, "title": "Workflow"},
            "data": {"type": "object", "default": {}, "title": "Trigger data"},
        },
    },
    help="Start a workflow; the task is over when its run is queued.",
)
