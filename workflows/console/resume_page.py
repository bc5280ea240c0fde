"""Resuming a run: from where, on which version, with what; shown before it happens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from automation_lab.core.console.forms import JSONObjectField, JSONTextField
from automation_lab.core.console.pages import PreviewedForm, page, row_or_404
from automation_lab.core.exceptions import AutomationLabError, Invalid
from workflows import resume as resumes
from workflows.models import WorkflowExecution

TEMPLATE = "workflows/resume.html"
MOST_CHOICES = 300
FIELDS = {"from": "start", "skip": "skip", "version": "version", "trigger_data": "trigger_data"}


class ResumeForm(PreviewedForm):
    start = forms.ChoiceField(
        label="From", widget=UnfoldAdminSelectWidget, help_text="Everything before it keeps its result."
    )
    version = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    edit_input = forms.BooleanField(
        label="With another input", required=False, widget=UnfoldBooleanSwitchWidget, help_text="The one below."
    )
    trigger_data = JSONTextField(label="Input", required=False)
    skip = JSONObjectField(
        label="Skip steps",
        required=False,
        help_text='The outputs of steps that are not to run, by path, such as {"charge": {"id": 7}}.',
    )

    def __init__(self, run: WorkflowExecution, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        steps = run.steps.order_by("position", "id").values_list("path", "status")[:MOST_CHOICES]
        self.fields["start"].choices = [  # type: ignore[attr-defined]  # of a ChoiceField
            (resumes.FROM_FAILED, "the steps that did not succeed"),
            (resumes.FROM_START, "the start"),
            *((path, f"{path} ({status})") for path, status in steps),
        ]
        same, latest = run.version.number, run.workflow.version
        self.fields["version"].choices = [  # type: ignore[attr-defined]  # of a ChoiceField
            (resumes.SAME, f"version {same}, as the run had it"),
            (resumes.LATEST, f"version {latest}, the latest" + (": the same" if same == latest else "")),
        ]

    def plan_for(self, run: WorkflowExecution) -> resumes.ResumePlan | None:
        """What the choices lead to; None with errors in the form when they lead nowhere."""
        chosen = self.cleaned_data
        try:
            return resumes.plan(
                execution=run,
                **{name: chosen[name] for name in ("start", "version", "skip", "trigger_data", "edit_input")},
            )
        except AutomationLabError as error:
            faults = error.errors if isinstance(error, Invalid) else [{"field": error.field, "detail": error.message}]
            for fault in faults:
                self.add_error(FIELDS.get(fault["field"]), fault["detail"])
            return None


def resume_view(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    run = row_or_404(model_admin, request, object_id)
    initial = {"start": request.GET.get("from", resumes.FROM_FAILED), "trigger_data": run.trigger_data, "skip": {}}
    form = ResumeForm(run, request.POST or None, initial=initial)
    plan = form.plan_for(run) if request.method == "POST" and form.is_valid() else None
    if plan is not None and form.is_previewed and request.POST.get("do") == "resume":
        return _resume(model_admin, request, run, plan)
    if plan is not None:
        form.note_previewed()
    buttons = [{"value": "preview", "title": "Show what would run", "variant": "default" if plan else "primary"}]
    if plan is not None:
        buttons.append({"value": "resume", "title": "Resume", "variant": "primary"})
    return page(
        model_admin, request, TEMPLATE, title=f"Resume run #{run.pk}", row=run, form=form, plan=plan, buttons=buttons
    )


def _resume(model_admin: Any, request: HttpRequest, run: WorkflowExecution, plan: resumes.ResumePlan) -> HttpResponse:
    with transaction.atomic():
        fresh = resumes.resume(execution=run, plan=plan, started_by=request.user.get_username())
        model_admin.log_addition(request, fresh, f"Resumed from run {run.pk}.")
    model_admin.message_user(request, f"Run #{fresh.pk} goes on from #{run.pk}.", messages.SUCCESS)
    return HttpResponseRedirect(model_admin.page_of(fresh))
