"""Answers to errors outside the API's views: problem documents below /v1/, plain pages elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from automation_lab.core.api.problems import CONTENT_TYPE, DATABASE_RETRY_SECONDS, describe, problem, wants_problem
from automation_lab.core.api.renderers import render_problem_page


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 400, "bad_request", "The request is malformed.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    detail = "Your user may not do this. An admin can add you to a group that may."
    return _answer(request, 403, "permission_denied", detail)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's hook for forms that another site, or an old page, may have sent."""
    detail = (
        f"This form was not accepted: {reason.rstrip('.')}. Go back, open the page anew and repeat; cookies must be "
        "allowed. Behind a proxy, PUBLIC_URL must be the address in the browser."
    )
    return _answer(request, 403, "csrf", detail)


def locked_out(request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None) -> HttpResponse:
    """The hook of axes."""
    seconds = round(settings.AXES_COOLOFF_TIME * 3600)
    detail = (
        f"Too many sign-ins failed. Wait {seconds // 60} minutes without another try, or let an admin delete the entry "
        "under Refused sign-ins."
    )
    answer = _answer(request, settings.AXES_HTTP_RESPONSE_CODE, "locked_out", detail)
    answer["Retry-After"] = str(seconds)
    return answer


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    below_v1 = " /docs describes those that there are." if wants_problem(request) else ""
    return _answer(request, 404, "not_found", f"There is nothing at this address.{below_v1}")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls this while the exception is being handled; a database that is away is worth a repeat, so 503."""
    exc = sys.exc_info()[1]
    found = describe(exc) if exc else None
    if found and found[0] == 503:
        response = _answer(request, *found[:3])
        response["Retry-After"] = str(DATABASE_RETRY_SECONDS)
        return response
    return _answer(request, 500, "server_error", "This is an error of ours; it has been logged.")


def _answer(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    body = problem(status=status, detail=detail, code=code, path=request.path)
    if wants_problem(request):
        return JsonResponse(body, status=status, content_type=CONTENT_TYPE)
    return HttpResponse(render_problem_page(body, request), status=status)
