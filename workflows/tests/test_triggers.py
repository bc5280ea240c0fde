"""Which webhooks start which workflows, and what becomes of the webhook."""

from __future__ import annotations

import threading

import pytest
from django.db import connections

from automation_lab.core.execution import runner
from automation_lab.core.expressions import ExpressionError
from inbox.models import Source, Webhook
from inbox.receiving.storing import receive_webhook
from inbox.tests.factories import WebhookFactory, incoming
from workflows import services
from workflows.models import WorkflowExecution
from workflows.tests.helpers import KIND, new_worker
from workflows.triggering import starting, triggers

pytestmark = pytest.mark.django_db
GITHUB = {"source": "github"}
PUSH = b'{"ref": "refs/heads/main", "size": 2}'


@pytest.fixture
def listening(db):
    def make(config, name="on webhook", steps=({"type": "set", "config": {"values": {"x": 1}}},), **fields):
        values = {"trigger_type": "webhook", "trigger_config": config, "steps": [*steps], "name": name, **fields}
        return services.create_workflow(fields=values)

    return make


def receive(body=PUSH, source="github", event_type="push", headers=(), **values):
    request = incoming(body, headers=[("X-GitHub-Event", event_type), *headers], **values)
    return receive_webhook(request=request, source=Source(name=source))


@pytest.mark.parametrize(
    ("config", "matches"),
    [
        ({}, False),
        ({"source": "github"}, True),
        ({"source": "gitlab"}, False),
        ({"source": ["gitlab", "github"], "event_type": ["push", "ping"]}, True),
        ({"source": "github", "event_type": "ping"}, False),
        ({"source": []}, False),
        ({"event_type": "push"}, True),
        ({"source": "github", "filter": "trigger.data.size > 1"}, True),
        ({"source": "github", "filter": "trigger.headers['X-Kind'] == 'a' and trigger.query.q == '1'"}, True),
        ({"filter": "{{ trigger.body.ref == 'refs/heads/dev' }}"}, False),
        ({"source": "github", "filter": False}, False),
    ],
    ids=str,
)
def test_a_webhook_is_matched(config, matches):
    body = {"ref": "refs/heads/main", "size": 2}
    webhook = WebhookFactory(event_type="push", body=body, headers=[["X-Kind", "a"]], query_params=[["q", "1"]])

    assert triggers.matches(config, webhook) is matches


@pytest.mark.parametrize(
    ("config", "starts"),
    [
        ({"source": "github"}, True),
        ({"source": "git"}, False),
        ({"source": ["gitlab", "github"], "event_type": ["ping", "push"]}, True),
        ({"source": ["gitlab"], "event_type": "push"}, False),
        ({"source": "github", "event_type": "ping"}, False),
        ({"source": []}, False),
        ({"event_type": "push"}, True),
        ({}, False),
    ],
    ids=str,
)
def test_what_a_config_names_starts_a_run(listening, config, starts):
    listening(config)

    receive()

    assert WorkflowExecution.objects.exists() is starts


def test_a_webhook_that_starts_nothing_reads_no_definition(listening, django_assert_num_queries):
    for number in range(3):
        listening({"source": "gitlab"}, name=f"workflow {number}")
    webhook = WebhookFactory(event_type="push")

    with django_assert_num_queries(1) as captured:
        triggers.start_matching(sender=Webhook, webhook=webhook)

    assert "steps" not in captured[0]["sql"]


def test_a_filter_that_cannot_be_judged_is_an_error():
    with pytest.raises(ExpressionError):
        triggers.matches({"filter": "trigger.data.size"}, WebhookFactory(body={"size": 1}))


def test_a_webhook_starts_every_workflow_that_matches(listening, drive):
    see = {
        "id": "see",
        "type": "set",
        "config": {"values": {"ref": "{{ trigger.data.ref }}", "of": "{{ trigger.source }}"}},
    }
    first, second = listening(GITHUB, "first", [see]), listening({"event_type": "push"}, "second")
    listening({"source": "gitlab"}, "third")
    listening(GITHUB, "fourth", enabled=False)

    webhook = receive()

    runs = WorkflowExecution.objects.order_by("id")
    assert [run.workflow for run in runs] == [first, second]
    assert {run.webhook for run in runs} == {webhook}
    assert drive(runs[0]).variables == {"ref": "refs/heads/main", "of": "github"}


def test_a_repeated_delivery_starts_nothing(listening):
    listening(GITHUB)

    for _ in range(2):
        receive(headers=[("X-GitHub-Delivery", "d-1")])

    assert (Webhook.objects.count(), WorkflowExecution.objects.count()) == (2, 1)


def test_a_failing_filter_leaves_a_failed_run_and_keeps_the_webhook(listening):
    listening({"source": "github", "filter": "trigger.data.nothing > 1"}, "bad")
    good = listening(GITHUB, "good")

    webhook = receive()

    bad = WorkflowExecution.objects.get(status="failed")
    assert bad.error_message.startswith("The filter failed: `trigger.data.nothing`")
    assert bad.workflow.failure_count == 1
    assert WorkflowExecution.objects.get(status="pending").workflow == good
    assert Webhook.objects.get(pk=webhook.pk).raw_body == PUSH


@pytest.mark.parametrize("broken", ["triggers.matches", "starting._evaluated"])
def test_an_error_that_nobody_foresaw_keeps_the_webhook_and_the_other_runs(listening, monkeypatch, broken):
    listening({**GITHUB, "input": {"a": "{{ trigger.id }}"}}, "bad")
    good = listening(GITHUB, "good")
    module, name = broken.split(".")
    original = getattr({"triggers": triggers, "starting": starting}[module], name)

    def breaks_once(*args):
        monkeypatch.setattr(f"workflows.triggering.{broken}", original)
        raise KeyError("an inner detail")

    monkeypatch.setattr(f"workflows.triggering.{broken}", breaks_once)
    webhook = receive()

    assert Webhook.objects.get(pk=webhook.pk).status == "failed"
    bad = WorkflowExecution.objects.get(status="failed")
    assert bad.error_message == "Internal error: KeyError. The server's log has the details."
    assert WorkflowExecution.objects.exclude(pk=bad.pk).get().workflow == good


@pytest.mark.parametrize(("hop", "status"), [("9", "pending"), ("10", "failed"), ("-1", "pending"), ("x", "pending")])
def test_a_chain_of_workflows_ends_after_ten_hops(listening, hop, status):
    listening(GITHUB)

    receive(headers=[("X-Automation-Lab-Hop", hop)])

    run = WorkflowExecution.objects.get()
    assert run.status == status
    assert ("loop" in run.error_message) == (status == "failed")


def test_what_a_run_sends_carries_the_next_hop(listening, drive, serve):
    server = serve()
    listening(GITHUB, steps=[{"type": "api_call", "config": {"url": server.url}}])
    receive(headers=[("X-Automation-Lab-Hop", "3")])

    drive(WorkflowExecution.objects.get())

    assert b"x-automation-lab-hop: 4" in server.requests[0].lower()


# --- the webhook's status ---------------------------------------------------------------------------------------------

FAIL = {"type": "fail", "config": {"message": "No."}}


@pytest.mark.parametrize(
    ("steps", "status", "error"), [((), "processed", ""), ((FAIL,), "failed", "Workflow run {} failed: Step fail: No.")]
)
def test_the_webhook_shows_how_its_run_ended(listening, drive, steps, status, error):
    listening(GITHUB, steps=steps)
    webhook = receive()
    assert webhook.status == "received"

    run = drive(WorkflowExecution.objects.get())

    webhook.refresh_from_db()
    assert (webhook.status, webhook.error_message) == (status, error.format(run.pk))


def test_the_webhook_is_processed_when_everything_it_started_has_succeeded(listening, drive):
    listening(GITHUB, "one")
    listening(GITHUB, "two")
    webhook = receive()
    one, two = WorkflowExecution.objects.order_by("id")

    drive(one)
    webhook.refresh_from_db()
    assert webhook.status == "received"

    drive(two)
    webhook.refresh_from_db()
    assert webhook.status == "processed"


def test_a_cancelled_run_fails_the_webhook(listening):
    listening(GITHUB)
    webhook = receive()

    services.cancel_execution(execution=WorkflowExecution.objects.get())

    webhook.refresh_from_db()
    assert webhook.status == "failed"


@pytest.mark.django_db(transaction=True)
def test_two_runs_that_end_at_the_same_time_settle_the_webhook(listening):
    listening(GITHUB, "one")
    listening(GITHUB, "two")

    for _ in range(5):
        webhook = receive()
        together = threading.Barrier(2)

        def end(pk, together=together):
            worker = new_worker()
            together.wait()
            runner.run(KIND, pk, worker=worker)
            connections.close_all()

        ending = [
            threading.Thread(target=end, args=(run.pk,)) for run in WorkflowExecution.objects.filter(webhook=webhook)
        ]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()

        webhook.refresh_from_db()
        assert webhook.status == "processed"


# --- on save ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger_type", "config", "field"),
    [
        ("webhook", {"sorce": "github"}, "trigger_config.sorce"),
        ("webhook", {"source": 1}, "trigger_config.source"),
        ("webhook", {"event_type": [1]}, "trigger_config.event_type[0]"),
        ("webhook", {"filter": "trigger."}, "trigger_config.filter"),
        ("webhook", {"filter": "body.x == 1"}, "trigger_config.filter"),
        ("webhook", [], "trigger_config"),
        ("carrier pigeon", {}, "trigger_type"),
    ],
    ids=str,
)
def test_a_trigger_that_cannot_work_has_a_fault(trigger_type, config, field):
    assert [fault["field"] for fault in triggers.faults(trigger_type, config)] == [field]


def test_a_trigger_that_matches_nothing_is_warned_about(listening):
    assert [warning["path"] for warning in services.warnings(listening({}))] == ["trigger_config"]
    assert services.warnings(listening(GITHUB, "other")) == []
