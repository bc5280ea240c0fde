from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import factory

from apilogs.models import ApiLog
from apilogs.rows import Entry


class ApiLogFactory(factory.django.DjangoModelFactory[ApiLog]):
    class Meta:
        model = ApiLog

    correlation_id = factory.Sequence("correlation-{}".format)
    method = "GET"
    path = "/v1/tasks"
    route = "/v1/tasks"
    query_params: list[Any] = []
    status_code = 200
    request_headers: list[Any] = []
    response_headers: list[Any] = []
    duration_ms = 5.0
    request_size = 0
    response_size = 0
    created_at = factory.LazyFunction(lambda: datetime.now(UTC))


def make_entry(**changes: Any) -> Entry:
    """What the middleware takes down of a plain GET."""
    values: dict[str, Any] = {
        "correlation_id": "correlation-1",
        "started_at": time.time(),
        "duration_ms": 1.5,
        "method": "GET",
        "path": "/v1/tasks/7",
        "route": "v1/tasks/<int:pk>",
        "query": "",
        "status_code": 200,
        "request_headers": [("HTTP_HOST", "localhost:8000")],
        "response_headers": [("Content-Type", "application/json")],
        "request_body": None,
        "response_body": None,
        "request_type": "",
        "response_type": "application/json",
        "request_size": 0,
        "response_size": 2,
        "user_id": None,
        "username": "",
        "client_ip": "127.0.0.1",
        "error": "",
        "weight": 1000,
    }
    return Entry(**{**values, **changes})
