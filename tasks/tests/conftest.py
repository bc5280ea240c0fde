"""Fixtures for running tasks against real servers on the loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from automation_lab.core.execution import runner
from automation_lab.core.execution.tests.helpers import KIND, add_worker
from automation_lab.core.http import HttpClient
from automation_lab.core.outbound import OutboundPolicy, parse_allow
from automation_lab.core.registry import ServerJob, executables, server_jobs
from automation_lab.core.tests.servers import StubServer, response
from tasks import services
from tasks.models import ScheduledTask, TaskExecution
from tasks.tests.running import JSON


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., StubServer]]:
    """Starts servers on the loopback that tasks may call, and no others."""
    servers: list[StubServer] = []

    def start(answer: Any = None) -> StubServer:
        servers.append(StubServer(answer or response(200, JSON, b'{"id": 7}')))
        allowed = parse_allow(", ".join(f"127.0.0.1:{server.port}" for server in servers))
        monkeypatch.setattr(executables.get(KIND), "http", HttpClient(OutboundPolicy(allow=allowed)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def worker() -> int:
    return add_worker()


@pytest.fixture
def run(worker) -> Callable[[ScheduledTask], TaskExecution]:
    """Runs a task as its worker does, once; the same execution again if one is given."""

    def run(task: ScheduledTask | TaskExecution, **given: Any) -> TaskExecution:
        execution = services.start_execution(task=task, **given) if isinstance(task, ScheduledTask) else task
        runner.run(KIND, execution.pk, worker=worker)
        return TaskExecution.objects.get(pk=execution.pk)

    return run


@pytest.fixture
def job(monkeypatch) -> list[dict[str, Any]]:
    """A server job that notes what it is run with."""
    calls: list[dict[str, Any]] = []
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"days": {"type": "integer", "minimum": 1, "default": 30}},
    }

    def work(arguments: dict[str, Any]) -> dict[str, Any]:
        calls.append(arguments)
        return {"deleted": 3}

    monkeypatch.setattr(server_jobs, "_entries", {"tidy": ServerJob(run=work, config_schema=schema, help="Tidies.")})
    return calls
