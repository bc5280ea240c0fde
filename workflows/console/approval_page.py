"""`/approve/{token}`: the page behind the one-time link of an approval, for people without an account here.

Whoever holds the token may decide, so it is all the proof there is: no session is read, and so no other site can make a
browser act with more than it was given. Only POST decides; programs that look at links in messages do nothing.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from automation_lab.core.exceptions import AutomationLabError, Conflict, Gone, Invalid, NotFound
from workflows import waits
from workflows.console.approval_forms import ApprovalForm
from workflows.models import StepExecution

TEMPLATE = "workflows/approve.html"
STATUSES: dict[type[AutomationLabError], int] = {NotFound: 404, Gone: 410, Conflict: 409}
TITLES = {404: "There is no such link", 409: "Not yet", 410: "This link is over"}


@csrf_exempt  # the token is the proof, and no cookie counts
@require_http_methods(["GET", "HEAD", "POST"])
def approve(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows what is to be decided; POST decides, once."""
    try:
        step = waits.approval_of(token)
        if step.status == StepExecution.Status.PENDING:
            raise Conflict("The run has not come to this step yet: reload this page in a moment.")
        return _decide(request, token, step) if request.method == "POST" else _page(request, step)
    except (NotFound, Gone, Conflict) as error:
        return _refusal(request, error)


def _decide(request: HttpRequest, token: str, step: StepExecution) -> HttpResponse:
    decision = request.POST.get("decision", "")
    form = ApprovalForm(step, request.POST, by_link=True, rejects=decision == "rejected")
    if decision not in ("approved", "rejected"):
        form.add_error(None, "Approve or reject: this says neither.")
    if form.is_valid():
        try:
            waits.decide_by_token(
                token=token,
                approved=decision == "approved",
                name=form.cleaned_data["name"],
                comment=form.cleaned_data["comment"],
                form=form.answers(),
            )
        except Invalid as error:
            form.add_faults(error)
        else:
            return _answer(request, {"title": f"You have {decision} this", "detail": "You can close this page."})
    return _page(request, step, form=form, status=400)


def _page(
    request: HttpRequest, step: StepExecution, *, form: ApprovalForm | None = None, status: int = 200
) -> HttpResponse:
    state = step.state or {}
    page = {
        "title": step.name or "Your approval is needed",
        "step": step,
        "workflow": step.execution.workflow.name,
        "message": state.get("message", ""),
        "decisions": state.get("decisions") or [],
        "required": state.get("required", 1),
        "form": form or ApprovalForm(step, by_link=True),
    }
    return _answer(request, page, status=status)


def _refusal(request: HttpRequest, error: AutomationLabError) -> HttpResponse:
    status = STATUSES[type(error)]
    return _answer(request, {"title": TITLES[status], "detail": error.message}, status=status)


def _answer(request: HttpRequest, page: dict[str, Any], *, status: int = 200) -> HttpResponse:
    response = render(request, TEMPLATE, page, status=status)
    response.headers["Referrer-Policy"] = "no-referrer"  # the address is the key
    return response
