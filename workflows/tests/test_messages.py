"""Messages about runs, and what a run that ends at once does to its webhook."""

from __future__ import annotations

from typing import Any

import pytest

from inbox.models import Webhook
from tasks.models import Notification
from tasks.notifying import channels
from workflows import services
from workflows.models import Workflow
from workflows.triggering import triggers

pytestmark = pytest.mark.django_db

FAILS = [{"type": "fail", "config": {"message": "on purpose"}}]
WORKS = [{"type": "set", "config": {"values": {"a": 1}}}]


@pytest.fixture
def notify() -> dict[str, list[str]]:
    channels.create_channel(name="ops", kind="email", target="ops@example.com")
    return {"failure": ["ops"], "recovery": ["ops"], "skipped": ["ops"]}


def workflow_of(**fields: Any) -> Workflow:
    return services.create_workflow(fields={"name": "Told", **fields})


def told() -> list[tuple[str, str]]:
    return list(Notification.objects.order_by("id").values_list("event", "text"))


def test_a_failed_run_is_told_with_its_reason(notify, drive):
    workflow = workflow_of(steps=FAILS, notify=notify)

    drive(services.start_execution(workflow=workflow))

    ((event, text),) = told()
    assert event == "failure"
    assert "on purpose" in text


def test_a_recovery_is_told_once_after_a_failure(notify, drive):
    workflow = workflow_of(steps=FAILS, notify={"recovery": notify["recovery"]})
    drive(services.start_execution(workflow=workflow))
    workflow = services.update_workflow(workflow=workflow, changes={"steps": WORKS})

    drive(services.start_execution(workflow=workflow))
    drive(services.start_execution(workflow=workflow))

    assert [event for event, _ in told()] == ["recovery"]


def test_a_skipped_run_is_told(notify):
    workflow = workflow_of(steps=WORKS, notify=notify, concurrency="skip")
    services.start_execution(workflow=workflow)

    services.start_execution(workflow=workflow)

    ((event, text),) = told()
    assert (event, text.split(":")[0]) == ("skipped", "Skipped")


def test_nobody_is_told_without_being_asked(drive):
    drive(services.start_execution(workflow=workflow_of(steps=FAILS)))

    assert told() == []


def test_an_unknown_channel_is_refused(api):
    answer = api.post("/v1/workflows", {"name": "Told", "steps": WORKS, "notify": {"failure": ["nobody"]}})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "notify.failure"


def test_a_webhook_whose_only_run_failed_at_once_is_failed():
    workflow = workflow_of(
        steps=WORKS, trigger_type="webhook", trigger_config={"source": "x", "filter": "trigger.data.a > 1"}
    )
    webhook = Webhook.objects.create(source="x", method="POST", path="/", raw_body=b"{}", sha256="0" * 64, body={})

    triggers.start_matching(sender=Webhook, webhook=webhook)

    webhook.refresh_from_db()
    assert workflow.executions.get().status == "failed"
    assert webhook.status == "failed"
