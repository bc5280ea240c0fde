"""Secrets reach their target and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from automation_lab.core import crypto
from automation_lab.core.redaction.masks import live_secrets
from automation_lab.core.tests.servers import redirect, response
from tasks.models import Secret, TaskExecution
from tasks.tests.factories import SecretFactory
from tasks.tests.running import (
    CANARY,
    api_call,
    echo,
    everything_stored,
    header,
    texts,
)

pytestmark = pytest.mark.django_db


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
