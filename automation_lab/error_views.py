"""Answers to errors outside the API's views: problem documents below /v1/, plain pages elsewhere."""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse, JsonResponse

from automation_lab.core.api.problems import CONTENT_TYPE, DATABASE_RETRY_SECONDS, describe, problem, wants_problem
from automation_lab.core.api.renderers import render_problem_page


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 400, "bad_request", "The request is malformed.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 403, "permission_denied", "You may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 404, "not_found", "There is nothing at this address.")


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
