"""The public receiving endpoint: any sender, any content, outside the API's authentication, parsing and CSRF checks."""

from __future__ import annotations

import json
import logging
from typing import Any

from django.conf import settings
from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from automation_lab.core.api import problems
from automation_lab.core.client_address import client_address
from automation_lab.core.exceptions import AutomationLabError, Invalid, NotFound
from automation_lab.core.request_body import read_body
from inbox.incoming import IncomingRequest, read_request
from inbox.models import Source, Webhook
from inbox.presets import PRESETS
from inbox.receiving import limits
from inbox.receiving.handshakes import find_handshake
from inbox.receiving.sources import SourceChanged, find_source, forget
from inbox.receiving.storing import receive_webhook
from inbox.validators import is_source_name
from inbox.verification import judge

logger = logging.getLogger(__name__)
UNAVAILABLE = (OperationalError, InterfaceError)
BODILESS = (204, 205, 304)
NO_SOURCE = (
    "Nothing is received here: the name is unknown or switched off, or it is none: 1 to 64 lower-case letters, digits, "
    "- and _, not digits alone."
)


class MethodNotAllowed(AutomationLabError):
    """Answered as 405."""

    code = "method_not_allowed"

    def __init__(self, source: Source) -> None:
        self.allowed = ", ".join(source.allowed_methods)
        super().__init__(f"This source accepts {self.allowed}.")


@csrf_exempt
def receive(request: HttpRequest, name: str) -> HttpResponse:
    """Store one request of the source `name`. A 2xx is sent after the commit, never before."""
    try:
        response = _receive(request, name)
    except (AutomationLabError, DataError, *UNAVAILABLE) as exc:
        response = _refuse(request, exc)
    if request.method == "HEAD":
        response.content = b""
    return response


def _receive(request: HttpRequest, name: str) -> HttpResponse:
    source = _find_source(request, name)
    limits.take(limits.limits_for(source, client_address(request)))
    raw_body = read_body(request, source.max_body_bytes or settings.INBOX_MAX_BODY_BYTES)
    if not source.is_stored:
        limits.take([limits.unknown_bytes(len(raw_body))])
    received = read_request(request, raw_body)
    if received.chunked and not raw_body:
        raise Invalid(
            "The chunked body is empty or broken; an empty one has Content-Length: 0.", code="incomplete_body"
        )
    try:
        return _take_in(request, source, received)
    except SourceChanged:
        return _take_in(request, _find_source(request, name), received)


def _find_source(request: HttpRequest, name: str) -> Source:
    source = find_source(name) if is_source_name(name) else None
    if source and request.method not in source.allowed_methods:
        forget(name)  # it may have been allowed a moment ago
        source = find_source(name)
    if source is None:
        raise NotFound(NO_SOURCE)  # the same answer for a bad, an unknown and a disabled name
    if request.method not in source.allowed_methods:
        raise MethodNotAllowed(source)
    return source


def _take_in(request: HttpRequest, source: Source, received: IncomingRequest) -> HttpResponse:
    verdict = judge.verify(source, received)
    handshake = find_handshake(source, received, verdict)
    webhook = receive_webhook(request=received, source=source, verdict=verdict, handshake=handshake)
    if handshake:
        return handshake.response()
    if webhook.status == Webhook.Status.REJECTED:
        return _problem(request, 401, "not_accepted", "The signature is not accepted.")
    return _accept(webhook, source)


def _accept(webhook: Webhook, source: Source) -> HttpResponse:
    status = 200 if webhook.is_duplicate else 201
    if webhook.answer is not None:
        answer = webhook.answer()
        return _custom_response(answer, 200) if answer else _received(webhook, 202)
    if source.response:
        return _custom_response(source.response, status)
    if expected := PRESETS[source.scheme].answer_status:
        return HttpResponse(status=expected)
    return _received(webhook, status)


def _received(webhook: Webhook, status: int) -> HttpResponse:
    return JsonResponse(
        {"id": webhook.pk, "status": webhook.status, "duplicate": webhook.is_duplicate},
        status=status,
    )


def _custom_response(response: dict[str, Any], status: int) -> HttpResponse:
    body = response.get("body", "")
    is_text = isinstance(body, str)
    answer = HttpResponse(
        body if is_text else json.dumps(body),
        status=response.get("status", status),
        content_type="text/plain; charset=utf-8" if is_text else "application/json",
        # Whatever type it is given, a browser must not run it as a page of this site.
        headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"},
    )
    for header, value in response.get("headers", {}).items():
        answer[header] = value
    if answer.status_code in BODILESS:
        answer.content = b""
    return answer


def _method_not_allowed(request: HttpRequest, exc: MethodNotAllowed) -> HttpResponse:
    response = _problem(request, 405, exc.code, exc.message)
    response["Allow"] = exc.allowed
    return response


def _refuse(request: HttpRequest, exc: Exception) -> HttpResponse:
    if isinstance(exc, UNAVAILABLE):
        logger.warning("A webhook was answered 503: %s", exc)
    elif isinstance(exc, DataError):
        logger.error("A webhook could not be stored: %s", exc)
    if isinstance(exc, limits.RateLimited):
        return _too_many(request, exc)
    if isinstance(exc, MethodNotAllowed):
        return _method_not_allowed(request, exc)
    found = problems.describe(exc)
    assert found is not None  # noqa: S101 - every class caught above is described
    status, code, detail, _ = found
    response = _problem(request, status, code, detail)
    if status == 503:
        response["Retry-After"] = str(problems.DATABASE_RETRY_SECONDS)
    return response


def _too_many(request: HttpRequest, exc: limits.RateLimited) -> HttpResponse:
    response = _problem(request, 429, exc.code, exc.message)
    response["Retry-After"] = response["RateLimit-Reset"] = str(exc.retry_after)
    response["RateLimit-Limit"] = str(exc.limit.count)
    response["RateLimit-Remaining"] = "0"
    return response


def _problem(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    body = problems.problem(status=status, detail=detail, code=code, path=request.path)
    return JsonResponse(body, status=status, content_type=problems.CONTENT_TYPE)
