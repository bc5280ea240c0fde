"""One run of a task from its claim to its record, against real servers on the loopback."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, connection

from automation_lab.core import clock, crypto
from automation_lab.core.exceptions import Conflict
from automation_lab.core.execution import queue, runner
from automation_lab.core.execution.claims import REPLACED, STOPPING, held
from automation_lab.core.execution.tests.helpers import KIND, add_worker, jobs
from automation_lab.core.execution.worker import watch
from automation_lab.core.http import HttpClient
from automation_lab.core.outbound import OutboundPolicy, parse_allow
from automation_lab.core.registry import ServerJob, executables, server_jobs
from automation_lab.core.secret_masks import live_secrets
from automation_lab.core.signing import sign_standard_webhook
from automation_lab.core.tests.servers import StubServer, redirect, response
from tasks import services
from tasks.models import ScheduledTask, Secret, TaskAttempt, TaskExecution, TaskLog
from tasks.tests.factories import SecretFactory

pytestmark = pytest.mark.django_db

AT_ONCE = {"delay_seconds": 0, "jitter": "none"}
CANARY = "canary-4f9c21e07b"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JSON = [("Content-Type", "application/json")]


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


# --- success ------------------------------------------------------------------------------------------------------------


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


# --- retries ------------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_parked_for_the_next_one(serve, run):
    task = api_call(serve(answers(500)), policy={"delay_seconds": 60, "jitter": "none"})

    execution = run(task)

    [attempt] = execution.attempts.all()
    wait = execution.due_at - attempt.finished_at
    assert (execution.status, execution.worker, execution.attempt) == ("pending", None, 1)
    assert execution.finished_at is None
    assert timedelta(seconds=59) < wait < timedelta(seconds=61)
    assert (attempt.status, attempt.error_class, attempt.next_attempt_at) == ("failed", "http.500", execution.due_at)
    assert attempt.answer["body"] == {"id": 7}
    assert jobs()[-1]["scheduled_at"] == execution.due_at
    task.refresh_from_db()
    assert (task.success_count, task.failure_count) == (0, 0)
    assert "Attempt 1 failed: The target answered 500; expected 2xx. Attempt 2 of 3 in 60.0 s." in texts(execution)


def test_a_run_that_is_not_due_is_not_run(serve, run):
    server = serve(answers(500))
    execution = run(api_call(server, policy={"delay_seconds": 60, "jitter": "none"}))

    run(execution)

    assert len(server.requests) == 1


def test_a_later_attempt_may_succeed(serve, run):
    server = serve(answers(500, 200))
    execution = run(api_call(server, method="POST", body={}, policy=AT_ONCE))

    execution = run(execution)

    assert (execution.status, execution.attempt, execution.error_message) == ("success", 2, "")
    assert list(execution.attempts.values_list("number", "epoch", "status")) == [(1, 1, "failed"), (2, 2, "success")]
    keys = {header(request, "Idempotency-Key") for request in server.requests}
    assert len(keys) == 1
    assert keys != {None}


def test_a_run_fails_when_all_attempts_are_used(serve, run):
    server = serve(answers(503))
    task = api_call(server, policy={**AT_ONCE, "max_attempts": 2})

    execution = run(run(task))
    run(execution)

    task.refresh_from_db()
    assert (execution.status, execution.error_message) == ("failed", "The target answered 503; expected 2xx.")
    assert (len(server.requests), execution.attempts.count()) == (2, 2)
    assert (task.failure_count, task.consecutive_failures, task.last_output) == (1, 1, None)
    assert task.last_run_at == execution.finished_at
    assert "All 2 attempts are used." in texts(execution)


def test_a_success_ends_a_row_of_failures(serve, run):
    task = api_call(serve(answers(404, 200)))
    run(task)

    run(task)

    task.refresh_from_db()
    assert (task.failure_count, task.success_count, task.consecutive_failures) == (1, 1, 0)


def test_what_the_policy_does_not_name_is_not_repeated(serve, run):
    execution = run(api_call(serve(answers(404)), policy=AT_ONCE))

    assert (execution.status, execution.attempt) == ("failed", 1)
    assert execution.attempts.get().next_reason == "http.404 is not in retry_on."


def test_retry_after_is_followed(serve, run):
    execution = run(api_call(serve(response(429, [("Retry-After", "120")])), policy=AT_ONCE))

    wait = execution.due_at - execution.attempts.get().finished_at
    assert timedelta(seconds=119) < wait <= timedelta(seconds=120)


@pytest.mark.parametrize(("condition", "status"), [("error.status == 404", "pending"), ("attempt > 1", "failed")])
def test_an_expression_may_decide(serve, run, condition, status):
    execution = run(api_call(serve(answers(404)), policy={**AT_ONCE, "retry_if": condition}))

    assert execution.status == status


@pytest.mark.parametrize(
    ("config", "status"),
    [
        ({"method": "POST", "idempotency_header": ""}, "failed"),
        ({"method": "POST"}, "pending"),
        ({"method": "PUT", "idempotency_header": ""}, "pending"),
    ],
    ids=["POST without key", "POST with key", "PUT"],
)
def test_a_lost_answer_is_repeated_only_where_that_does_no_harm(serve, run, config, status):
    task = api_call(serve(lambda connection, request: None), body={}, policy=AT_ONCE, **config)

    execution = run(task)

    assert execution.status == status
    assert execution.attempts.get().error_class == "communication.reset"


def test_what_was_never_sent_is_always_repeated(serve, run):
    server = serve()
    task = api_call(server, method="POST", idempotency_header="", policy=AT_ONCE)
    server.close()

    execution = run(task)

    assert (execution.status, execution.attempts.get().error_class) == ("pending", "communication.connect")


def test_the_worker_holds_nothing_after_a_run(serve, run):
    run(api_call(serve()))

    assert held.all() == []


# --- time and cancelling ------------------------------------------------------------------------------------------------


def test_a_silent_target_ends_in_a_timeout(serve, run):
    task = api_call(serve(silence), timeout_seconds=0.2, policy={"max_attempts": 1})

    execution = run(task)

    task.refresh_from_db()
    assert (execution.status, execution.attempts.get().status) == ("timeout", "timeout")
    assert "0.2 s" in execution.error_message
    assert task.failure_count == 1


def test_the_task_limits_what_one_attempt_may_take(serve, run):
    task = services.update_task(
        task=api_call(serve(silence), policy={"max_attempts": 1}), changes={"timeout_seconds": 1}
    )

    began = time.monotonic()
    execution = run(task)

    assert execution.status == "timeout"
    assert time.monotonic() - began < 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("stop", "status", "attempt_status"),
    [
        (lambda execution: services.cancel_execution(execution=execution), "cancelled", "cancelled"),
        (lambda execution: TaskExecution.objects.update(deadline_at=clock.database_now()), "timeout", "timeout"),
    ],
    ids=["cancelled", "past its deadline"],
)
def test_a_slow_call_is_stopped(serve, run, stop, status, attempt_status):
    server = serve(silence)
    execution = services.start_execution(task=api_call(server))
    thread = threading.Thread(target=in_thread, args=(run, execution))
    thread.start()
    while not server.requests:
        time.sleep(0.01)

    stop(execution)
    watch()
    stopped = time.monotonic()
    thread.join(5)

    execution.refresh_from_db()
    assert time.monotonic() - stopped < 1
    assert (execution.status, execution.attempts.get().status) == (status, attempt_status)
    assert execution.finished_at is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("on_lost_worker", "reason", "status", "attempt", "attempt_status"),
    [
        ("rerun", STOPPING, "pending", 0, "released"),
        ("fail", STOPPING, "failed", 1, "lost"),
        ("rerun", REPLACED, "running", 1, "running"),
    ],
)
def test_a_worker_that_stops_hands_the_run_back_as_its_task_wants(
    serve, run, on_lost_worker, reason, status, attempt, attempt_status
):
    server = serve(silence)
    task = services.update_task(task=api_call(server), changes={"on_lost_worker": on_lost_worker})
    execution = services.start_execution(task=task)
    thread = threading.Thread(target=in_thread, args=(run, execution))
    thread.start()
    while not server.requests:
        time.sleep(0.01)

    held.stop_all(reason)
    thread.join(5)

    execution.refresh_from_db()
    assert (execution.status, execution.attempt) == (status, attempt)
    assert execution.attempts.get().status == attempt_status


def in_thread(run: Callable[..., Any], execution: TaskExecution) -> None:
    try:
        run(execution)
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_run_asked_to_cancel_during_an_attempt_that_fails_is_not_tried_again(serve, run):
    asked = threading.Event()

    def answer(connection: Any, request: bytes) -> None:
        asked.wait(5)
        connection.sendall(response(500))

    server = serve(answer)
    execution = services.start_execution(task=api_call(server, policy=AT_ONCE))
    thread = threading.Thread(target=in_thread, args=(run, execution))
    thread.start()
    while not server.requests:
        time.sleep(0.01)

    services.cancel_execution(execution=execution)
    asked.set()
    thread.join(5)

    execution.refresh_from_db()
    assert (execution.status, execution.error_message) == ("cancelled", "Cancelled.")


# --- what cannot be run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "code", "hint"),
    [
        ({"headers": {"X": "{{ input.mising }}"}}, "expression", "mising"),
        ({"headers": {"X": "{{ secrets.NOT_THERE }}"}}, "expression", "NOT_THERE"),
        ({"timeout_seconds": "{{ 'soon' }}"}, "configuration.config", "timeout_seconds"),
        ({"method": "{{ 'BREW' }}"}, "configuration.config", "method"),
        ({"url": "{{ 'ftp://example.com/' }}"}, "authorization", "http"),
        ({"url": "{{ 'http://[' }}"}, "configuration", ""),
        ({"url": "http://169.254.169.254/latest/"}, "authorization", "destination"),
        ({"headers": {"X": "{{ 'a\\r\\nInjected: 1' }}"}}, "configuration", ""),
        ({"body_type": "form", "body": "text", "method": "POST"}, "configuration.body", "object"),
        ({"extract": {"x": "response.body.nothing.there"}}, "expression", "nothing"),
        ({"response": "json"}, "validation.json", "JSON"),
        ({"max_bytes": 5}, "runtime.too_large", "longer"),
    ],
)
def test_a_run_that_cannot_be_made_fails_with_the_reason(serve, run, config, code, hint):
    execution = run(api_call(serve(response(200, [], b"no json at all")), **config))

    attempt = execution.attempts.get()
    assert (execution.status, execution.attempt) == ("failed", 1)
    assert attempt.error_class.split(".")[0] == code.split(".")[0]
    assert attempt.error_class.startswith(code)
    assert hint in execution.error_message
    assert "Internal error" not in execution.error_message


def test_an_unforeseen_error_is_recorded_without_its_text(serve, run, monkeypatch, caplog):
    server = serve()
    task = api_call(server)

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("internals")

    monkeypatch.setattr(executables.get(KIND).http, "request", broken)
    execution = run(task)

    task.refresh_from_db()
    assert (execution.status, execution.worker) == ("failed", None)
    assert execution.error_message == "Internal error: RuntimeError. The server's log has the details."
    assert (execution.attempts.get().status, task.failure_count) == ("failed", 1)
    assert "internals" in caplog.text


def test_an_outage_during_a_run_leaves_it_to_recovery(serve, run, monkeypatch):
    task = api_call(serve())

    def away(*args: Any, **options: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr(executables.get(KIND).http, "request", away)
    execution = run(task)

    assert (execution.status, execution.attempts.get().status) == ("running", "running")
    assert execution.worker is not None


def test_the_beginning_of_an_attempt_can_be_recorded_twice(serve, run, monkeypatch):
    """The commit was made, its confirmation lost: the write is repeated."""
    task = api_call(serve())
    persist = queue.persist
    monkeypatch.setattr(queue, "persist", lambda write: persist(write) and persist(write))

    execution = run(task)

    assert (execution.status, execution.attempts.count(), execution.attempt) == ("success", 1, 1)


def test_the_log_is_kept_when_its_write_is_repeated(serve, run, monkeypatch):
    task = api_call(serve(answers(404)))
    persist, tries = queue.persist, []

    def unlucky(write: Callable[[], Any]) -> Any:
        def once_more() -> Any:
            result = write()
            tries.append(1)
            if len(tries) in (1, 4):
                raise OperationalError("cut before the commit")
            return result

        return persist(once_more, sleep=lambda seconds: None)

    monkeypatch.setattr(queue, "persist", unlucky)
    monkeypatch.setattr(connection, "close", lambda: None)  # the connection of the test's own transaction
    execution = run(task)

    assert (execution.status, len(tries)) == ("failed", 5)
    assert texts(execution).count("Attempt 1 failed") == 1


# --- secrets ------------------------------------------------------------------------------------------------------------


def everything_stored() -> str:
    models = [TaskExecution, TaskAttempt, TaskLog, ScheduledTask, LogEntry]
    return json.dumps([[list(model.objects.values()) for model in models], jobs()], default=str)


@pytest.mark.parametrize(
    "config",
    [
        {"headers": {"X-Custom": "{{ secrets.TOKEN }}"}},
        {"auth": {"type": "bearer", "token": "{{ secrets.TOKEN }}"}},
        {"auth": {"type": "basic", "username": "u", "password": "{{ secrets.TOKEN }}"}},
        {"query": {"key": "{{ secrets.TOKEN }}"}},
        {"method": "POST", "body": {"nested": [{"key": "a {{ secrets.TOKEN }} b"}]}},
        {"method": "POST", "body_type": "form", "body": {"key": "{{ secrets.TOKEN }}"}},
    ],
    ids=["header", "bearer", "basic", "query", "body", "form"],
)
def test_a_secret_reaches_its_target_and_nothing_else(serve, run, caplog, config):
    SecretFactory(name="TOKEN", value=CANARY)
    caplog.set_level("DEBUG", "tasks")
    server = serve(echo)

    execution = run(api_call(server, **config))

    assert execution.status == "success"
    assert CANARY in server.requests[0].decode() or "dTpjYW5hcnktNGY5YzIxZTA3Yg==" in server.requests[0].decode()
    stored = everything_stored()
    assert "[redacted]" in stored
    for spelling in (CANARY, CANARY.encode().hex(), "Y2FuYXJ5LTRmOWMyMWUwN2", "5hcnktNGY5YzIxZTA3"):
        assert spelling not in stored
        assert spelling not in caplog.text
    assert Secret.objects.get().last_used_at is not None


@pytest.mark.parametrize("change", ["made", "rotated away"])
def test_a_secret_is_masked_whenever_it_was_made_or_rotated(serve, run, change):
    """Its value was used in the call, whether or not the cache of live values knows it by then."""
    live_secrets.refresh()
    secret = SecretFactory(name="TOKEN", value=CANARY)

    def answer(connection: Any, request: bytes) -> None:
        echo(connection, request)

    server = serve(answer)
    task = api_call(server, headers={"X": "{{ secrets.TOKEN }}"})
    if change == "rotated away":
        run(task)
        Secret.objects.update(ciphertext=crypto.encrypt("another-value-0001", bind=f"secret:{secret.name}"))
        live_secrets.refresh()
        TaskExecution.objects.all().delete()
        task.refresh_from_db()
    run(task)

    assert CANARY not in everything_stored()


def test_a_whole_address_may_be_secret(serve, run):
    server = serve()
    SecretFactory(name="HOOK", value=f"{server.url}/services/{CANARY}")

    execution = run(api_call(server, url="{{ secrets.HOOK }}"))

    assert (execution.status, execution.error_message) == ("success", "")
    assert server.requests[0].split()[1] == f"/services/{CANARY}".encode()
    assert CANARY not in everything_stored()


def test_a_secret_that_does_not_fit_its_place_is_not_shown(serve, run):
    SecretFactory(name="TOKEN", value=CANARY)

    execution = run(api_call(serve(), method="{{ secrets.TOKEN }}"))

    assert execution.attempts.get().error_class == "configuration.config"
    assert CANARY not in everything_stored()


def test_a_secret_in_an_answer_that_is_an_error_is_masked(serve, run):
    SecretFactory(name="TOKEN", value=CANARY)
    server = serve(response(500, [("X-Echo", CANARY)], b"no " + CANARY.encode()))

    execution = run(api_call(server, headers={"X": "{{ secrets.TOKEN }}"}))

    kept = execution.attempts.get().answer
    assert (kept["body"], kept["headers"]["x-echo"]) == ("no [redacted]", "[redacted]")
    assert CANARY not in everything_stored()


def test_a_secret_in_an_error_message_is_masked(serve, run):
    SecretFactory(name="TOKEN", value=CANARY, allowed_hosts=["api.example.com"])

    execution = run(api_call(serve(), url="https://{{ secrets.TOKEN }}.example.com/"))

    assert "may not be sent to [redacted].example.com" in execution.error_message
    assert "[redacted].example.com" in texts(execution)
    assert CANARY not in everything_stored()


def test_a_secret_in_an_error_is_masked_even_where_the_answer_is_cut(serve, run):
    SecretFactory(name="TOKEN", value=CANARY)
    filler = b"x" * (8_192 - 6)
    server = serve(response(500, [], filler + CANARY.encode()))

    execution = run(api_call(server, headers={"X": "{{ secrets.TOKEN }}"}))

    kept = execution.attempts.get().answer
    assert kept["body_truncated"] is True
    assert CANARY[:6] not in json.dumps(kept)


def test_a_secret_may_be_sent_to_its_hosts_only(serve, run):
    SecretFactory(name="TOKEN", value=CANARY, allowed_hosts=["api.example.com", "*.example.org"])
    server = serve()

    execution = run(api_call(server, headers={"X": "{{ secrets.TOKEN }}"}))

    assert (execution.status, server.requests) == ("failed", [])
    assert execution.attempts.get().error_class == "authorization.secret_host"
    assert "TOKEN may not be sent to 127.0.0.1" in execution.error_message


def test_a_secret_bound_to_the_target_is_sent(serve, run):
    SecretFactory(name="TOKEN", value=CANARY, allowed_hosts=["127.0.0.1"])
    server = serve()

    run(api_call(server, headers={"X": "{{ secrets.TOKEN }}"}))

    assert header(server.requests[0], "X") == CANARY


@pytest.mark.parametrize(
    "config",
    [
        {"headers": {"X-Customer": "{{ secrets.TOKEN }}"}},
        {"auth": {"type": "header", "name": "X-Customer", "value": "{{ secrets.TOKEN }}"}},
        {"auth": {"type": "bearer", "token": "{{ secrets.TOKEN }}"}},
    ],
    ids=["header", "named header", "bearer"],
)
def test_a_secret_does_not_follow_a_redirect_to_another_origin(serve, run, config):
    SecretFactory(name="TOKEN", value=CANARY, allowed_hosts=["127.0.0.1"])
    elsewhere = serve()
    server = serve(redirect(302, f"{elsewhere.url}/there"))

    execution = run(api_call(server, follow_redirects=True, **config))

    assert (execution.status, len(elsewhere.requests)) == ("success", 1)
    assert CANARY in server.requests[0].decode()
    assert CANARY not in elsewhere.requests[0].decode()


# --- what is kept -------------------------------------------------------------------------------------------------------


def test_an_oversized_output_is_kept_as_a_marked_preview(serve, run):
    text = json.dumps({"items": ["x" * 100] * 4_000}).encode()
    task = api_call(serve(response(200, JSON, text)))

    execution = run(task)

    output = execution.output_data
    assert execution.status == "success"
    assert (output["truncated"], set(output)) == (True, {"truncated", "size_bytes", "preview"})
    assert output["size_bytes"] > 400_000
    assert len(output["preview"]) == 16 * 1024


def test_a_long_answer_is_cut_in_its_attempt_only(serve, run):
    task = api_call(serve(response(200, [("Content-Type", "text/plain")], b"y" * 50_000)))

    execution = run(task)

    answer = execution.attempts.get().answer
    assert (len(answer["body"]), answer["body_truncated"]) == (8_192, True)
    assert len(execution.output_data["body"]) == 50_000


def test_what_postgresql_cannot_store_is_replaced(serve, run):
    content = b'{"nul\\u0000": "a\\u0000b", "half": "\\ud800"}'
    task = api_call(serve(response(200, JSON, content)))

    execution = run(task)

    assert execution.status == "success"
    assert "\x00" not in json.dumps(execution.output_data)


# --- webhook ------------------------------------------------------------------------------------------------------------


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


# --- cron ---------------------------------------------------------------------------------------------------------------


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


def cron(**config: Any) -> ScheduledTask:
    return services.create_task(fields={"name": "cron", "task_type": "cron", "config": config})


def test_a_server_job_is_run_with_its_defaults(run, job):
    execution = run(cron(job="tidy"))

    assert (execution.status, execution.output_data, job) == ("success", {"deleted": 3}, [{"days": 30}])


def test_a_server_job_is_given_the_plain_value_of_a_secret(run, monkeypatch):
    SecretFactory(name="TOKEN", value=CANARY)
    calls: list[dict[str, Any]] = []
    work = ServerJob(run=lambda arguments: calls.append(arguments) or arguments, config_schema={}, help="")
    monkeypatch.setattr(server_jobs, "_entries", {"tidy": work})

    execution = run(cron(job="tidy", arguments={"key": "{{ secrets.TOKEN }}"}))

    assert (calls, execution.output_data) == ([{"key": CANARY}], {"key": "[redacted]"})


def test_an_unknown_server_job_is_named_with_the_known_ones(run, job):
    execution = run(cron(job="tidi"))

    assert (execution.status, job) == ("failed", [])
    assert execution.attempts.get().error_class == "configuration.job"
    assert "'tidi' is unknown; known are tidy" in execution.error_message


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
