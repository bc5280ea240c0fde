"""Trying a workflow without doing anything: with a stored webhook or with data that is typed in."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from automation_lab.core.admin import Panel
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import JSONObjectField, JSONTextField, add_errors
from automation_lab.core.console.pages import page, row_or_404
from automation_lab.core.exceptions import AutomationLabError
from inbox.models import Webhook
from workflows.console.step_tree import depth_of, parent_of
from workflows.models import Workflow
from workflows.running import rehearsal

TEMPLATE = "workflows/dry_run.html"
OFFERED_WEBHOOKS = 10
OPEN_STEPS = 20
MAX_ID = 2**63 - 1


class DryRunForm(forms.Form):
    webhook = forms.IntegerField(
        label="Stored webhook",
        required=False,
        min_value=1,
        max_value=MAX_ID,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Its id. Empty: the data below.",
    )
    trigger_data = JSONTextField(label="Input", required=False, help_text="JSON that steps read as trigger.data.")
    outputs = JSONObjectField(
        required=False,
        help_text='What steps with outside effects are to give, by step id; else that of the last success. {"charge": {"id": 7}}',
    )

    def clean_webhook(self) -> Webhook | None:
        number = self.cleaned_data["webhook"]
        webhook = Webhook.objects.filter(pk=number).first() if number else None
        if number and webhook is None:
            raise forms.ValidationError(f"There is no webhook #{number}.")
        return webhook


def dry_run_view(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """GET asks, POST tries; nothing is stored and nothing outside is touched."""
    workflow = row_or_404(model_admin, request, object_id)
    initial: dict[str, Any] = {"webhook": request.GET.get("webhook"), "trigger_data": {}, "outputs": {}}
    form = DryRunForm(request.POST or None, initial=initial)
    if not request.user.has_perm("inbox.view_webhook"):
        del form.fields["webhook"]
    result = _result(form, workflow) if request.method == "POST" and form.is_valid() else None
    return page(
        model_admin,
        request,
        TEMPLATE,
        title=f"Dry run of {workflow.name}",
        row=workflow,
        form=form,
        result=result,
        panels=_panels(result) if result else [],
        offered=_offered(workflow) if "webhook" in form.fields else [],
        buttons=[{"value": "run", "title": "Try it", "variant": "primary"}],
    )


def _result(form: DryRunForm, workflow: Workflow) -> dict[str, Any] | None:
    chosen = form.cleaned_data
    try:
        result = rehearsal.dry_run(
            workflow=workflow,
            trigger_data=chosen["trigger_data"],
            webhook=chosen.get("webhook"),
            outputs=chosen["outputs"],
        )
    except AutomationLabError as error:
        add_errors(form, error)
        return None
    return {**result, "label": show.state(result["status"])}


def _offered(workflow: Workflow) -> list[Webhook]:
    """The latest webhooks from the source of the trigger, else the latest of all."""
    source = workflow.trigger_config.get("source") if isinstance(workflow.trigger_config, dict) else None
    webhooks = Webhook.objects.without_bodies().order_by("-id")
    return list((webhooks.filter(source=source) if isinstance(source, str) else webhooks)[:OFFERED_WEBHOOKS])


def _panels(result: dict[str, Any]) -> list[Panel]:
    steps = result["step_results"]
    lines = [_line(step) for step in steps]
    context = {"lines": lines, "are_open": len(lines) <= OPEN_STEPS}
    return [
        Panel(
            "Steps",
            body=render_to_string("workflows/rehearsed.html", context) if lines else "",
            empty="No step would run.",
        ),
        Panel("Variables at the end", body=show.json_view(result["variables"])),
        Panel(
            "Log",
            ["Level", "Step", "Text"],
            [[show.state(line["level"]), line["path"], show.preformatted(line["text"])] for line in result["logs"]],
        ),
    ]


def _line(step: dict[str, Any]) -> dict[str, Any]:
    parts = [("Rendered config", step["input"]), ("Output", step["output"])]
    return {
        **step,
        "depth": depth_of(step["path"]),
        "branch": parent_of(step["path"])[1],
        "type": show.tag(step["type"]),
        "status": show.state(step["status"]),
        "error": (step["error"] or {}).get("message", ""),
        "parts": [(title, show.json_view(value)) for title, value in parts if value is not None],
    }
