"""Fixtures of the workflow tests: a worker without its process, a clock that can be moved, targets to call."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta

import pytest
from django.db import connection

from automation_lab.core import clock
from automation_lab.core.execution import recovery, runner
from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.http import HttpClient
from automation_lab.core.outbound import OutboundPolicy, parse_allow
from automation_lab.core.registry import executables
from automation_lab.core.tests.servers import StubServer, response
from workflows import services
from workflows.models import Workflow, WorkflowExecution
from workflows.tests.helpers import KIND, new_worker


@pytest.fixture
def worker(db):
    return new_worker()


@pytest.fixture
def travel(monkeypatch):
    """Moves the database's clock on, as the product reads it."""
    original, ahead = clock.database_now, timedelta()

    def by(**duration):
        nonlocal ahead
        ahead += timedelta(**duration)

    monkeypatch.setattr(clock, "database_now", lambda: original() + ahead)
    return by


@pytest.fixture
def drive(worker):
    """Does what a worker does with a run, until it has ended or is not due. Returns it as it is then."""

    def go(run):
        for _ in range(1_000):
            run = WorkflowExecution.objects.get(pk=run.pk)
            if run.status not in LIVE_STATUSES or run.due_at is None or run.due_at > clock.database_now():
                return run
            runner.run(KIND, run.pk, worker=worker)
        raise AssertionError("The run does not come to an end.")

    return go


@pytest.fixture
def start(db):
    """A pending run of a new workflow with `steps`."""

    def make(steps, *, trigger_data=None, **fields):
        number = Workflow.objects.count() + 1
        workflow = services.create_workflow(fields={"name": f"workflow {number}", "steps": steps, **fields})
        return services.start_execution(workflow=workflow, trigger_data=trigger_data)

    return make


@pytest.fixture
def run_workflow(start, drive):
    """Start a run of `steps` and go on with it as far as it goes by itself."""
    return lambda steps, **values: drive(start(steps, **values))


@pytest.fixture
def take_over(db):
    """What recovery does once the worker of a run is dead."""

    def lose(run):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = %s",
                [WorkflowExecution.objects.get(pk=run.pk).worker],
            )
        assert recovery.take_over_dead(executables.get(KIND), now=clock.database_now()) == 1

    return lose


@pytest.fixture
def serve(monkeypatch):
    """Starts a target on a free port that workflows may call. `answer` as of StubServer, or a JSON value."""
    with contextlib.ExitStack() as stack:
        allowed = []

        def listen(answer=None):
            if answer is None or isinstance(answer, dict | list):
                body = json.dumps({"ok": True} if answer is None else answer).encode()
                answer = response(200, [("Content-Type", "application/json")], body)
            server = StubServer(answer)
            stack.callback(server.close)
            allowed.append(f"127.0.0.1:{server.port}")
            http = HttpClient(OutboundPolicy(allow=parse_allow(",".join(allowed))))
            monkeypatch.setattr(executables.get(KIND), "http", http)
            return server

        yield listen
