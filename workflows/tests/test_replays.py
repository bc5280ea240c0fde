from __future__ import annotations

import pytest

from automation_lab.core import clock
from automation_lab.core.execution import queue
from automation_lab.core.execution.tests.helpers import take
from inbox.models import Replay, Webhook
from inbox.replaying import replays
from inbox.tests.factories import WebhookFactory
from workflows import outcomes, services
from workflows.models import WorkflowExecution

pytestmark = pytest.mark.django_db
INBOX = "/v1/webhooks/inbox"


def workflow(name="pushes", **fields):
    return services.create_workflow(
        fields={
            "name": name,
            "trigger_type": "webhook",
            "trigger_config": {"source": "github"},
            "steps": [{"type": "set", "config": {"values": {"a": 1}}}],
            **fields,
        }
    )


def finish(run, status):
    """End `run` as a worker does."""
    now = clock.database_now()
    queue.finish(take(run), status=status, now=now)
    outcomes.record(run, status=status, now=now)


def status_of(webhook):
    return Webhook.objects.values_list("status", flat=True).get(pk=webhook.pk)


def test_a_replay_starts_every_workflow_that_the_webhook_matches_now(api):
    first, second = workflow(), workflow("also")
    workflow("other", trigger_config={"source": "gitlab"})
    workflow("off", enabled=False)
    webhook = WebhookFactory(body={"a": 1})

    response = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows"})

    assert response.status_code == 202
    runs = WorkflowExecution.objects.order_by("id")
    assert [run.workflow_id for run in runs] == [first.pk, second.pk]
    assert {(run.webhook_id, run.trigger_source, run.status) for run in runs} == {(webhook.pk, "replay", "pending")}
    assert runs[0].trigger_data == {"a": 1}
    assert runs[0].dedupe_key == f"replay:{response.json()['id']}:{webhook.pk}"
    assert {row["kind"] for row in response.json()["executions"]} == {"workflows.workflowexecution"}


def test_a_webhook_that_nothing_matches_is_said_to_be_so(api):
    webhook = WebhookFactory()

    response = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows"})

    assert (response.status_code, Replay.objects.count()) == (409, 0)
    assert response.json()["detail"] == "No enabled workflow matches this webhook."


def test_a_chosen_workflow_needs_not_match(api):
    chosen = workflow(trigger_type="manual", trigger_config={})
    webhook = WebhookFactory()

    response = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflow", "workflow": chosen.pk})

    assert response.status_code == 202
    assert WorkflowExecution.objects.get().workflow_id == chosen.pk


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"workflow": 10**9}, 404),
        ({"workflow": "off"}, 409),
        ({"workflow": "on", "url": "https://example.com"}, 400),
        ({"workflow": "on", "signing": {"scheme": "source"}}, 400),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(api, body, status):
    ids = {"on": workflow().pk, "off": workflow("off", enabled=False).pk}
    webhook = WebhookFactory()
    body = {name: ids.get(value, value) if name == "workflow" else value for name, value in body.items()}

    response = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflow", **body})

    assert (response.status_code, WorkflowExecution.objects.count()) == (status, 0)


@pytest.mark.parametrize("values", [{"status": "rejected"}, {"flags": ["handshake"]}, {"flags": ["payload_removed"]}])
def test_a_webhook_that_could_never_start_a_workflow_does_not_by_a_replay(api, values):
    workflow()
    webhook = WebhookFactory(**values)

    response = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows"})

    assert (response.status_code, WorkflowExecution.objects.count()) == (409, 0)


def test_an_edited_body_is_what_the_filter_and_the_run_see(api):
    workflow(trigger_config={"source": "github", "filter": "{{ trigger.body.total > 100 }}"})
    webhook = WebhookFactory(body={"total": 1})

    refused = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows"})
    edited = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows", "body": {"total": 200}})

    run = WorkflowExecution.objects.get()
    assert (refused.status_code, edited.status_code) == (409, 202)
    assert (run.trigger_source, run.trigger_data) == ("replay_edited", {"total": 200})
    webhook.refresh_from_db()
    assert webhook.body == {"total": 1}


def test_the_status_of_the_webhook_is_settled_again_by_the_replay(api):
    workflow()
    webhook = WebhookFactory()
    api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows"})
    finish(WorkflowExecution.objects.get(), "failed")
    failed = status_of(webhook)

    api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows"})
    replayed = status_of(webhook)
    finish(WorkflowExecution.objects.latest("id"), "success")

    assert (failed, replayed, status_of(webhook)) == ("failed", "received", "processed")


def test_a_failure_of_another_workflow_is_not_covered_by_a_replay(api):
    failing, fine = workflow(), workflow("fine")
    webhook = WebhookFactory()
    api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows"})
    finish(WorkflowExecution.objects.get(workflow=failing), "failed")
    finish(WorkflowExecution.objects.get(workflow=fine), "success")

    api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflow", "workflow": fine.pk})
    finish(WorkflowExecution.objects.latest("id"), "success")

    assert status_of(webhook) == "failed"


def test_one_batch_starts_one_run_per_webhook_and_workflow():
    started = workflow()
    webhooks = WebhookFactory.create_batch(2)
    replay = replays.replay_webhooks(
        webhook_ids=[webhook.pk for webhook in webhooks], filters={}, target="workflows", options={}
    )

    claim = take(replay)
    replays._run_slice(claim)

    assert WorkflowExecution.objects.filter(workflow=started).count() == 2
    assert replays.outcomes(replay) == {"pending": 2}
