"""Senders in parallel against several processes of the real web server."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from automation_lab.tests.raw_http import request
from automation_lab.tests.servers import granian_server
from inbox.models import Webhook
from inbox.tests.factories import SourceFactory
from workflows import services
from workflows.models import WorkflowExecution

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
STEP = {"type": "set", "config": {"values": {"seen": True}}}
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), granian_server(workers=4) as running:
        yield running


def post_in_parallel(server, number, path, *headers):
    """The answers, counted by status."""

    def post(_):
        return request(server.port, "POST", path, headers=(JSON, *headers), body=b'{"a": 1}')

    with ThreadPoolExecutor(16) as senders:
        return Counter(answer.status for answer in senders.map(post, range(number)))


def test_fifty_parallel_deliveries_of_one_id_start_one_run(server):
    SourceFactory(name="shop")
    services.create_workflow(
        fields={"name": "Order", "trigger_type": "webhook", "trigger_config": {"source": "shop"}, "steps": [STEP]}
    )

    answers = post_in_parallel(server, 50, "/v1/webhooks/inbox/shop", "X-GitHub-Delivery: d-1")

    assert answers == {201: 1, 200: 49}, server.log
    first = Webhook.objects.get(is_duplicate=False)
    assert first.duplicate_count == 49
    assert Webhook.objects.filter(duplicate_of=first).count() == 49
    assert WorkflowExecution.objects.count() == 1


def test_eight_hundred_parallel_posts_never_pass_the_limit(server):
    SourceFactory(name="limited", rate_limit="200/minute")

    answers = post_in_parallel(server, 800, "/v1/webhooks/inbox/limited")

    assert set(answers) == {201, 429}, server.log
    assert 190 <= answers[201] <= 200
    assert Webhook.objects.count() == answers[201]
