"""Every step type there is."""

from __future__ import annotations

from workflows.steps.api_call import ApiCallStep
from workflows.steps.approval import ApprovalStep
from workflows.steps.base import StepType, step_types
from workflows.steps.condition import ConditionStep
from workflows.steps.delay import DelayStep
from workflows.steps.email import EmailStep
from workflows.steps.emit_event import EmitEventStep
from workflows.steps.fail import FailStep
from workflows.steps.for_each import ForEachStep
from workflows.steps.log import LogStep
from workflows.steps.notify import NotifyStep
from workflows.steps.parallel import ParallelStep
from workflows.steps.respond import RespondStep
from workflows.steps.set import SetStep
from workflows.steps.stop import StopStep
from workflows.steps.sub_workflow import SubWorkflowStep
from workflows.steps.switch import SwitchStep
from workflows.steps.task import TaskStep
from workflows.steps.transform import TransformStep
from workflows.steps.validate import ValidateStep
from workflows.steps.wait_for_webhook import WaitForWebhookStep
from workflows.steps.webhook import WebhookStep
from workflows.steps.while_loop import WhileStep

# In the order in which the builder offers them.
CATALOGUE: tuple[StepType, ...] = (
    ApiCallStep(), WebhookStep(), EmailStep(), NotifyStep(), TaskStep(), SubWorkflowStep(), EmitEventStep(),
    ValidateStep(), SetStep(), TransformStep(), LogStep(),
    ConditionStep(), SwitchStep(), ForEachStep(), WhileStep(), ParallelStep(),
    DelayStep(), ApprovalStep(), WaitForWebhookStep(), RespondStep(), FailStep(), StopStep(),
)  # fmt: skip


def register() -> None:
    for step_type in CATALOGUE:
        step_types.register(step_type.key, step_type)
