"""A secret that is used everywhere, against a target that gives back what it is sent, is to be found nowhere.

Not in any column of any table, not in the log, not in an answer of the API, not on a page of the console.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.core import mail
from django.db import connection
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from apilogs import writer
from automation_lab.core import clock
from automation_lab.core.execution import runner
from automation_lab.core.execution.tests.helpers import add_worker
from automation_lab.core.redaction.masks import spellings
from automation_lab.core.registry import executables
from automation_lab.core.tests.servers import StubServer, response

pytestmark = pytest.mark.django_db(transaction=True)

CANARY = 'Canary-7421/+="s3cr3t é'
TOKEN = "canary-token-90210-abcdef"
SIGNING = "whsec_" + base64.b64encode(b"canary-signing-key-5555").decode()
HOOK = "/services/T000/B000/canary-hook-31337"
HIDDEN = (CANARY, TOKEN, SIGNING, HOOK)
SECRET = "{{ secrets.CANARY }}"


def echo(connection: Any, request: bytes) -> None:
    """Gives back request line, headers and body, in several spellings; /fail and /redirect do as they say."""
    head, _, body = request.partition(b"\r\n\r\n")
    path = head.split()[1].decode("latin-1")
    told = {
        "path": path,
        "headers": head.decode("latin-1"),
        "body": body.decode(errors="replace"),
        "base64": base64.b64encode(body).decode(),
        "hex": body.hex(),
        "quoted": quote(body),
    }
    headers = [("Content-Type", "application/json"), ("X-Echo", head.split(b"\r\n")[-1].decode("latin-1"))]
    if path.startswith("/fail"):
        connection.sendall(response(500, headers, json.dumps(told).encode()))
    elif path.startswith("/redirect"):
        connection.sendall(response(302, [("Location", f"/again?token={TOKEN}")], b""))
    elif not path.startswith("/close"):
        connection.sendall(response(200, headers, json.dumps(told).encode()))


@pytest.fixture
def target(settings) -> Iterator[StubServer]:
    server = StubServer(echo)
    settings.OUTBOUND_ALLOW = f"127.0.0.1:{server.port}"
    yield server
    server.close()


@pytest.fixture
def lab(api, target, settings) -> Iterator[APIClient]:
    """The API, with every body kept in the log, and the secrets in place."""
    settings.API_LOG_ENABLED, settings.API_LOG_BODIES = True, "all"
    for name, value in {"CANARY": CANARY, "TOKEN": TOKEN, "SIGNING": SIGNING}.items():
        created(api.post("/v1/secrets", {"name": name, "value": value}))
    created(api.post("/v1/channels", {"name": "hook", "kind": "slack", "target": target.url + HOOK}))
    created(api.post("/v1/channels", {"name": "signed", "kind": "webhook", "target": target.url + "/fail" + HOOK,
                                      "secret": "SIGNING"}))  # fmt: skip
    yield api
    writer.shutdown()


def created(answer: Any) -> int:
    assert answer.status_code in (201, 202), answer.content
    return answer.json()["id"]


def uses(url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(task type, config) for every place where a secret can stand, the wrong ones too."""
    call = {"url": f"{url}/x", "method": "POST"}
    for path in ("ok", "fail", "close", "redirect"):
        yield "api_call", {**call, "url": f"{url}/{path}", "auth": {"type": "bearer", "token": "{{ secrets.TOKEN }}"}}
        yield "api_call", {**call, "url": f"{url}/{path}", "body": {"deep": [{"value": SECRET}]}}
    yield "api_call", {**call, "url": f"{url}/{{{{ secrets.TOKEN }}}}/fail?key={{{{ secrets.TOKEN }}}}"}
    yield "api_call", {**call, "query": {"key": SECRET}, "body": f"text {SECRET}", "body_type": "text"}
    yield "api_call", {**call, "auth": {"type": "basic", "username": "u", "password": SECRET}}
    yield "api_call", {**call, "auth": {"type": "hmac", "secret": SECRET}, "body_type": "form", "body": {"a": SECRET}}
    yield "api_call", {**call, "body": {"value": SECRET}, "extract": {"kept": "response.body.body"}}
    yield "api_call", {**call, "response": "base64", "body": {"value": SECRET}}
    yield "api_call", {**call, "headers": {"X-Key": SECRET}}
    yield "webhook", {"url": f"{url}/fail", "payload": {"value": SECRET}, "secret": "{{ secrets.SIGNING }}"}
    # Misuses: each must fail without a word about the value.
    for wrong in ("url", "method", "expect_status", "timeout_seconds", "max_bytes", "response", "body_type"):
        yield "api_call", {**call, wrong: SECRET}
    yield "api_call", {**call, "url": "https://{{ secrets.TOKEN }}.invalid/"}
    yield "api_call", {**call, "url": "http://127.0.0.1:1/{{ secrets.TOKEN }}"}
    yield "api_call", {**call, "body": "{{ secrets.CANARY | int }}"}
    yield "api_call", {**call, "body": "{{ secrets.CANARY.field }}"}
    yield "api_call", {**call, "auth": {"type": "header", "name": SECRET, "value": "x"}}
    yield "webhook", {"url": f"{url}/ok", "secret": SECRET}
    yield "cron", {"job": "prune", "arguments": {"only": [SECRET]}}


def steps(url: str) -> list[dict[str, Any]]:
    call = {"url": f"{url}/ok", "method": "POST", "body": {"value": SECRET}}
    return [
        {"id": "call", "type": "api_call", "config": call},
        {"id": "keep", "type": "set", "config": {"values": {"answer": "{{ steps.call.output.body }}"}}},
        {
            "id": "mail",
            "type": "email",
            "config": {"to": "ops@example.com", "subject": "s", "text": "{{ vars.answer }}"},
        },
        {"id": "last", "type": "api_call", "config": {**call, "url": f"{url}/fail?key={{{{ secrets.TOKEN }}}}"}},
    ]


def run_everything() -> None:
    """What workers do until nothing is due."""
    worker = add_worker()
    for _ in range(20):
        now, found = clock.database_now(), False
        for kind, executable in executables.items():
            due = executable.model._default_manager.filter(
                worker=None, status__in=["pending", "running"], due_at__lte=now
            )
            for pk in due.order_by("id").values_list("pk", flat=True):
                runner.run(kind, pk, worker=worker)
                found = True
        if not found:
            return


def hidden_in(text: str) -> list[str]:
    return [each for value in HIDDEN for each in spellings(value) if each in text]


def database_dump() -> Iterator[tuple[str, str]]:
    """(table, all its rows as text), of every table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT string_agg(t::text, chr(10)) FROM "{table}" t')
            yield table, cursor.fetchone()[0] or ""


def api_addresses(client: APIClient) -> Iterator[str]:
    """Every GET of the OpenAPI document, with the ids that the list before the first one in its path gives."""
    for path, operations in SchemaGenerator().get_schema(request=None, public=True)["paths"].items():
        if "get" not in operations:
            continue
        if "{" not in path:
            yield path
            continue
        listed = client.get(path.partition("/{")[0])
        rows = listed.json().get("results", []) if listed.status_code == 200 else []
        for row in rows[:20]:
            yield re.sub(r"{\w+}", "1", re.sub(r"{\w+}", str(row.get("id", row.get("name"))), path, count=1))


def console_addresses() -> Iterator[str]:
    yield "/admin/"
    for model in admin.site._registry:
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        yield base
        for pk in model._default_manager.order_by("-pk").values_list("pk", flat=True)[:12]:
            yield f"{base}{pk}/change/"
            yield f"{base}{pk}/history/"


def answers(client: Client | APIClient, addresses: Iterator[str]) -> tuple[int, list[tuple[str, list[str]]]]:
    """How many pages opened, and where something hidden was found."""
    opened, found = 0, []
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code < 500, address
        opened += answer.status_code == 200
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        if leaked := hidden_in(content.decode(errors="replace") + str(answer.headers)):
            found.append((address, leaked))
    return opened, found


def test_a_secret_is_found_nowhere(lab, target, browser, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    notify = {"failure": ["hook", "signed"]}
    for number, (task_type, config) in enumerate(uses(target.url)):
        task = {"name": f"task {number}", "task_type": task_type, "config": config, "notify": notify,
                "retry_policy": {"max_attempts": 1}}  # fmt: skip
        created(lab.post(f"/v1/tasks/{created(lab.post('/v1/tasks', task))}/executions"))
    workflow = {"name": "w", "trigger_type": "manual", "steps": steps(target.url), "retry_policy": {"max_attempts": 1}}
    created(lab.post(f"/v1/workflows/{created(lab.post('/v1/workflows', workflow))}/executions", {}))
    lab.patch(f"/v1/secrets/{lab.get('/v1/secrets?name=TOKEN').json()['results'][0]['id']}", {"value": TOKEN})

    run_everything()
    for channel in lab.get("/v1/channels").json()["results"]:
        lab.post(f"/v1/channels/{channel['id']}/test")
    api_opened, in_api = answers(lab, api_addresses(lab))
    console_opened, in_console = answers(browser, console_addresses())
    writer.shutdown()

    sent = b"".join(target.requests).decode("latin-1")
    assert all(any(each in sent for each in spellings(value)) for value in (CANARY, TOKEN, HOOK)), "nothing was used"
    assert [(table, leaked) for table, rows in database_dump() if (leaked := hidden_in(rows))] == []
    assert in_api == []
    assert in_console == []
    assert hidden_in(caplog.text) == []
    assert hidden_in("".join(capfd.readouterr())) == []
    assert hidden_in("".join(message.body for message in mail.outbox)) == []
    assert (api_opened > 100, console_opened > 100) == (True, True)
