"""The demo's API log: the requests that brought the webhooks, and those of people and scripts that look at them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model

from apilogs import services
from apilogs.models import ApiLog
from automation_lab.demo.chance import PERIOD, Chance
from inbox.models import Webhook

LOOKS_PER_WEBHOOK = 3
RECEIVE_ROUTE = "/v1/webhooks/inbox/{name}"
ANSWERS = {"rejected": 401, "duplicate": 200}


@dataclass(frozen=True)
class Look:
    """A kind of request to the API, how often it comes, and how long it usually takes."""

    method: str
    path: str
    route: str
    weight: float
    typical_ms: float
    status: int = 200
    error: str = ""


LOOKS = (
    Look("GET", "/v1/webhooks/inbox", "/v1/webhooks/inbox", 20, 6),
    Look("GET", "/v1/webhooks/inbox/{n}", "/v1/webhooks/inbox/{id}", 14, 4),
    Look("PATCH", "/v1/webhooks/inbox/{n}", "/v1/webhooks/inbox/{id}", 3, 7),
    Look("GET", "/v1/tasks", "/v1/tasks", 10, 5),
    Look("GET", "/v1/tasks/executions", "/v1/tasks/executions", 12, 7),
    Look("POST", "/v1/tasks/4/executions", "/v1/tasks/{task_id}/executions", 2, 11, 202),
    Look("GET", "/v1/workflows", "/v1/workflows", 8, 6),
    Look("GET", "/v1/workflows/executions", "/v1/workflows/executions", 12, 8),
    Look("GET", "/v1/workflows/executions/{n}", "/v1/workflows/executions/{id}", 9, 9),
    Look("GET", "/v1/webhooks/sources", "/v1/webhooks/sources", 4, 4),
    Look("GET", "/v1/tasks/99", "/v1/tasks/{id}", 1.5, 4, 404),
    Look("POST", "/v1/tasks", "/v1/tasks", 1, 5, 400),
    Look("GET", "/v1/workflows?page=400", "/v1/workflows", 0.5, 3, 400),
    Look("GET", "/v1/workflows/executions", "/v1/workflows/executions", 0.4, 5_050, 503, "OperationalError"),
)
AGENTS = ("python-httpx/0.28.1", "curl/8.5.0", "Dashboard/1.4")


def create(webhooks: list[Webhook], chance: Chance) -> int:
    """Save the rows and their hourly figures; the number of rows."""
    user = get_user_model()._default_manager.filter(is_superuser=True).order_by("pk").first()
    reader = {"user_id": user.pk, "username": user.get_username()} if user else {}
    rows = [_received(webhook, chance) for webhook in webhooks]
    looks = chance.choices(LOOKS, [look.weight for look in LOOKS], k=LOOKS_PER_WEBHOOK * len(webhooks))
    rows += [_looked(look, reader, chance) for look in looks]
    rows.sort(key=lambda row: row.created_at)
    ApiLog.objects.bulk_create(rows, batch_size=500)
    services.roll_up(chance.now, since=chance.now - PERIOD - timedelta(hours=1))
    return len(rows)


def _received(webhook: Webhook, chance: Chance) -> ApiLog:
    """Without bodies and headers of value: the inbox has them."""
    status = ANSWERS.get("duplicate" if webhook.is_duplicate else webhook.status, 201)
    agent = next((value for name, value in webhook.headers if name == "User-Agent"), "")
    return _row(
        chance,
        correlation_id=webhook.correlation_id,
        method=webhook.method,
        path=webhook.path,
        route=RECEIVE_ROUTE,
        status_code=status,
        duration_ms=_duration(chance, 3),
        client_ip=webhook.remote_addr,
        user_agent=agent,
        request_size=webhook.size_bytes,
        response_size=52,
        created_at=webhook.received_at,
    )


def _looked(look: Look, reader: dict[str, Any], chance: Chance) -> ApiLog:
    path, _, query = look.path.replace("{n}", str(chance.randint(1, 400))).partition("?")
    agent = chance.choice(AGENTS)
    return _row(
        chance,
        correlation_id=chance.hex(32),
        method=look.method,
        path=path,
        route=look.route,
        query_params=[query.split("=")] if query else [],
        status_code=look.status,
        duration_ms=_duration(chance, look.typical_ms),
        client_ip="192.0.2.200",
        user_agent=agent,
        request_size=0 if look.method == "GET" else chance.randint(20, 900),
        response_size=chance.randint(300, 30_000) if look.status < 400 else 210,
        error=look.error,
        created_at=chance.instant(),
        **reader,
    )


def _row(chance: Chance, **values: Any) -> ApiLog:
    headers = [["Host", "lab.example.com"], ["User-Agent", values["user_agent"]]]
    answer = [["Content-Type", "application/json"], ["X-Request-ID", values["correlation_id"]]]
    return ApiLog(**{"query_params": [], "request_headers": headers, "response_headers": answer, **values})


def _duration(chance: Chance, typical_ms: float) -> float:
    return round(chance.lognormvariate(0, 0.5) * typical_ms, 3)
