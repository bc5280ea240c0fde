"""What each task type does, against real servers on the loopback."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from automation_lab.core.exceptions import Conflict
from automation_lab.core.registry import ServerJob, server_jobs
from automation_lab.core.signing import sign_standard_webhook
from automation_lab.core.tests.servers import StubServer, response
from tasks import services
from tasks.models import ScheduledTask
from tasks.tests.factories import SecretFactory
from tasks.tests.running import (
    AT_ONCE,
    answers,
    api_call,
    body,
    everything_stored,
    header,
    texts,
)

pytestmark = pytest.mark.django_db

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


# --- an HTTP call -----------------------------------------------------------------------------------------------------


def test_a_call_is_made_and_recorded(serve, run, worker):
    server = serve()
    task = api_call(server, method="POST", headers={"X-Run": "{{ input.run }}"}, body={"a": ["{{ input.run }}", None]})

    execution = run(task, input_data={"run": 5})

    [request] = server.requests
    assert request.startswith(b"POST /hook HTTP/1.1\r\n")
    assert (header(request, "X-Run"), json.loads(body(request))) == ("5", {"a": [5, None]})
    assert header(request, "Content-Type") == "application/json"
    assert (execution.status, execution.worker, execution.due_at, execution.attempt) == ("success", None, None, 1)
    assert execution.started_at <= execution.finished_at
    assert execution.duration_ms is not None
    output = execution.output_data
    assert (output["status"], output["body"], output["headers"]["content-type"]) == (200, {"id": 7}, "application/json")
    [attempt] = execution.attempts.all()
    assert (attempt.status, attempt.number, attempt.epoch, attempt.worker) == ("success", 1, 1, worker)
    assert attempt.answer["status"] == 200
    task.refresh_from_db()
    assert (task.success_count, task.failure_count, task.consecutive_failures) == (1, 0, 0)
    assert (task.last_run_at, task.last_output) == (execution.finished_at, output)
    assert "POST answered 200" in texts(execution)


def test_a_later_run_sees_the_output_of_the_last_success(serve, run):
    server = serve()
    task = api_call(server, query={"since": "{{ last.output.body.id | default(0) }}"})
    run(task)

    run(task)

    assert [request.split()[1] for request in server.requests] == [b"/hook?since=0", b"/hook?since=7"]


def test_named_values_are_taken_out_of_the_answer(serve, run):
    task = api_call(serve(), extract={"order": "response.body.id", "twice": "{{ response.body.id * 2 }}"})

    output = run(task).output_data

    assert (output["order"], output["twice"]) == (7, 14)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"tag": ["a", "b"]}, b"tag=a&tag=b"),
        ({"n": 1, "flag": True, "text": "ä b&c"}, b"n=1&flag=true&text=%C3%A4+b%26c"),
        ({"deep": {"a": 1}}, b"deep=%7B%22a%22%3A1%7D"),
        ({"nothing": None}, b"nothing="),
    ],
)
def test_query_parameters(serve, run, given, sent):
    server = serve()

    run(api_call(server, query=given))

    assert server.requests[0].split()[1] == b"/hook?" + sent


def test_a_form_body(serve, run):
    server = serve()

    run(api_call(server, method="POST", body_type="form", body={"a": ["1", 2], "b": True}))

    assert body(server.requests[0]) == b"a=1&a=2&b=true"
    assert header(server.requests[0], "Content-Type") == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ({"type": "basic", "username": "u", "password": "pä"}, "Authorization", "Basic dTpww6Q="),
        ({"type": "bearer", "token": "t"}, "Authorization", "Bearer t"),
        ({"type": "header", "name": "X-Key", "value": "v"}, "X-Key", "v"),
        ({"type": "header", "value": "v"}, "X-Api-Key", "v"),
        (
            {"type": "hmac", "secret": "key"},
            "X-Signature-256",
            # HMAC-SHA256 of {"a":1} under "key"
            "sha256=88a67f24bbcdaed0e6c997404bb79a743baf44c6bab2f4c27328e3009d22e342",
        ),
    ],
    ids=["basic", "bearer", "header", "default header", "hmac"],
)
def test_authentication(serve, run, auth, name, value):
    server = serve()

    run(api_call(server, method="POST", body={"a": 1}, auth=auth))

    assert header(server.requests[0], name) == value


@pytest.mark.parametrize(
    ("expected", "status", "outcome"),
    [
        ("2xx", 204, "success"), ("2xx", 301, "failed"), (404, 404, "success"), ("404", 404, "success"),
        ([200, "4xx"], 418, "success"), ([200, 201], 202, "failed"), ("3XX", 302, "success"),
    ],
)  # fmt: skip
def test_which_answers_are_expected(serve, run, expected, status, outcome):
    task = api_call(serve(response(status)), expect_status=expected)

    assert run(task).status == outcome


# --- webhook ----------------------------------------------------------------------------------------------------------


def webhook(server: StubServer, **config: Any) -> ScheduledTask:
    fields = {"name": "hook", "task_type": "webhook", "retry_policy": AT_ONCE}
    return services.create_task(fields={**fields, "config": {"url": server.url, **config}})


def test_a_webhook_is_signed_as_standard_webhooks_wants(serve, run):
    SecretFactory(name="SIGNING", value=WHSEC)
    server = serve()
    task = webhook(server, event="order.paid", payload={"id": "{{ input.id }}"}, secret="{{ secrets.SIGNING }}")

    execution = run(task, input_data={"id": 12})

    [request] = server.requests
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    sent = {name: header(request, name) for name in names}
    assert json.loads(body(request)) == {"type": "order.paid", "id": 12}
    assert sent == sign_standard_webhook(WHSEC, sent["webhook-id"], int(sent["webhook-timestamp"]), body(request))
    assert abs(int(sent["webhook-timestamp"]) - time.time()) < 60
    assert (execution.status, execution.output_data["message_id"]) == ("success", sent["webhook-id"])
    assert WHSEC not in everything_stored()


def test_a_repeated_webhook_keeps_its_id(serve, run):
    server = serve(answers(500, 200))
    task = webhook(server, payload={})

    run(run(task))

    first, second = server.requests
    assert header(first, "webhook-id") == header(second, "webhook-id")
    assert header(first, "Idempotency-Key") == header(second, "Idempotency-Key")


def test_two_runs_send_different_webhooks(serve, run):
    server = serve()
    task = webhook(server, payload={})

    run(task)
    run(task)

    first, second = server.requests
    assert header(first, "webhook-id") != header(second, "webhook-id")


def test_an_unusable_signing_secret_is_named_without_its_value(serve, run):
    SecretFactory(name="SIGNING", value="whsec_short-canary")
    server = serve()

    execution = run(webhook(server, payload={}, secret="{{ secrets.SIGNING }}"))

    assert (execution.status, server.requests) == ("failed", [])
    assert execution.attempts.get().error_class == "configuration.secret"
    assert "short-canary" not in everything_stored()


# --- cron -------------------------------------------------------------------------------------------------------------


def cron(**config: Any) -> ScheduledTask:
    return services.create_task(fields={"name": "cron", "task_type": "cron", "config": config})


def test_a_server_job_is_run_with_its_defaults(run, job):
    execution = run(cron(job="tidy"))

    assert (execution.status, execution.output_data, job) == ("success", {"deleted": 3}, [{"days": 30}])


def test_a_server_job_that_is_gone_since_the_task_was_saved_is_named_with_the_known_ones(run, job, monkeypatch):
    task = cron(job="tidy")
    monkeypatch.setattr(server_jobs, "_entries", {"sweep": server_jobs.get("tidy")})

    execution = run(task)

    assert (execution.status, job) == ("failed", [])
    assert execution.attempts.get().error_class == "configuration.job"
    assert "'tidy' is unknown; known are sweep" in execution.error_message


def test_arguments_that_a_server_job_does_not_take_are_refused(run, job):
    execution = run(cron(job="tidy", arguments={"days": "{{ 0 }}"}))

    assert (execution.status, job) == ("failed", [])
    assert execution.attempts.get().error_class == "configuration.arguments"
    assert "days" in execution.error_message


def test_a_refusal_of_a_server_job_is_shown(run, monkeypatch):
    def work(arguments: dict[str, Any]) -> dict[str, Any]:
        raise Conflict("Another one is tidying already.")

    monkeypatch.setattr(server_jobs, "_entries", {"tidy": ServerJob(run=work, config_schema={}, help="")})
    execution = run(cron(job="tidy"))

    assert (execution.status, execution.error_message) == ("failed", "Another one is tidying already.")
