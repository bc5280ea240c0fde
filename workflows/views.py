"""The public endpoint for callbacks: its link is the permission, so it stands outside the API's authentication."""

from __future__ import annotations

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from automation_lab.core.api import problems
from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.request_body import read_body
from inbox.incoming import read_request
from workflows import waits

RECEIVED = {"received": True}


@csrf_exempt
def callback(request: HttpRequest, token: str) -> HttpResponse:
    """Hand the request to the step that waits for it. A 2xx is sent after the commit, never before."""
    try:
        if request.method != "POST":
            return _not_post(request)
        raw_body = read_body(request, settings.INBOX_MAX_BODY_BYTES)
        answer = waits.receive_callback(token=token, request=read_request(request, raw_body))
    except (AutomationLabError, OperationalError, InterfaceError) as exc:
        return _refuse(request, exc)
    body = RECEIVED if answer.body is None else answer.body
    if isinstance(body, str):
        return HttpResponse(body, status=answer.status, content_type="text/plain; charset=utf-8")
    return JsonResponse(body, status=answer.status, safe=False)


def _refuse(request: HttpRequest, exc: Exception) -> HttpResponse:
    found = problems.describe(exc)
    assert found is not None  # noqa: S101 - every class caught above is described
    status, code, detail, _ = found
    response = _problem(request, status, code, detail)
    if status == 503:
        response["Retry-After"] = str(problems.DATABASE_RETRY_SECONDS)
    return response


def _not_post(request: HttpRequest) -> HttpResponse:
    response = _problem(request, 405, "method_not_allowed", "A callback is a POST.")
    response["Allow"] = "POST"
    return response


def _problem(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    # Without the path: it holds the token.
    body = problems.problem(status=status, detail=detail, code=code, path="/v1/callbacks")
    return JsonResponse(body, status=status, content_type=problems.CONTENT_TYPE)
