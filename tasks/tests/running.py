"""What the tests of running tasks share: tasks that call loopback servers, their answers, and what is stored of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from django.contrib.admin.models import LogEntry

from automation_lab.core.execution.tests.helpers import jobs
from automation_lab.core.tests.servers import StubServer, response
from tasks import services
from tasks.models import ScheduledTask, TaskAttempt, TaskExecution, TaskLog

AT_ONCE = {"delay_seconds": 0, "jitter": "none"}
CANARY = "canary-4f9c21e07b"
JSON = [("Content-Type", "application/json")]


def api_call(server: StubServer, *, policy: dict[str, Any] | None = None, **config: Any) -> ScheduledTask:
    fields = {"name": f"call {server.port} {config}"[:200], "task_type": "api_call", "retry_policy": policy or {}}
    return services.create_task(fields={**fields, "config": {"url": f"{server.url}/hook", **config}})


def answers(*statuses: int) -> Callable[[Any, bytes], None]:
    """One status after the other; the last one for ever."""
    left = list(statuses)

    def answer(connection: Any, request: bytes) -> None:
        connection.sendall(response(left.pop(0) if len(left) > 1 else left[0], JSON, b'{"id": 7}'))

    return answer


def silence(connection: Any, request: bytes) -> None:
    """Waits until the caller hangs up."""
    connection.recv(1)


def echo(connection: Any, request: bytes) -> None:
    """Sends back what it was sent, in a few forms."""
    text = request.decode("latin-1")
    body = json.dumps({"request": text, "hex": request.hex(), CANARY: [text]}).encode()
    connection.sendall(response(200, JSON, body))


def header(request: bytes, name: str) -> str | None:
    found = re.search(rf"(?i)\r\n{name}: ([^\r]*)".encode(), request)
    return found[1].decode() if found else None


def body(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def texts(execution: TaskExecution) -> str:
    return "\n".join(execution.log_lines.values_list("text", flat=True))


def everything_stored() -> str:
    models = [TaskExecution, TaskAttempt, TaskLog, ScheduledTask, LogEntry]
    return json.dumps([[list(model.objects.values()) for model in models], jobs()], default=str)
