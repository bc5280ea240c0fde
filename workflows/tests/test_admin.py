"""Workflows and their runs in the console."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Group, User
from django.urls import reverse

from inbox.tests.factories import WebhookFactory
from workflows.models import Workflow, WorkflowExecution
from workflows.tests.factories import (
    StepAttemptFactory,
    StepExecutionFactory,
    WorkflowExecutionFactory,
    WorkflowFactory,
    WorkflowLogFactory,
    WorkflowVersionFactory,
)

BACKEND = "django.contrib.auth.backends.ModelBackend"
CANARY = "<script>alert('canary')</script>"
STEPS = [{"type": "set", "config": {"values": {"a": 1}}}]

pytestmark = pytest.mark.django_db


def page(model, name, *args):
    return reverse(f"admin:workflows_{model}_{name}", args=args)


def submitted(**values):
    return {"_form_submitted": "True", **values}


def said(response):
    return [str(message) for message in response.context["messages"]]


def workflow_form(**changes):
    return {
        "name": "Deploy",
        "description": "",
        "enabled": "on",
        "trigger_type": "manual",
        "trigger_config": "{}",
        "concurrency": "allow",
        "steps": json.dumps(STEPS),
        "variables": "{}",
        "timeout_seconds": 300,
        "retry_policy": "{}",
        "notify": "{}",
        **changes,
    }


def test_a_workflow_is_made_with_its_first_version(console):
    console.post(page("workflow", "add"), workflow_form())

    workflow = Workflow.objects.get()
    assert workflow.steps[0]["type"] == "set"
    assert workflow.versions.get().created_by == "root"


def test_a_changed_definition_makes_a_version(console):
    console.post(page("workflow", "add"), workflow_form())
    workflow = Workflow.objects.get()

    console.post(page("workflow", "change", workflow.pk), workflow_form(timeout_seconds=60))

    workflow.refresh_from_db()
    assert (workflow.timeout_seconds, workflow.version, workflow.versions.count()) == (60, 2, 2)


def test_faults_of_steps_stand_at_the_steps(console):
    response = console.post(page("workflow", "add"), workflow_form(steps='[{"type": "teleport"}]'))

    assert "steps" in response.context["adminform"].form.errors
    assert not Workflow.objects.exists()


@pytest.mark.parametrize("steps", ["{}", "5", '"text"', "[1]", "[", "null"])
def test_steps_that_are_no_list_of_steps_are_refused(console, steps):
    response = console.post(page("workflow", "add"), workflow_form(steps=steps))

    assert "steps" in response.context["adminform"].form.errors


def test_a_name_that_is_taken_is_refused_at_the_name(console):
    WorkflowFactory(name="Deploy")

    response = console.post(page("workflow", "add"), workflow_form())

    assert "name" in response.context["adminform"].form.errors


def test_a_workflow_is_run_with_input(console):
    workflow = WorkflowVersionFactory().workflow

    response = console.post(
        reverse("admin:workflows_workflow_run_now", args=[workflow.pk]),
        submitted(input_data='{"order_id": "12345"}'),
        follow=True,
    )

    run = WorkflowExecution.objects.get()
    assert (run.trigger_source, run.trigger_data, run.status) == ("manual", {"order_id": "12345"}, "pending")
    assert said(response) == [f"Run #{run.pk} is queued."]


def test_a_disabled_workflow_is_not_run_and_the_reason_is_said(console):
    workflow = WorkflowVersionFactory(workflow=WorkflowFactory(enabled=False)).workflow

    response = console.post(reverse("admin:workflows_workflow_run_now", args=[workflow.pk]), submitted(), follow=True)

    assert not WorkflowExecution.objects.exists()
    assert "enable it first" in said(response)[0]


def test_a_workflow_is_disabled_and_enabled(console):
    workflow = WorkflowVersionFactory(workflow=WorkflowFactory(steps=STEPS)).workflow

    console.post(reverse("admin:workflows_workflow_disable", args=[workflow.pk]), submitted())
    disabled = Workflow.objects.get()
    console.post(reverse("admin:workflows_workflow_enable", args=[workflow.pk]), submitted())

    assert not disabled.enabled
    assert Workflow.objects.get().enabled


def test_an_operator_runs_a_workflow_and_does_not_change_it(client):
    user = User.objects.create(username="operator", is_staff=True)
    user.groups.add(Group.objects.get(name="operator"))
    client.force_login(user, backend=BACKEND)
    workflow = WorkflowVersionFactory().workflow

    ran = client.post(reverse("admin:workflows_workflow_run_now", args=[workflow.pk]), submitted())
    changed = client.post(reverse("admin:workflows_workflow_disable", args=[workflow.pk]), submitted())

    assert (ran.status_code, changed.status_code) == (302, 403)
    assert WorkflowExecution.objects.count() == 1
    assert Workflow.objects.get().enabled


def test_a_workflow_with_its_finished_runs_is_deleted(console):
    run = WorkflowExecutionFactory(status="success")

    confirmation = console.get(page("workflow", "delete", run.workflow_id)).content.decode()
    console.post(page("workflow", "delete", run.workflow_id), {"post": "yes"})

    assert "Workflow executions: 1" in confirmation
    assert not Workflow.objects.exists()
    assert not WorkflowExecution.objects.exists()


def test_a_run_shows_steps_logs_and_its_webhook_escaped(console):
    webhook = WebhookFactory()
    run = WorkflowExecutionFactory(webhook=webhook, trigger_data={"x": CANARY}, error_message=CANARY)
    step = StepExecutionFactory(execution=run, name=CANARY, output={"body": CANARY}, error={"message": CANARY})
    WorkflowLogFactory(execution=run, text=f"POST {CANARY}", path="build")

    html = console.get(page("workflowexecution", "change", run.pk)).content.decode()

    assert page("stepexecution", "change", step.pk) in html
    assert reverse("admin:inbox_webhook_change", args=[webhook.pk]) in html
    assert "&lt;script&gt;" in html
    assert "<script>alert" not in html


def test_a_webhook_shows_the_runs_that_it_started(console):
    webhook = WebhookFactory()
    run = WorkflowExecutionFactory(webhook=webhook, status="failed", error_message="http.503")

    html = console.get(reverse("admin:inbox_webhook_change", args=[webhook.pk])).content.decode()

    assert page("workflowexecution", "change", run.pk) in html
    assert "http.503" in html


def test_a_step_shows_its_attempts(console):
    step = StepExecutionFactory()
    StepAttemptFactory(step=step, status="failed", error={"message": "connect timed out"})

    assert b"connect timed out" in console.get(page("stepexecution", "change", step.pk)).content


def test_a_pending_run_is_cancelled(console):
    run = WorkflowExecutionFactory()

    console.post(reverse("admin:workflows_workflowexecution_cancel", args=[run.pk]), submitted())

    assert WorkflowExecution.objects.get().status == "cancelled"


def test_a_step_with_an_unknown_outcome_is_decided(console):
    run = WorkflowExecutionFactory(status="running", waiting_for="decision")
    step = StepExecutionFactory(execution=run, status="interrupted")
    url = reverse("admin:workflows_workflowexecution_decide", args=[run.pk])

    offered = url in console.get(page("workflowexecution", "change", run.pk)).content.decode()
    console.post(url, submitted(decision="skip", step="", output='{"charged": true}'))

    step.refresh_from_db()
    assert offered
    assert (step.signal["action"], step.signal["output"]) == ("skip", {"charged": True})
    assert WorkflowExecution.objects.get().waiting_for == ""


def test_a_run_that_waits_for_no_decision_offers_none(console):
    run = WorkflowExecutionFactory(status="running")

    html = console.get(page("workflowexecution", "change", run.pk)).content.decode()

    assert reverse("admin:workflows_workflowexecution_decide", args=[run.pk]) not in html


def test_a_trigger_that_matches_nothing_is_saved_with_a_warning(console):
    response = console.post(page("workflow", "add"), workflow_form(trigger_type="webhook"), follow=True)

    assert Workflow.objects.exists()
    assert any("Matches no webhook" in text for text in said(response))


def test_a_template_with_an_unknown_name_is_refused_at_its_part(console):
    data = {"name": "deployed", "to": "", "subject": "{{ nonsense.ref }}", "text": "", "html": ""}

    response = console.post(page("messagetemplate", "add"), data)

    assert "subject" in response.context["adminform"].form.errors


def test_a_schema_that_is_none_is_refused(console):
    response = console.post(page("namedschema", "add"), {"name": "order", "schema": '{"type": "teapot"}'})

    assert response.context["adminform"].form.errors


def test_a_run_with_more_steps_than_are_shown_leads_to_all_of_them(console, django_assert_max_num_queries):
    run = WorkflowExecutionFactory()
    steps = StepExecutionFactory.build_batch(300, execution=run)
    type(steps[0]).objects.bulk_create(steps)

    with django_assert_max_num_queries(12):
        html = console.get(page("workflowexecution", "change", run.pk)).content.decode()

    assert f"{page('stepexecution', 'changelist')}?execution__id__exact={run.pk}" in html
