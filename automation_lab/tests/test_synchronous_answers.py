"""A sender that is answered by the workflow it starts, with a real web server and worker."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import Any

import pytest
from django.db import connection

from automation_lab.tests.servers import granian_server, worker_process
from workflows import services

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def post(port: int, source: str, body: dict[str, Any]) -> tuple[http.client.HTTPResponse, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request("POST", f"/v1/webhooks/inbox/{source}", json.dumps(body), {"Content-Type": "application/json"})
        response = client.getresponse()
        return response, response.read()


def wait_for_worker() -> None:
    deadline = time.monotonic() + 30
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM procrastinate_workers")
            if cursor.fetchone()[0]:
                return
        assert time.monotonic() < deadline, "no worker has registered"
        time.sleep(0.05)


def test_the_sender_gets_what_the_workflow_responds_and_202_when_it_does_not():
    answer = {"status": 201, "headers": {"X-Greeting": "yes"}, "body": {"hello": "{{ trigger.data.name }}"}}
    steps = [
        {"type": "respond", "config": answer},
        {"type": "delay", "config": {"seconds": 60}},
    ]
    services.create_workflow(
        fields={"name": "Greets", "trigger_type": "webhook", "trigger_config": {"source": "greet"}, "steps": steps}
    )
    silent = [{"type": "condition", "config": {"if": False, "then": steps[:1]}}]
    services.create_workflow(
        fields={"name": "Silent", "trigger_type": "webhook", "trigger_config": {"source": "silent"}, "steps": silent}
    )

    with granian_server() as web, worker_process():
        wait_for_worker()
        greeted, greeting = post(web.port, "greet", {"name": "ann"})
        unanswered, receipt = post(web.port, "silent", {})

    assert (greeted.status, json.loads(greeting)) == (201, {"hello": "ann"})
    assert greeted.headers["X-Greeting"] == "yes"
    assert "sandbox" in greeted.headers["Content-Security-Policy"]
    assert unanswered.status == 202
    assert json.loads(receipt)["duplicate"] is False
