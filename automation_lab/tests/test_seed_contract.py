"""The request document's examples, verbatim, against the real server: they work as printed, in the order printed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoDbBlocker

from automation_lab import tokens
from automation_lab.tests import raw_http
from automation_lab.tests.servers import Server, granian_server, worker_process
from automation_lab.tests.waiting import eventually

# `reset_sequences`: the document starts "/v1/workflows/1/executions", so the first workflow has to be number 1.
pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True, reset_sequences=True)]

ADDRESS = "http://localhost:8000"
EXAMPLES = r"""
# Receive a webhook from GitHub
curl -X POST http://localhost:8000/v1/webhooks/inbox/github?event_type=push \
  -H "Content-Type: application/json" \
  -d '{"ref": "refs/heads/main", "commits": [...]}'

# List all GitHub webhooks
curl http://localhost:8000/v1/webhooks/inbox?source=github

# Create a scheduled task
curl -X POST http://localhost:8000/v1/tasks \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Daily Report",
    "task_type": "api_call",
    "schedule": "0 9 * * *",
    "enabled": true,
    "config": {
      "url": "https://api.example.com/report",
      "method": "GET"
    }
  }'

# List all enabled tasks
curl http://localhost:8000/v1/tasks?enabled=true

# Create a workflow
curl -X POST http://localhost:8000/v1/workflows \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Order Processing",
    "trigger_type": "webhook",
    "enabled": true,
    "steps": [
      {"type": "validate", "config": {"schema": "order"}},
      {"type": "api_call", "config": {"url": "https://api.payment.com/charge"}},
      {"type": "email", "config": {"template": "order_confirmation"}}
    ],
    "timeout_seconds": 300
  }'

# Trigger a workflow execution
curl -X POST http://localhost:8000/v1/workflows/1/executions \
  -H "Content-Type: application/json" \
  -d '{
    "trigger_source": "manual",
    "trigger_data": {"order_id": "12345"}
  }'

# List recent API logs
curl http://localhost:8000/v1/api-logs?page=1&size=50

# Get statistics for the last 24 hours
curl http://localhost:8000/v1/api-logs/stats/summary

# Filter logs by path and status
curl "http://localhost:8000/v1/api-logs?path=/v1/webhooks&status_code=200"
"""
# The document's "Key Fields" of each resource; those of its lists leave out what only the details show.
FIELDS = {
    "webhook": {"source", "event_type", "status", "body", "raw_body"},
    "task": {
        "name", "task_type", "schedule", "enabled", "config", "retry_policy", "success_count", "failure_count",
    },
    "task execution": {"status", "duration_ms", "input_data", "output_data", "error_message", "logs"},
    "workflow": {
        "name", "trigger_type", "trigger_config", "steps", "variables", "timeout_seconds", "retry_policy",
    },
    "workflow execution": {"status", "current_step", "total_steps", "step_results", "variables", "logs"},
    "API log": {
        "correlation_id", "method", "path", "status_code", "request_headers", "request_body", "response_headers",
        "response_body", "duration_ms", "user_id",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Curl:
    """What one `curl` line asks for."""

    method: str
    target: str
    headers: tuple[str, ...]
    body: bytes

    def send(self, server: Server, token: str = "") -> raw_http.Answer:
        extra = (f"Authorization: Bearer {token}",) if token else ()
        return raw_http.request(server.port, self.method, self.target, headers=(*self.headers, *extra), body=self.body)


def curl_lines(text: str) -> list[Curl]:
    """The commands of `text`, split as a shell splits them when a `&` inside an address is meant as such."""
    joined = text.replace("\\\n", " ")  # a line that goes on, which shlex does not know
    commands = [shlex.split(block, comments=True) for block in joined.strip().split("\n\n")]
    return [_curl(arguments) for program, *arguments in commands if program == "curl"]


def _curl(arguments: list[str]) -> Curl:
    given: dict[str, list[str]] = {"-X": [], "-H": [], "-d": [], "": []}
    words = iter(arguments)
    for word in words:
        if word.startswith("-"):
            given[word].append(next(words))
        else:
            given[""].append(word)
    (url,) = given[""]
    assert url.startswith(ADDRESS)
    body = "&".join(given["-d"]).replace("\r", "").replace("\n", "")  # as curl does
    method = given["-X"][0] if given["-X"] else ("POST" if body else "GET")
    return Curl(
        method, url.removeprefix(ADDRESS), ("User-Agent: curl/8.5.0", "Accept: */*", *given["-H"]), body.encode()
    )


@pytest.fixture
def admin(transactional_db) -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def token(admin) -> str:
    return tokens.create_token(user=admin, name="document", expires_at=None)[1]


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Server]:
    with granian_server() as running:
        yield running
        assert "Traceback" not in running.log, running.log


class Client:
    """Asks the API for JSON and counts every answer but 2xx as a failure."""

    def __init__(self, server: Server, token: str) -> None:
        self._port = server.port
        self._headers = (f"Authorization: Bearer {token}", "Content-Type: application/json")

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        payload = b"" if body is None else json.dumps(body).encode()
        answer = raw_http.request(self._port, method, path, headers=self._headers, body=payload)
        assert 200 <= answer.status < 300, (method, path, answer.status, answer.body)
        return json.loads(answer.body) if answer.body else None


@pytest.fixture
def ask(server, token) -> Client:
    return Client(server, token)


def test_the_curl_lines_are_taken_apart_as_a_shell_does():
    first, *_, last_but_two, _, last = curl_lines(EXAMPLES)

    assert (first.method, first.target) == ("POST", "/v1/webhooks/inbox/github?event_type=push")
    assert first.body == b'{"ref": "refs/heads/main", "commits": [...]}'
    assert "Content-Type: application/json" in first.headers
    assert last_but_two.target == "/v1/api-logs?page=1&size=50"
    assert last.target == "/v1/api-logs?path=/v1/webhooks&status_code=200"


def test_every_curl_line_of_the_document_works_as_printed(server, token):
    answers = [line.send(server, token) for line in curl_lines(EXAMPLES)]

    assert [answer.status for answer in answers] == [201, 200, 201, 200, 201, 202, 200, 200, 200]
    hook, hooks, task, tasks, workflow, run, logs, stats, filtered = [answer.json() for answer in answers]
    assert hook["status"] == "received" and hook["duplicate"] is False
    assert [(row["id"], row["source"], row["event_type"]) for row in hooks["results"]] == [
        (hook["id"], "github", "push")
    ]
    assert task.keys() >= FIELDS["task"] and task["schedule"] == "0 9 * * *"
    assert [row["name"] for row in tasks["results"]] == ["Daily Report"]
    assert workflow.keys() >= FIELDS["workflow"]
    assert [step["type"] for step in workflow["steps"]] == ["validate", "api_call", "email"]
    assert len(workflow["warnings"]) == 3, "no schema, no template, and a trigger that matches nothing"
    assert run.keys() >= FIELDS["workflow execution"]
    assert (run["workflow"], run["trigger_data"], run["total_steps"]) == (1, {"order_id": "12345"}, 3)
    assert logs.keys() >= {"count", "results"}
    assert stats.keys() >= {"count", "error_share", "p50_ms", "p95_ms", "p99_ms", "by_route", "by_status", "per_hour"}
    assert filtered.keys() >= {"count", "results"}


def test_a_body_that_is_no_json_is_stored_as_sent_and_flagged(server, token, ask):
    hook = curl_lines(EXAMPLES)[0].send(server, token).json()

    stored = ask("GET", f"/v1/webhooks/inbox/{hook['id']}")

    assert stored.keys() >= FIELDS["webhook"]
    assert (stored["body"], stored["flags"]) == (None, ["not_json"])
    assert stored["raw_body"] == '{"ref": "refs/heads/main", "commits": [...]}'


def test_the_lines_work_without_a_token_when_the_api_is_open(admin):
    with granian_server(API_OPEN="1") as server:
        statuses = [line.send(server).status for line in curl_lines(EXAMPLES)]

    assert statuses == [201, 200, 201, 200, 201, 202, 200, 200, 200]


def test_only_the_receiving_line_works_without_a_token_otherwise(server):
    statuses = [line.send(server).status for line in curl_lines(EXAMPLES)]

    assert statuses == [201, *[401] * 8]


def test_every_endpoint_of_the_document_answers(ask, server, token):
    for line in curl_lines(EXAMPLES):
        line.send(server, token)
    hook, task, workflow = (
        ask("GET", path)["results"][0]["id"] for path in ("/v1/webhooks/inbox", "/v1/tasks", "/v1/workflows")
    )

    assert ask("PATCH", f"/v1/webhooks/inbox/{hook}", {"status": "processed"})["status"] == "processed"
    assert ask("PATCH", f"/v1/tasks/{task}", {"enabled": False})["enabled"] is False
    assert ask("GET", f"/v1/tasks/{task}").keys() >= FIELDS["task"]
    run = ask("POST", f"/v1/tasks/{task}/executions")
    assert ask("GET", f"/v1/tasks/{task}/executions")["results"][0]["id"] == run["id"]
    assert ask("GET", f"/v1/tasks/executions/{run['id']}").keys() >= FIELDS["task execution"]
    assert ask("PATCH", f"/v1/workflows/{workflow}", {"timeout_seconds": 60})["timeout_seconds"] == 60
    assert ask("GET", f"/v1/workflows/{workflow}").keys() >= FIELDS["workflow"]
    run = ask("GET", f"/v1/workflows/{workflow}/executions")["results"][0]
    assert ask("GET", f"/v1/workflows/executions/{run['id']}").keys() >= FIELDS["workflow execution"]
    log = eventually(lambda: ask("GET", "/v1/api-logs?path=/v1/webhooks&status_code=200")["results"])[0]
    assert (log["status_code"], urlsplit(log["path"]).path[:12]) == (200, "/v1/webhooks")
    assert ask("GET", f"/v1/api-logs/{log['id']}").keys() >= FIELDS["API log"]
    ask("DELETE", f"/v1/api-logs/{log['id']}")
    ask("DELETE", f"/v1/webhooks/inbox/{hook}")


def test_what_has_run_can_be_deleted(ask):
    task = ask("POST", "/v1/tasks", {"name": "Idle", "task_type": "api_call", "config": {"url": "https://example.com"}})
    workflow = ask("POST", "/v1/workflows", {"name": "Idle", "steps": []})

    ask("DELETE", f"/v1/tasks/{task['id']}")
    ask("DELETE", f"/v1/workflows/{workflow['id']}")

    assert ask("GET", "/v1/tasks")["count"] == ask("GET", "/v1/workflows")["count"] == 0


def test_the_example_test_flow_of_the_document(ask):
    """Its four points in order, with a worker that runs what is started. No step of it leaves this machine."""
    with worker_process():
        hook = ask("POST", "/v1/webhooks/inbox/test", {"hello": "lab"})
        assert [row["id"] for row in ask("GET", "/v1/webhooks/inbox")["results"]] == [hook["id"]]

        task = ask(
            "POST",
            "/v1/tasks",
            {"name": "Refused", "task_type": "api_call", "config": {"url": "http://127.0.0.1:9/"}},
        )
        run = ask("POST", f"/v1/tasks/{task['id']}/executions", {"input_data": {"day": "today"}})
        done = eventually(lambda: finished(ask("GET", f"/v1/tasks/executions/{run['id']}")))
        history = ask("GET", f"/v1/tasks/{task['id']}/executions")["results"]
        assert (done["status"], done["input_data"]) == ("failed", {"day": "today"})
        assert done["error_message"] and done["logs"] and done["duration_ms"] is not None
        assert [(row["id"], row["status"]) for row in history] == [(run["id"], "failed")]

        workflow = ask("POST", "/v1/workflows", {"name": "Sum", "steps": [
            {"type": "set", "config": {"values": {"total": "{{ trigger.data.items | sum }}"}}},
            {"type": "condition", "config": {"if": "vars.total > 5", "then": [
                {"id": "flag", "type": "set", "config": {"values": {"large": True}}},
            ]}},
        ]})  # fmt: skip
        run = ask("POST", f"/v1/workflows/{workflow['id']}/executions", {"trigger_data": {"items": [3, 4]}})
        done = eventually(lambda: finished(ask("GET", f"/v1/workflows/executions/{run['id']}")))
        assert (done["status"], done["current_step"], done["total_steps"]) == ("success", 2, 2)
        assert done["variables"] == {"total": 7, "large": True}
        assert [step["path"] for step in done["step_results"]] == ["set", "condition", "condition[then]/flag"]

        wanted = {"/v1/webhooks/inbox/{name}", "/v1/tasks/{task_id}/executions", "/v1/workflows"}
        eventually(lambda: wanted <= {route["route"] for route in ask("GET", "/v1/api-logs/stats/summary")["by_route"]})


def finished(run: dict[str, Any]) -> dict[str, Any] | None:
    return run if run["status"] not in ("pending", "running") else None


def test_the_document_s_workflow_fails_with_a_clear_reason_until_its_schema_exists(server, token, ask):
    run = [line.send(server, token) for line in curl_lines(EXAMPLES)][5].json()

    with worker_process():
        done = eventually(lambda: finished(ask("GET", f"/v1/workflows/executions/{run['id']}")))

    assert done["status"] == "failed"
    assert "'order'" in done["error_message"] and "schema" in done["error_message"]
    assert [(step["type"], step["status"]) for step in done["step_results"]] == [("validate", "failed")]
