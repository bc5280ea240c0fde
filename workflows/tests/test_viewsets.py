"""Workflows, runs, templates, schemas, approvals, callbacks and events over the API."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core import mail

from automation_lab import tokens
from workflows import links, services
from workflows.models import StepExecution, Workflow, WorkflowExecution, WorkflowVersion
from workflows.tests.factories import (
    MessageTemplateFactory,
    NamedSchemaFactory,
    StepExecutionFactory,
    WorkflowExecutionFactory,
    WorkflowFactory,
    WorkflowLogFactory,
)

pytestmark = pytest.mark.django_db
WORKFLOWS = "/v1/workflows"
RUNS = "/v1/workflows/executions"
TEMPLATES = "/v1/workflows/templates"
SCHEMAS = "/v1/workflows/schemas"
STEPS = [{"id": "a", "type": "set", "config": {"values": {"x": 1}}}]

# From the request document, as it is printed there.
ORDER_PROCESSING = """{
    "name": "Order Processing",
    "trigger_type": "webhook",
    "enabled": true,
    "steps": [
      {"type": "validate", "config": {"schema": "order"}},
      {"type": "api_call", "config": {"url": "https://api.payment.com/charge"}},
      {"type": "email", "config": {"template": "order_confirmation"}}
    ],
    "timeout_seconds": 300
  }"""
START = """{
    "trigger_source": "manual",
    "trigger_data": {"order_id": "12345"}
  }"""


def send(api, path, text):
    return api.post(path, data=text, content_type="application/json")


@pytest.fixture
def workflow(db):
    return services.create_workflow(fields={"name": "orders", "steps": STEPS})


# --- the document's example -------------------------------------------------------------------------------------------


def test_the_documents_workflow_is_saved_with_warnings(api):
    response = send(api, WORKFLOWS, ORDER_PROCESSING)

    assert response.status_code == 201
    data = response.json()
    assert (data["name"], data["version"], data["timeout_seconds"]) == ("Order Processing", 1, 300)
    assert [step["id"] for step in data["steps"]] == ["validate", "api_call", "email"]
    assert [warning["path"] for warning in data["warnings"]] == ["trigger_config", "steps[0].config", "steps[2].config"]


def test_the_documents_workflow_fails_with_a_clear_error_while_parts_are_missing(api, drive):
    workflow_id = send(api, WORKFLOWS, ORDER_PROCESSING).json()["id"]

    response = send(api, f"{WORKFLOWS}/{workflow_id}/executions", START)
    run = drive(WorkflowExecution.objects.get())

    assert (response.status_code, response.json()["status"]) == (202, "pending")
    assert run.status == "failed"
    assert run.error_message.startswith("Step validate: There is no schema named 'order': add it")


def test_the_documents_workflow_runs_once_its_parts_are_there(api, drive, serve, settings):
    server = serve({"charged": True})
    settings.OUTBOUND_ALLOW = server.url.removeprefix("http://")
    document = ORDER_PROCESSING.replace("https://api.payment.com/charge", f"{server.url}/charge")
    workflow_id = send(api, WORKFLOWS, document).json()["id"]
    assert (
        api.post(SCHEMAS, {"name": "order", "schema": {"type": "object", "required": ["order_id"]}}).status_code == 201
    )
    template = {
        "name": "order_confirmation",
        "to": "buyer@example.com",
        "subject": "Order {{ trigger.data.order_id }}",
        "text": "Charged: {{ steps.api_call.output.body.charged }}",
    }
    assert api.post(TEMPLATES, template).status_code == 201

    run_id = send(api, f"{WORKFLOWS}/{workflow_id}/executions", START).json()["id"]
    drive(WorkflowExecution.objects.get())

    data = api.get(f"{RUNS}/{run_id}").json()
    assert (data["status"], data["current_step"], data["total_steps"]) == ("success", 3, 3)
    assert [(step["id"], step["status"]) for step in data["step_results"]] == [
        ("validate", "success"),
        ("api_call", "success"),
        ("email", "success"),
    ]
    assert [(message.to, message.subject, message.body) for message in mail.outbox] == [
        (["buyer@example.com"], "Order 12345", "Charged: true")
    ]
    assert [warning["path"] for warning in api.get(f"{WORKFLOWS}/{workflow_id}").json()["warnings"]] == [
        "trigger_config"
    ]


# --- workflows --------------------------------------------------------------------------------------------------------


def test_a_workflow_is_changed_and_the_change_is_recorded(api, workflow):
    response = api.patch(f"{WORKFLOWS}/{workflow.pk}", {"enabled": False, "variables": {"a": 1}})

    assert response.status_code == 200
    assert (response.json()["enabled"], response.json()["version"]) == (False, 2)
    assert json.loads(LogEntry.objects.get().change_message) == [{"changed": {"fields": ["enabled", "variables"]}}]


def test_a_faulty_workflow_is_refused_with_the_path_of_every_fault(api):
    steps = [{"type": "set", "config": {"values": {"x": "{{ trigr }}"}}}, {"type": "emial"}]

    response = api.post(WORKFLOWS, {"name": "w", "steps": steps, "timeout_seconds": 0})

    assert response.status_code == 400
    found = [error["field"] for error in response.json()["errors"]]
    assert found == ["steps[0].config.values.x", "steps[1].type", "timeout_seconds"]
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "name"),
        ({"name": "w", "steps": {}}, "steps"),
        ({"name": "w", "version": 7}, "version"),
        ({"name": "w", "colour": 1}, "colour"),
        ({"name": "w", "enabled": "yes"}, "enabled"),
        ({"name": "w", "concurrency": "some"}, "concurrency"),
        ({"name": "orders"}, "name"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_is_refused(api, workflow, data, field):
    response = api.post(WORKFLOWS, data)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]


def test_a_workflow_is_deleted_unless_it_runs(api, workflow):
    run = services.start_execution(workflow=workflow)
    assert api.delete(f"{WORKFLOWS}/{workflow.pk}").status_code == 409

    services.cancel_execution(execution=run)

    assert api.delete(f"{WORKFLOWS}/{workflow.pk}").status_code == 204
    assert api.get(f"{WORKFLOWS}/{workflow.pk}").status_code == 404


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["third", "second", "first"]),
        ("enabled=true", ["third", "first"]),
        ("trigger_type=event", ["third"]),
        ("name=IR", ["third", "first"]),
        ("ordering=name", ["first", "second", "third"]),
    ],
)
def test_workflows_are_filtered_and_ordered(api, query, found):
    WorkflowFactory(name="first")
    WorkflowFactory(name="second", enabled=False)
    WorkflowFactory(name="third", trigger_type="event")

    assert [row["name"] for row in api.get(f"{WORKFLOWS}?{query}").json()["results"]] == found


def test_an_unknown_filter_is_refused(api):
    assert api.get(f"{WORKFLOWS}?colour=red").status_code == 400
    assert api.get(f"{RUNS}?colour=red").status_code == 400


def test_versions_are_listed_newest_first(api, workflow):
    services.update_workflow(workflow=workflow, changes={"variables": {"a": 1}}, author="pat")

    page = api.get(f"{WORKFLOWS}/{workflow.pk}/versions").json()
    first = api.get(f"{WORKFLOWS}/{workflow.pk}/versions/1").json()

    assert [(row["number"], row["created_by"]) for row in page["results"]] == [(2, "pat"), (1, "")]
    assert (first["number"], first["variables"], first["steps"]) == (1, {}, STEPS)
    assert api.get(f"{WORKFLOWS}/{workflow.pk}/versions/3").status_code == 404


@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize(
    ("path", "factory"),
    [
        (WORKFLOWS, WorkflowFactory),
        (RUNS, WorkflowExecutionFactory),
        (TEMPLATES, MessageTemplateFactory),
        (SCHEMAS, NamedSchemaFactory),
    ],
)
def test_a_list_costs_the_same_for_any_number_of_rows(api, django_assert_num_queries, path, factory, size):
    factory.create_batch(size)
    api.get(path)  # notes that the token is used

    with django_assert_num_queries(3):  # token, count, page
        assert len(api.get(path).json()["results"]) == size


def test_a_list_of_runs_leaves_their_documents_in_the_database(api, django_assert_num_queries):
    WorkflowExecutionFactory()
    api.get(RUNS)

    with django_assert_num_queries(3) as queries:
        api.get(RUNS)
    read = queries.captured_queries[-1]["sql"]
    assert [name for name in ("trigger_data", "variables", "output") if f'"{name}"' in read] == []


@pytest.mark.parametrize("size", [1, 20])
def test_a_run_costs_the_same_for_any_number_of_steps(api, django_assert_num_queries, size):
    run = WorkflowExecutionFactory()
    StepExecutionFactory.create_batch(size, execution=run)
    WorkflowLogFactory.create_batch(size, execution=run)
    api.get(f"{RUNS}/{run.pk}")

    with django_assert_num_queries(4):  # token, run, steps, log
        data = api.get(f"{RUNS}/{run.pk}").json()
    assert (len(data["step_results"]), len(data["logs"])) == (size, size)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_is_started_for_its_caller(api, workflow, admin_user):
    response = api.post(f"{WORKFLOWS}/{workflow.pk}/executions", {})

    assert response.status_code == 202
    data = response.json()
    assert (data["workflow"], data["status"], data["trigger_source"], data["trigger_data"]) == (
        workflow.pk,
        "pending",
        "manual",
        None,
    )
    assert data["started_by"] == admin_user.username
    assert LogEntry.objects.get().change_message == "Started."


def test_the_same_key_starts_one_run(api, workflow):
    path = f"{WORKFLOWS}/{workflow.pk}/executions"

    first, again, other = [
        api.post(path, {"trigger_data": data}, headers={"Idempotency-Key": "k-1"}) for data in (1, 1, 2)
    ]

    assert first.json()["id"] == again.json()["id"]
    assert other.status_code == 409
    assert WorkflowExecution.objects.count() == 1


@pytest.mark.parametrize(("data", "field"), [({"data": 1}, "data"), ({"trigger_source": "a b"}, "trigger_source")])
def test_a_start_that_is_not_understood_is_refused(api, workflow, data, field):
    response = api.post(f"{WORKFLOWS}/{workflow.pk}/executions", data)

    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, field)


def test_a_workflow_that_is_off_or_unknown_is_not_started(api):
    off = WorkflowFactory(enabled=False)

    assert api.post(f"{WORKFLOWS}/{off.pk}/executions", {}).status_code == 409
    assert api.post(f"{WORKFLOWS}/999/executions", {}).status_code == 404
    assert api.get(f"{WORKFLOWS}/999/executions").status_code == 404


def test_the_runs_of_a_workflow_are_its_own(api, workflow):
    run = services.start_execution(workflow=workflow)
    WorkflowExecutionFactory()

    rows = api.get(f"{WORKFLOWS}/{workflow.pk}/executions").json()["results"]

    assert [row["id"] for row in rows] == [run.pk]
    assert not {"step_results", "logs", "trigger_data", "variables"} & rows[0].keys()
    assert api.get(f"{RUNS}?workflow={workflow.pk}&status=pending").json()["count"] == 1


def test_a_run_shows_its_steps_and_its_log(api, run_workflow):
    run = run_workflow([*STEPS, {"id": "b", "type": "fail", "config": {"message": "No."}}])

    data = api.get(f"{RUNS}/{run.pk}").json()

    assert (data["status"], data["error_message"], data["variables"]) == ("failed", "Step b: No.", {"x": 1})
    assert [(step["path"], step["status"]) for step in data["step_results"]] == [("a", "success"), ("b", "failed")]
    assert data["step_results"][1]["error"]["code"] == "runtime.failed"
    assert data["logs"][-1]["text"] == "Step b: No."


def test_a_run_is_cancelled(api, workflow):
    run = services.start_execution(workflow=workflow)

    response = api.post(f"{RUNS}/{run.pk}/cancel")

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert api.post(f"{RUNS}/{run.pk}/cancel").status_code == 409
    assert LogEntry.objects.get().change_message == "Cancelled."


def test_a_step_with_an_unknown_outcome_is_decided(api):
    run = WorkflowExecutionFactory(status="running", waiting_for="decision")
    step = StepExecutionFactory(execution=run, status="interrupted")

    assert api.post(f"{RUNS}/{run.pk}/decide", {"action": "forget"}).status_code == 400
    response = api.post(f"{RUNS}/{run.pk}/decide", {"action": "skip", "output": {"n": 1}})

    assert response.status_code == 200
    step.refresh_from_db()
    assert (step.signal["action"], step.signal["output"]) == ("skip", {"n": 1})
    assert api.post(f"{RUNS}/{run.pk}/decide", {"action": "retry"}).status_code == 409


# --- approvals and callbacks ------------------------------------------------------------------------------------------


@pytest.fixture
def asked(run_workflow):
    form = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}
    return run_workflow([{"id": "ok", "type": "approval", "config": {"form": form, "allow_self": True}}])


def test_a_run_is_approved(api, asked, drive, admin_user):
    refused = api.post(f"{RUNS}/{asked.pk}/approve", {"form": {"amount": "7"}})
    response = api.post(f"{RUNS}/{asked.pk}/approve", {"form": {"amount": 7}, "comment": "Fine.", "step": "ok"})
    run = drive(asked)

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "form.amount")
    assert response.status_code == 200
    assert run.status == "success"
    output = run.steps.get().output
    assert (output["by"], output["comment"], output["form"]) == (admin_user.username, "Fine.", {"amount": 7})
    assert LogEntry.objects.get().change_message == "Approved ok."


def test_a_run_is_rejected(api, asked, drive):
    assert api.post(f"{RUNS}/{asked.pk}/reject", {"comment": "No."}).status_code == 200

    assert drive(asked).status == "failed"
    assert api.post(f"{RUNS}/{asked.pk}/approve", {}).status_code == 409


def test_somebody_else_has_to_approve(api, run_workflow, admin_user):
    run = run_workflow([{"id": "ok", "type": "approval", "config": {"assignees": ["sam"]}}])

    assert api.post(f"{RUNS}/{run.pk}/approve", {}).status_code == 403


@pytest.fixture
def awaited(run_workflow):
    steps = [
        {"id": "hook", "type": "wait_for_webhook", "config": {"match": "body.n == 1", "respond": {"body": "thanks"}}}
    ]
    run = run_workflow(steps)
    return run, f"/v1/callbacks/{links.token_for(run.pk, 'hook', 0)}"


def test_a_callback_needs_its_link_only_and_works_once(anonymous_api, awaited, drive):
    run, path = awaited

    unmatched = anonymous_api.post(path, data='{"n": 2}', content_type="text/plain")
    response = anonymous_api.post(
        path, data='{"n": 1}', content_type="application/x-anything", headers={"Accept": "a/b"}
    )

    assert unmatched.status_code == 409
    assert (response.status_code, response.content) == (200, b"thanks")
    assert anonymous_api.post(path, data="{}", content_type="application/json").status_code == 410
    assert drive(run).status == "success"


@pytest.mark.parametrize("token", ["wait_", "x", "wait_" + "a" * 43, "%00", "%F0%9F%92%A5"])
def test_an_unknown_link_is_a_404(anonymous_api, token):
    response = anonymous_api.post(f"/v1/callbacks/{token}", data="{}", content_type="application/json")

    assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json")


def test_a_callback_is_a_post_of_a_bounded_size(anonymous_api, awaited, settings):
    settings.INBOX_MAX_BODY_BYTES = 10
    _, path = awaited

    assert anonymous_api.get(path).status_code == 405
    assert anonymous_api.post(path, data=b"x" * 11, content_type="text/plain").status_code == 413


def test_a_refusal_does_not_repeat_the_link(anonymous_api, awaited):
    _, path = awaited

    assert "wait_" not in anonymous_api.post(path, data="{}", content_type="application/json").content.decode()


# --- events, step types, validation -----------------------------------------------------------------------------------


@pytest.fixture
def listener(db):
    fields = {"name": "w", "steps": STEPS, "trigger_type": "event", "trigger_config": {"event": "order.paid"}}
    return services.create_workflow(fields=fields)


def test_an_event_starts_workflows(api, admin_user, listener):
    send_event = [
        api.post("/v1/events", {"event": "order.paid", "payload": data}, headers={"Idempotency-Key": "k"})
        for data in (1, 1, 2)
    ]

    run = WorkflowExecution.objects.get()
    assert [response.status_code for response in send_event] == [202, 202, 409]
    assert send_event[0].json() == send_event[1].json() == {"event_id": run.dedupe_key[6:], "executions": [run.pk]}
    assert (run.trigger_data, run.event_type, run.started_by) == (1, "order.paid", admin_user.username)


def test_an_event_that_nobody_waits_for_starts_nothing(api):
    response = api.post("/v1/events", {"event": "order.paid"})

    assert (response.status_code, response.json()["executions"]) == (202, [])
    assert api.post("/v1/events", {"payload": 1}).status_code == 400


def test_the_runs_that_an_event_starts_are_in_the_audit_log(api, listener):
    [run] = api.post("/v1/events", {"event": "order.paid"}).json()["executions"]

    line = LogEntry.objects.get()
    assert (line.object_id, line.change_message) == (str(run), "Started by the event order.paid.")


def test_an_event_and_its_audit_lines_are_written_together(api, listener, failing_audit):
    with pytest.raises(ConnectionAbortedError):
        api.post("/v1/events", {"event": "order.paid"})

    assert not WorkflowExecution.objects.exists()


def test_step_types_have_what_a_form_needs(api):
    types = {row["key"]: row for row in api.get(f"{WORKFLOWS}/step-types").json()}

    assert len(types) == 22
    assert types["api_call"]["schema"]["properties"]["url"]["title"] == "URL"
    assert (types["api_call"]["kind"], types["delay"]["kind"], types["for_each"]["kind"]) == (
        "plain",
        "waiting",
        "container",
    )
    assert types["condition"]["branches"] == ["then", "else"]
    assert types["for_each"]["child_names"] == ["index", "item"]
    assert types["email"]["has_effect"]
    assert types["set"]["help"].startswith("Set variables")


def test_a_draft_is_checked_without_being_saved(api):
    good = api.post(f"{WORKFLOWS}/validate", {"steps": [{"type": "validate", "config": {"schema": "order"}}]})
    bad = api.post(f"{WORKFLOWS}/validate", {"steps": [{"type": "nope"}], "timeout_seconds": 0})

    assert (good.status_code, good.json()["valid"], good.json()["steps"][0]["id"]) == (200, True, "validate")
    assert [warning["path"] for warning in good.json()["warnings"]] == ["steps[0].config"]
    assert (bad.status_code, bad.json()["valid"]) == (200, False)
    assert [error["field"] for error in bad.json()["errors"]] == ["steps[0].type", "timeout_seconds"]
    assert api.post(f"{WORKFLOWS}/validate", {"step": []}).status_code == 400
    assert not Workflow.objects.exists()


# --- templates and schemas --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "data", "changes", "bad", "field"),
    [
        (TEMPLATES, {"name": "n", "subject": "Hi"}, {"subject": "Ho"}, {"subject": "{{ 1 + }}"}, "subject"),
        (SCHEMAS, {"name": "n", "schema": {}}, {"schema": {"type": "object"}}, {"schema": {"type": "thing"}}, "schema"),
    ],
    ids=["templates", "schemas"],
)
def test_templates_and_schemas_are_kept(api, path, data, changes, bad, field):
    created = api.post(path, data)
    detail = f"{path}/{created.json()['id']}"

    assert created.status_code == 201
    assert api.patch(detail, changes).json() | changes == api.get(detail).json()
    refused = api.patch(detail, bad)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, field)
    assert api.post(path, data).status_code == 400
    assert api.get(f"{path}?name=n").json()["count"] == 1
    assert api.delete(detail).status_code == 204


# --- access -----------------------------------------------------------------------------------------------------------

READ = [
    WORKFLOWS,
    f"{WORKFLOWS}/1",
    f"{WORKFLOWS}/1/executions",
    f"{WORKFLOWS}/1/versions",
    f"{WORKFLOWS}/1/versions/1",
    f"{WORKFLOWS}/step-types",
    RUNS,
    f"{RUNS}/1",
    TEMPLATES,
    SCHEMAS,
]
WRITE = [
    WORKFLOWS,
    f"{WORKFLOWS}/1/executions",
    f"{WORKFLOWS}/validate",
    *[f"{RUNS}/1/{action}" for action in ("cancel", "approve", "reject", "decide")],
    TEMPLATES,
    SCHEMAS,
    "/v1/events",
]


@pytest.mark.parametrize("path", READ)
def test_nothing_is_shown_without_a_token(anonymous_api, path):
    assert anonymous_api.get(path).status_code == 401


@pytest.mark.parametrize("path", WRITE)
def test_nothing_is_written_without_a_token_or_its_scope(anonymous_api, api, admin_user, path):
    _, plain = tokens.create_token(user=admin_user, name="reader", scopes=["workflows:read"], expires_at=None)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")

    assert anonymous_api.post(path, {}).status_code == 401
    assert api.post(path, {}).status_code == 403
    assert api.get(WORKFLOWS).status_code == 200


def test_a_user_needs_the_permission(anonymous_api):
    _, plain = tokens.create_token(user=User.objects.create_user("kim"), name="kim", expires_at=None)
    anonymous_api.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")

    assert {anonymous_api.get(path).status_code for path in (WORKFLOWS, RUNS, f"{WORKFLOWS}/step-types")} == {403}
    assert {anonymous_api.post(path, {}).status_code for path in ("/v1/events", f"{WORKFLOWS}/validate")} == {403}


@pytest.mark.parametrize(
    "path", [WORKFLOWS, f"{WORKFLOWS}/{{id}}", RUNS, TEMPLATES, SCHEMAS, f"{WORKFLOWS}/step-types"]
)
def test_the_pages_for_people_open(browser, workflow, path):
    assert browser.get(path.format(id=workflow.pk), headers={"Accept": "text/html"}).status_code == 200


def test_versions_cannot_be_changed(api, workflow):
    path = f"{WORKFLOWS}/{workflow.pk}/versions/1"

    assert {api.patch(path, {}).status_code, api.delete(path).status_code} == {405}
    assert WorkflowVersion.objects.count() == 1


# --- the audit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("executions/{run}/cancel", {}),
        ("executions/{run}/approve", {"form": {"amount": 7}}),
        ("executions/{run}/reject", {}),
        ("executions/{unsure}/decide", {"action": "fail"}),
        ("executions/{ended}/resume", {"from": "start"}),
        ("{workflow}/executions", {}),
        ("{workflow}/versions/1/restore", {}),
        ("import", {"document": {"format": "automation-lab/workflow@1", "workflow": {"name": "new", "steps": STEPS}}}),
    ],
)
def test_a_change_and_its_audit_line_are_made_together(api, failing_audit, asked, workflow, path, body):
    services.update_workflow(workflow=workflow, changes={"timeout_seconds": 60})
    unsure = WorkflowExecutionFactory(workflow__name="unsure", status="running", waiting_for="decision")
    StepExecutionFactory(execution=unsure, status="interrupted")
    ended = services.start_execution(workflow=workflow)
    services.cancel_execution(execution=ended)

    def rows():
        return [list(model.objects.order_by("id").values()) for model in (Workflow, WorkflowExecution, StepExecution)]

    before = rows()

    with pytest.raises(ConnectionAbortedError):
        api.post(
            f"{WORKFLOWS}/" + path.format(run=asked.pk, unsure=unsure.pk, ended=ended.pk, workflow=workflow.pk), body
        )

    assert rows() == before
