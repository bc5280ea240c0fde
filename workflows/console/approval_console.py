"""Deciding about an approval in the console."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from automation_lab.core.console.pages import page, row_or_404
from automation_lab.core.exceptions import AutomationLabError, Invalid
from workflows import waits
from workflows.console.approval_forms import ApprovalForm
from workflows.models import StepExecution

TEMPLATE = "workflows/approval.html"


def approval_view(model_admin: Any, request: HttpRequest, object_id: int) -> HttpResponse:
    """GET shows what is to be decided, POST decides."""
    step = row_or_404(model_admin, request, object_id)
    if request.method != "POST":
        return _page(model_admin, request, step, ApprovalForm(step))
    approved = request.POST.get("decision") == "approved"
    form = ApprovalForm(step, request.POST, rejects=not approved)
    if request.POST.get("decision") not in ("approved", "rejected"):
        form.add_error(None, "Approve or reject: this says neither.")
    if not form.is_valid():
        return _page(model_admin, request, step, form)
    return _decide(model_admin, request, step, form, approved=approved)


def _decide(
    model_admin: Any, request: HttpRequest, step: StepExecution, form: ApprovalForm, *, approved: bool
) -> HttpResponse:
    word = "Approved" if approved else "Rejected"
    try:
        with transaction.atomic():
            waits.decide_approval(
                execution=step.execution,
                approved=approved,
                user=request.user,
                step=step.path,
                comment=form.cleaned_data["comment"],
                form=form.answers(),
            )
            model_admin.log_change(request, step.execution, f"{word} {step.path}.")
    except Invalid as error:
        form.add_faults(error)
        return _page(model_admin, request, step, form)
    except AutomationLabError as error:
        model_admin.message_user(request, error.message, messages.ERROR)
    else:
        model_admin.message_user(request, f"{word}.", messages.SUCCESS)
    return HttpResponseRedirect(model_admin.page_of(step.execution))


def _page(model_admin: Any, request: HttpRequest, step: StepExecution, form: ApprovalForm) -> HttpResponse:
    return page(
        model_admin,
        request,
        TEMPLATE,
        title=step.name or f"Approve {step.path}?",
        row=step,
        form=form,
        state=step.state or {},
        run=step.execution,
        is_waiting=step.type == "approval" and step.status == StepExecution.Status.WAITING and step.signal is None,
    )
