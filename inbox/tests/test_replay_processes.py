"""A batch worked off by real workers, the first of which is killed in the middle."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time

import pytest
from django.conf import settings as lab_settings

from automation_lab.core.tests.servers import StubServer, response
from automation_lab.serving import servers
from automation_lab.tests.servers import database_environment
from inbox.models import Forward
from inbox.replaying import replays
from inbox.tests.factories import WebhookFactory

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
START_SECONDS = 60
RECOVERED_WITHIN_SECONDS = 120


@pytest.fixture
def target(settings):
    server = StubServer(response(200))
    settings.OUTBOUND_ALLOW = f"127.0.0.1:{server.port}"
    yield server
    server.close()


@pytest.fixture
def start_worker(target):
    with contextlib.ExitStack() as stack:

        def start():
            environment = {
                **database_environment(),
                **servers.process_environment("worker", "127.0.0.1"),
                "OUTBOUND_ALLOW": lab_settings.OUTBOUND_ALLOW,
            }
            process = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=servers.BASE_DIR,
                env=environment,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


def wait(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_batch_whose_worker_is_killed_is_finished_by_another_and_starts_each_forward_once(target, start_worker):
    ids = [webhook.pk for webhook in WebhookFactory.create_batch(60)]
    replay = replays.replay_webhooks(
        webhook_ids=ids, filters={}, target="url", options={"url": target.url}, rate_per_second=15
    )

    first = start_worker()
    wait(lambda: len(target.requests) >= 20, START_SECONDS)
    first.kill()
    first.wait()
    start_worker()
    wait(lambda: not Forward.objects.exclude(status="success").exists() and Forward.objects.count() == 60,
         RECOVERED_WITHIN_SECONDS)  # fmt: skip

    replay.refresh_from_db()
    assert (replay.status, replay.done_count, replay.failed_count) == ("success", 60, 0)
    assert list(Forward.objects.order_by("id").values_list("webhook_id", flat=True)) == ids
    sent = [int(re.search(rb"X-Automation-Lab-Replay-Of: (\d+)", request)[1]) for request in target.requests]
    assert set(sent) == set(ids)
