"""One run of a task from its claim to its record: attempts, time, cancelling, errors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection

from automation_lab.core import clock
from automation_lab.core.execution import queue
from automation_lab.core.execution.claims import REPLACED, STOPPING, held
from automation_lab.core.execution.tests.helpers import KIND, jobs
from automation_lab.core.execution.worker import watch
from automation_lab.core.registry import executables
from automation_lab.core.tests.servers import response
from tasks import services
from tasks.models import TaskExecution
from tasks.tests.running import (
    AT_ONCE,
    JSON,
    answers,
    api_call,
    header,
    silence,
    texts,
)

pytestmark = pytest.mark.django_db


# --- retries ----------------------------------------------------------------------------------------------------------


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


def test_an_expression_that_cannot_decide_is_told_in_the_log(serve, run):
    execution = run(api_call(serve(answers(404)), policy={**AT_ONCE, "retry_if": "error.cod == 1"}))

    assert execution.status == "failed"
    told = execution.log_lines.get(level="warning").text
    assert told.startswith("retry_if cannot be evaluated, so there is no retry: `error.cod`")


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


# --- time and cancelling ----------------------------------------------------------------------------------------------


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
    assert time.monotonic() - began < 5


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
    thread.join(30)

    execution.refresh_from_db()
    assert time.monotonic() - stopped < 5
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
    thread.join(30)

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
        asked.wait(30)
        connection.sendall(response(500))

    server = serve(answer)
    execution = services.start_execution(task=api_call(server, policy=AT_ONCE))
    thread = threading.Thread(target=in_thread, args=(run, execution))
    thread.start()
    while not server.requests:
        time.sleep(0.01)

    services.cancel_execution(execution=execution)
    asked.set()
    thread.join(30)

    execution.refresh_from_db()
    assert (execution.status, execution.error_message) == ("cancelled", "Cancelled.")


# --- what cannot be run -----------------------------------------------------------------------------------------------


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
        ({"max_bytes": 5}, "runtime.too_large", "longer than 5 bytes"),
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


# --- what is kept -----------------------------------------------------------------------------------------------------


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
