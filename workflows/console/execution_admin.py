"""Runs of workflows in the console: what each step got and gave, how long it took, what it logged."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from automation_lab.core.admin import Panel, confirmation, json_column, panel_of, section, state_column
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import JSONTextField, TimeRangeFilter
from automation_lab.core.execution.admin import ExecutionAdmin, cancel_action, reference_column
from workflows import services
from workflows.console import (
    step_admin,  # noqa: F401 - registers the steps
    timeline,
)
from workflows.console.resume_page import resume_view
from workflows.models import WorkflowExecution

LOG_LINES = 200
PANEL_ROWS = 20


class DecisionForm(BaseDialogForm):
    decision = forms.ChoiceField(
        choices=[("retry", "do it again"), ("skip", "skip it, with the output below"), ("fail", "let it fail")],
        widget=UnfoldAdminSelectWidget,
    )
    step = forms.CharField(
        required=False, max_length=500, widget=UnfoldAdminTextInputWidget, help_text="Its path, when several wait."
    )
    output = JSONTextField(required=False, help_text="JSON, for the steps that read it.")


@admin.register(WorkflowExecution)
class WorkflowExecutionAdmin(ExecutionAdmin):
    list_display = [
        "show_id",
        "show_status",
        "show_workflow",
        "show_trigger",
        "show_progress",
        "show_duration",
        "show_created_at",
        "show_error_start",
    ]
    list_filter = [
        ("status", ChoicesDropdownFilter),
        ("waiting_for", ChoicesDropdownFilter),
        ("workflow", AutocompleteSelectFilter),
        ("created_at", TimeRangeFilter),
    ]
    list_select_related = ["workflow", "version"]
    list_defer = ["trigger_data", "variables", "output", "workflow__steps", "workflow__variables", "version__steps"]
    actions = ["cancel_selected"]
    actions_detail = ["decide", "cancel", "resume"]
    fieldsets = [
        section(
            None,
            "show_status|show_waiting_for show_workflow|show_version show_trigger|show_webhook show_progress|show_duration "
            "show_created_at|show_finished_at show_parent|show_resumed_from show_trace|idempotency_key show_error",
        ),
        section("Data", "show_trigger_data show_variables show_output"),
        section(
            "Timing",
            "show_started_at|show_due_at show_cancel_requested_at|show_deadline_at",
        ),
        section("Engine", "attempt|epoch worker|job_id priority|depth dedupe_key", collapsed=True),
    ]

    show_waiting_for = state_column("waiting_for", "Waiting for")
    show_trigger_data = json_column("trigger_data")
    show_variables = json_column("variables")
    show_output = json_column("output")
    show_webhook = reference_column("webhook", "Webhook")
    show_parent = reference_column("parent", "Called by")
    show_resumed_from = reference_column("resumed_from", "Resumes")

    cancel = cancel_action(
        "Cancel this run", "The step that is under way is cut off; no other begins.", "Cancel the run"
    )

    @display(description="Workflow")
    def show_workflow(self, run: WorkflowExecution) -> SafeString:
        return show.object_link("workflows.workflow", run.workflow_id, run.workflow.name)

    @display(description="Version")
    def show_version(self, run: WorkflowExecution) -> SafeString:
        return show.object_link("workflows.workflowversion", run.version_id, run.version.number)

    @display(description="Trigger")
    def show_trigger(self, run: WorkflowExecution) -> str:
        return run.trigger_source

    @display(description="Steps")
    def show_progress(self, run: WorkflowExecution) -> Any:
        done = f"{run.current_step} of {run.total_steps}"
        return show.joined([done, show.label(f"waits: {run.waiting_for}", "warn")]) if run.waiting_for else done

    def offers(self, instance: WorkflowExecution, name: str) -> bool:
        if name == "decide":
            return instance.waiting_for == WorkflowExecution.WaitingFor.DECISION
        return instance.is_finished == (name == "resume")

    def cancel_one(self, execution: WorkflowExecution) -> None:
        services.cancel_execution(execution=execution)

    @action(
        description="Decide",
        url_path="decide",
        icon="alt_route",
        variant=ActionVariant.PRIMARY,
        permissions=["cancel"],
        dialog=confirmation(
            "What became of the step?",
            "It was cut off while it had an effect outside, so whether that happened is unknown here.",
            "Decide",
            DecisionForm,
        ),
    )
    def decide(self, request: HttpRequest, form: DecisionForm, object_id: str) -> HttpResponse:
        answer = form.cleaned_data

        def decide(run: WorkflowExecution) -> str:
            services.decide(
                execution=run,
                action=answer["decision"],
                step=answer["step"],
                output=answer["output"],
                author=request.user.get_username(),
            )
            return f"Decided: {answer['decision']} {answer['step']}".strip()

        return self.act(request, object_id, decide)

    @action(description="Resume", url_path="resume", icon="resume", permissions=["cancel"])
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return resume_view(self, request, object_id)

    def get_panels(self, request: HttpRequest, instance: WorkflowExecution) -> list[Panel]:
        now = timezone.now()
        may_decide = self.has_cancel_permission(request)
        panels = [timeline.step_panel(instance, now=now), self._log(instance)]
        optional = [self._children(instance), self._resumes(instance)]
        if not instance.is_finished:
            panels.insert(0, timeline.approvals_panel(instance, may_decide=may_decide, now=now))
        return [panel for panel in [*panels, *optional] if panel.rows or panel.body or panel.title in ("Steps", "Log")]

    def _log(self, run: WorkflowExecution) -> Panel:
        return panel_of(
            "Log",
            ["When", "Level", "Step", "Text"],
            run.log_lines.order_by("epoch", "seq"),
            lambda line: [show.clock(line.at), show.state(line.level), line.path, show.preformatted(line.text)],
            limit=LOG_LINES,
            url=show.list_url("workflows.workflowlog", execution__id__exact=run.pk),
        )

    def _children(self, run: WorkflowExecution) -> Panel:
        return _related_runs("Called workflows", run.children, parent__id__exact=run.pk)

    def _resumes(self, run: WorkflowExecution) -> Panel:
        return _related_runs("Resumed by", run.resumes, resumed_from__id__exact=run.pk)


def _related_runs(title: str, runs: Any, **filters: Any) -> Panel:
    return panel_of(
        title,
        ["Run", "Status", "Workflow", "Duration", "Created"],
        runs.select_related("workflow").order_by("-id").defer("trigger_data", "variables", "output", "workflow__steps"),
        lambda run: [
            show.object_link("workflows.workflowexecution", run.pk, f"#{run.pk}"),
            show.state(run.status),
            run.workflow.name,
            show.duration(run.duration_ms),
            show.when(run.created_at),
        ],
        limit=PANEL_ROWS,
        url=show.list_url("workflows.workflowexecution", **filters),
    )
