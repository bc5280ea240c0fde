"""Gives every request its correlation id, and notes those of the API for the log."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.functional import SimpleLazyObject

from apilogs import writer
from apilogs.rows import Entry
from automation_lab.core import correlation
from automation_lab.core.client_address import client_address

logger = logging.getLogger(__name__)

ROOT = "/v1/"
OWN_PATH = "/v1/api-logs"
READING = ("GET", "HEAD", "OPTIONS")
# What these carry is secret itself, or kept elsewhere with rules of its own (the inbox).
WITHOUT_BODIES = re.compile(r"/v1/+(webhooks|secrets|tokens|channels|callbacks|api-logs)(/|$)")
ROW_WEIGHT = 1500  # bytes of an entry without what is counted

# The server puts the process environment into META, where HTTP_PROXY with its password would pass for a header.
ENVIRONMENT = frozenset(name for name in os.environ if name.startswith("HTTP_"))


class ApiLogMiddleware:
    """The outermost one. No fault of the log can reach the request."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started_at, started = time.time(), time.perf_counter()
        correlation_id = correlation.accept(request.META.get("HTTP_X_REQUEST_ID"), request.META.get("HTTP_TRACEPARENT"))
        with correlation.bind(correlation_id):
            response = self.get_response(request)
        response["X-Request-ID"] = correlation_id
        if is_logged(request):
            duration_ms = (time.perf_counter() - started) * 1000
            try:
                writer.record(entry(request, response, correlation_id, started_at, duration_ms))
            except Exception:
                logger.exception("A request could not be logged.")
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        request.error_class = _class_name(exception)  # type: ignore[attr-defined]


def is_logged(request: HttpRequest) -> bool:
    path = request.path
    if not path.startswith(ROOT) or not settings.API_LOG_ENABLED:
        return False
    return not (path.startswith(OWN_PATH) and request.method in READING)


def entry(
    request: HttpRequest, response: HttpResponseBase, correlation_id: str, started_at: float, duration_ms: float
) -> Entry:
    meta = request.META
    query: str = meta.get("QUERY_STRING", "")
    headers = [(name, value) for name, value in meta.items() if name.startswith("HTTP_") and name not in ENVIRONMENT]
    content_type = meta.get("CONTENT_TYPE", "")
    if content_type:
        headers.append(("CONTENT_TYPE", content_type))
    response_headers = list(response.items())
    # Only what a view has read already: reading here could block, or take the body from the server.
    request_body: bytes | None = request.__dict__.get("_body")
    response_body = response.content if isinstance(response, HttpResponse) else None
    request_size = _size(meta.get("CONTENT_LENGTH"), request_body)
    response_size = _size(response.get("Content-Length"), response_body)
    if not keeps_bodies(request.path, response.status_code):
        request_body = response_body = None
    weight = ROW_WEIGHT + len(request.path) + len(query) + len(request_body or b"") + len(response_body or b"")
    user_id, username = caller(request)
    match = request.resolver_match
    return Entry(
        correlation_id=correlation_id,
        started_at=started_at,
        duration_ms=duration_ms,
        method=request.method or "",
        path=request.path,
        route=match.route if match else "",
        query=query,
        status_code=response.status_code,
        request_headers=headers,
        response_headers=response_headers,
        request_body=request_body,
        response_body=response_body,
        request_type=content_type,
        response_type=response.get("Content-Type", ""),
        request_size=request_size,
        response_size=response_size,
        user_id=user_id,
        username=username,
        client_ip=client_address(request),
        error=error_of(request, response),
        weight=weight + sum(len(value) for _, value in headers) + sum(len(value) for _, value in response_headers),
    )


def keeps_bodies(path: str, status_code: int) -> bool:
    mode = settings.API_LOG_BODIES
    wanted = mode == "all" or (mode == "errors" and status_code >= 400)
    return wanted and not WITHOUT_BODIES.match(path)


def caller(request: HttpRequest) -> tuple[int | None, str]:
    """Who was signed in, if the view asked: looking it up here would cost a query. DRF sets the user of its tokens too."""
    user = request.__dict__.get("user")
    if isinstance(user, SimpleLazyObject):
        user = request.__dict__.get("_cached_user")
    if user is None or isinstance(user, AnonymousUser):
        return None, ""
    return user.pk, user.get_username()


def error_of(request: HttpRequest, response: HttpResponseBase) -> str:
    """The class of what the view raised: as Django saw it, or (5xx only) as the API's error handler did."""
    raised: str = getattr(request, "error_class", "")
    return raised or (getattr(response, "error_class", "") if response.status_code >= 500 else "")


def _size(content_length: str | None, body: bytes | None) -> int:
    """What was announced, unless the body is at hand."""
    if body is not None:
        return len(body)
    return int(content_length) if content_length and content_length.isascii() and content_length.isdigit() else 0


def _class_name(exception: Exception) -> str:
    kind = type(exception)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
