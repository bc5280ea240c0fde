"""A webhook runs through all four apps: real web, worker and database processes, and a local target."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from automation_lab import tokens
from automation_lab.core.tests.servers import StubServer, response
from automation_lab.serving import servers
from automation_lab.serving.embedded_postgres import DATABASE, USER, EmbeddedPostgres
from automation_lab.tests.servers import granian_server, worker_process
from automation_lab.tests.waiting import eventually

pytestmark = pytest.mark.processes
with_database = pytest.mark.django_db(transaction=True)

TOKEN = "end-to-end-token-of-the-tests-0123456789"
LIVE = ("pending", "running")


class Target:
    """Answers every POST; the path given to `hold` only after `release`."""

    def __init__(self) -> None:
        self._held = ""
        self._released = threading.Event()
        self.server = StubServer(self._answer)

    def _answer(self, client: Any, request: bytes) -> None:
        if self._held and request.startswith(f"POST {self._held} ".encode()):
            self._released.wait(120)
        client.sendall(response(200, [("Content-Type", "application/json")], b'{"build": 17}'))

    def hold(self, path: str) -> None:
        self._held = path

    def release(self) -> None:
        self._held = ""
        self._released.set()

    def hits(self, path: str) -> list[bytes]:
        return [request for request in self.server.requests if request.startswith(f"POST {path} ".encode())]

    def keys(self, path: str) -> set[bytes]:
        """The idempotency keys that the requests of `path` carried."""
        return set(re.findall(rb"(?i)\r\nidempotency-key: (\S+)", b"".join(self.hits(path))))

    @property
    def allowed(self) -> dict[str, str]:
        return {"OUTBOUND_ALLOW": f"127.0.0.1:{self.server.port}"}


@pytest.fixture(autouse=True)
def _quiet_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "httpx")


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.release()
    target.server.close()


class Api:
    """The API of a running lab. Answers but 2xx fail."""

    def __init__(self, url: str, token: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.request(method, path, json=body) if body is not None else self.client.request(method, path)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json()

    def push(self, *, request_id: str = "") -> httpx.Response:
        headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": os.urandom(8).hex()}
        if request_id:
            headers["X-Request-ID"] = request_id
        return self.client.post("/v1/webhooks/inbox/github", json=push_payload(), headers=headers)

    def run_of(self, webhook: int) -> dict[str, Any] | None:
        """The one run that the webhook started, with its steps."""
        runs = self("GET", f"/v1/workflows/executions?webhook={webhook}")["results"]
        assert len(runs) <= 1
        return self("GET", f"/v1/workflows/executions/{runs[0]['id']}") if runs else None

    def finished_run_of(self, webhook: int) -> dict[str, Any] | None:
        run = self.run_of(webhook)
        return run if run and run["status"] not in LIVE else None


@contextlib.contextmanager
def api_of(url: str, token: str) -> Iterator[Api]:
    api = Api(url, token)
    with api.client:
        yield api


def push_payload() -> dict[str, Any]:
    """A push event of the size that GitHub sends, about 7 kB."""
    commits = [
        {
            "id": f"{number:040x}",
            "message": f"Round the totals of page {number} to whole cents\n\nThe sums differed by a cent. ½ ✓",
            "timestamp": f"2026-01-{number + 1:02}T09:30:00Z",
            "author": {"name": "Kim", "email": "kim@example.com", "username": "kim"},
            "added": [f"shop/totals/page_{number}.py"],
            "modified": ["shop/cart.py", "shop/tests/test_cart.py"],
            "removed": [],
        }
        for number in range(18)
    ]
    return {
        "ref": "refs/heads/main",
        "before": "0" * 40,
        "after": commits[-1]["id"],
        "repository": {"id": 1, "full_name": "example/shop", "private": True, "default_branch": "main"},
        "pusher": {"name": "kim", "email": "kim@example.com"},
        "commits": commits,
    }


def build_workflow(target: Target) -> dict[str, Any]:
    """On a push to the main branch: ask the target for a build, keep its number."""
    wanted = "steps.main.output.result"
    body = {"commit": "{{ trigger.data.after }}", "count": "{{ trigger.data.commits | length }}"}
    return {
        "name": "Build",
        "trigger_type": "webhook",
        "trigger_config": {"source": "github", "event_type": "push"},
        "steps": [
            {"id": "main", "type": "condition", "config": {"if": "trigger.data.ref == 'refs/heads/main'"}},
            {
                "id": "build",
                "type": "api_call",
                "name": "Ask for a build",
                "condition": wanted,
                "config": {"method": "POST", "url": f"{target.server.url}/build", "body": body},
            },
            {"id": "keep", "type": "set", "config": {"values": {"build": "{{ steps.build.output.body.build }}"}}},
        ],
    }


@pytest.fixture
def token(transactional_db: None) -> str:
    return tokens.create_token(user=User.objects.create_superuser("root"), name="flow", expires_at=None)[1]


@pytest.fixture
def api(token: str, target: Target) -> Iterator[Api]:
    with granian_server(**target.allowed) as server, api_of(server.url, token) as api:
        yield api
        assert "Traceback" not in server.log, server.log


def instants(*texts: str) -> list[datetime]:
    return [datetime.fromisoformat(text) for text in texts]


@with_database
def test_a_push_runs_its_workflow_and_is_seen_everywhere(api, target):
    workflow = api("POST", "/v1/workflows", build_workflow(target))

    with worker_process(**target.allowed):
        answer = api.push(request_id="push-of-the-morning")
        run = eventually(lambda: api.finished_run_of(answer.json()["id"]))

    assert 6_000 < len(answer.request.content) < 9_000
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (201, "push-of-the-morning")
    assert (run["status"], run["variables"], run["current_step"]) == ("success", {"build": 17}, 3)
    assert [(step["type"], step["status"]) for step in run["step_results"]] == [
        ("condition", "success"), ("api_call", "success"), ("set", "success"),
    ]  # fmt: skip
    webhook = api("GET", f"/v1/webhooks/inbox/{answer.json()['id']}")
    assert (webhook["status"], webhook["body"]) == ("processed", push_payload())
    order = instants(
        webhook["received_at"],
        run["started_at"],
        *(step["started_at"] for step in run["step_results"]),
        run["finished_at"],
        webhook["processed_at"],
    )
    assert order[:-1] == sorted(order[:-1]) and order[-1] >= order[-3]
    (sent,) = target.hits("/build")
    assert json.loads(sent.partition(b"\r\n\r\n")[2]) == {"commit": f"{17:040x}", "count": 18}
    assert api("GET", f"/v1/workflows/{workflow['id']}")["success_count"] == 1
    check_correlation(api, "push-of-the-morning", webhook, run)
    check_console(api, webhook["id"], run["id"], "push-of-the-morning")


def check_correlation(api: Api, correlation_id: str, webhook: dict[str, Any], run: dict[str, Any]) -> None:
    assert webhook["correlation_id"] == run["correlation_id"] == correlation_id
    rows = eventually(lambda: api("GET", f"/v1/api-logs?correlation_id={correlation_id}")["results"])
    assert [(row["method"], row["path"], row["status_code"]) for row in rows] == [
        ("POST", "/v1/webhooks/inbox/github", 201)
    ]


def check_console(api: Api, webhook: int, run: int, correlation_id: str) -> None:
    """The pages of the real server, for a browser that has signed in."""
    browser = Client()
    browser.force_login(User.objects.get(username="root"), backend="django.contrib.auth.backends.ModelBackend")
    cookie = {"Cookie": f"sessionid={browser.cookies['sessionid'].value}"}
    pages = {
        "/admin/inbox/webhook/": "processed</span>",
        f"/admin/inbox/webhook/{webhook}/change/": "example/shop",
        "/admin/workflows/workflowexecution/": "Build",
        f"/admin/workflows/workflowexecution/{run}/change/": "Ask for a build",
        f"/admin/apilogs/apilog/?q={correlation_id}": "/v1/webhooks/inbox/github",
    }
    for path, text in pages.items():
        page = httpx.get(f"{api.client.base_url}{path}", headers=cookie, timeout=30)
        assert page.status_code == 200, path
        assert text in page.text, path


def two_calls(target: Target) -> dict[str, Any]:
    def call(name: str) -> dict[str, Any]:
        return {"id": name, "type": "api_call", "config": {"method": "POST", "url": f"{target.server.url}/{name}"}}

    keep = {"id": "keep", "type": "set", "config": {"values": {"build": "{{ steps.second.output.body.build }}"}}}
    return {"name": "Two calls", "steps": [call("first"), call("second"), keep]}


@with_database
def test_a_worker_killed_in_the_second_step_leaves_a_run_that_goes_on_there(api, target):
    target.hold("/second")
    workflow = api("POST", "/v1/workflows", two_calls(target))
    with worker_process(**target.allowed) as worker:
        started = api("POST", f"/v1/workflows/{workflow['id']}/executions")
        eventually(lambda: target.hits("/second"))
        worker.process.kill()

    target.release()
    with worker_process(**target.allowed):
        run = eventually(lambda: finished(api, started["id"]), seconds=90)

    assert (run["status"], run["variables"]) == ("success", {"build": 17})
    assert (len(target.hits("/first")), len(target.hits("/second"))) == (1, 2)
    assert len(target.keys("/second")) == 1, "the target can tell the repeated call by its key"
    assert [(step["id"], step["status"], step["attempt"]) for step in run["step_results"]] == [
        ("first", "success", 1), ("second", "success", 2), ("keep", "success", 1),
    ]  # fmt: skip
    assert nothing_is_left_running()


def finished(api: Api, run: int) -> dict[str, Any] | None:
    found = api("GET", f"/v1/workflows/executions/{run}")
    return found if found["status"] not in LIVE else None


def nothing_is_left_running() -> bool:
    tables = ("workflow_executions", "step_executions", "step_attempts")
    query = " UNION ALL ".join(f"SELECT id FROM {table} WHERE status IN ('pending', 'running')" for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(query)
        return not cursor.fetchall()


@pytest.fixture
def own_database() -> Iterator[tuple[EmbeddedPostgres, dict[str, str]]]:
    """A server that the test may stop, and the environment of processes that use it."""
    with tempfile.TemporaryDirectory(prefix="lab-own-") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder), options={"fsync": "off"})
        server.start()
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "automation_lab.settings",
            "DATABASE_URL": f"postgresql://{USER}@/{DATABASE}?host={server.socket_dir}",
            "API_TOKEN": TOKEN,
        }
        command = [sys.executable, "manage.py", "migrate", "--prepare", "--verbosity", "0"]
        subprocess.run(command, env=environment, cwd=servers.BASE_DIR, check=True, capture_output=True)
        yield server, environment
        server.release()


def test_a_restart_of_the_database_is_only_a_pause(own_database, target):
    server, environment = own_database
    with (
        granian_server(environment, **target.allowed) as web,
        worker_process(environment, **target.allowed) as worker,
        api_of(web.url, TOKEN) as api,
    ):
        api("POST", "/v1/workflows", build_workflow(target))
        before = api.push()
        eventually(lambda: api.finished_run_of(before.json()["id"]))

        server.release()
        while_away = api.push()
        server.start()
        eventually(lambda: is_accepted(api))
        after = api.push()
        run = eventually(lambda: api.finished_run_of(after.json()["id"]), seconds=30)
        eventually(lambda: listens(server), seconds=30)
        delays = [start_delay(api) for _ in range(5)]

        assert (while_away.status_code, "Retry-After" in while_away.headers) == (503, True)
        assert (after.status_code, run["status"]) == (201, "success")
        assert (web.process.poll(), worker.process.poll()) == (None, None)
        # A worker that has gone deaf looks for work once a second.
        assert statistics.median(delays) < 0.5, delays


def is_accepted(api: Api) -> bool:
    return api.push().status_code == 201


def listens(server: EmbeddedPostgres) -> bool:
    """Whether the worker waits for notifications again, instead of only looking for work now and then."""
    with psycopg.connect(host=str(server.socket_dir), user=USER, dbname=DATABASE) as own:
        found = own.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()")
        return found.fetchone() is not None


def start_delay(api: Api) -> float:
    """Seconds from the arrival of a webhook to the start of its run."""
    hook = api.push().json()["id"]
    run = eventually(lambda: api.finished_run_of(hook))
    received, started = instants(api("GET", f"/v1/webhooks/inbox/{hook}")["received_at"], run["started_at"])
    return (started - received).total_seconds()
