"""The step type `task`: a run of a scheduled task."""

from __future__ import annotations

import contextlib
from typing import Any

from automation_lab.core import expressions
from automation_lab.core.exceptions import Conflict
from automation_lab.core.execution.failures import RunError
from tasks import services as tasks
from tasks.commands.access import is_command
from tasks.models import ScheduledTask, TaskExecution
from workflows.models import StepExecution
from workflows.steps.base import StepContext, Wait, WaitingType
from workflows.waits import TASK_KEY, end_of_task


class TaskStep(WaitingType):
    """Run the task, whether its schedule is on or off, and go on when it has ended; the output is that of the run."""

    key = "task"
    title = "Task"
    config_schema = {
        "type": "object",
        "required": ["task"],
        "additionalProperties": False,
        "properties": {
            "task": {"type": "string", "minLength": 1, "maxLength": 200, "title": "Task"},
            "args": {"type": "object", "default": {}, "title": "Input", "description": "Is `input` in the task."},
        },
    }

    def begin(self, *, config: dict[str, Any], context: StepContext) -> Wait:
        if expressions.contains_secret(config["args"]):
            raise RunError("A secret cannot be the input of a task.", code="expression.secret")
        task = ScheduledTask.objects.filter(name=config["task"]).first()
        if task is None or task.archived_at is not None:
            raise RunError(f"There is no task named {config['task']!r}.", code="configuration.task")
        if is_command(task.task_type, task.config):
            # Whoever may edit workflows need not have the permission to run commands.
            raise RunError("A task that runs a command is not started by workflows.", code="authorization.command")

        def start(step: StepExecution) -> None:
            _start(step, task, config["args"], context.generation)

        return Wait("child", record=start)

    def resume(self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], signal: Any) -> Any:
        if signal["status"] != TaskExecution.Status.SUCCESS:
            raise RunError(
                f"Run {signal['execution_id']} of task {config['task']!r} {signal['status']}: {signal['error_message']}",
                code=f"runtime.task_{signal['status']}",
                detail={"execution_id": signal["execution_id"]},
            )
        return signal["output"]

    def abandon(self, state: dict[str, Any]) -> None:
        run = TaskExecution.objects.filter(pk=state.get("execution_id", 0)).first()
        if run is not None:
            with contextlib.suppress(Conflict):  # it has ended meanwhile
                tasks.cancel_execution(execution=run)

    def warnings(self, config: dict[str, Any]) -> list[str]:
        name = config.get("task")
        if not isinstance(name, str) or expressions.has_expression(name):
            return []
        if ScheduledTask.objects.filter(name=name, archived_at__isnull=True).exists():
            return []
        return [f"There is no task named {name!r} yet: the step fails until it exists."]


def _start(step: StepExecution, task: ScheduledTask, args: dict[str, Any], generation: int) -> None:
    """In the transaction that begins the wait, so it is started once."""
    run = tasks.start_execution(
        task=task,
        trigger=TaskExecution.Trigger.WORKFLOW,
        input_data=args,
        idempotency_key=f"{TASK_KEY}{step.pk}:{generation}",
    )
    step.state = {**(step.state or {}), "execution_id": run.pk}
    if run.is_finished:
        step.signal = end_of_task(run.pk, run.status)
    step.save(update_fields=["state", "signal"])
