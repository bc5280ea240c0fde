"""Addresses that behave in the ways the log has to cope with."""

from __future__ import annotations

from typing import Any

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response

from automation_lab.core import correlation
from automation_lab.core.api.viewsets import LabAPIView


def echo(request: HttpRequest, pk: int = 0, **kwargs: Any) -> HttpResponse:
    status = int(request.GET.get("status", 200))
    return HttpResponse(request.body, status=status, content_type=request.content_type or "application/json")


def ignore_body(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"correlation_id": correlation.current()}, status=400)


def fail(request: HttpRequest) -> HttpResponse:
    raise LookupError("something private")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"a", b"b"]), status=400)


class DatabaseAway(LabAPIView):
    scope_area = "logs"

    def get(self, request: Request) -> Response:
        raise OperationalError("server closed the connection unexpectedly")


urlpatterns = [
    path("v1/echo/<int:pk>", echo),
    path("v1/webhooks/inbox/<str:source>", echo),
    path("v1/secrets", echo),
    path("v1/tokens/<str:id>", echo),
    path("v1/callbacks/<str:token>", echo),
    path("v1/ignore-body", ignore_body),
    path("v1/fail", fail),
    path("v1/stream", stream),
    path("v1/away", DatabaseAway.as_view()),
    path("healthz", ignore_body),
    path("v1/", include("apilogs.urls")),
]
