"""Tasks and their runs over the API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from automation_lab import tokens
from automation_lab.core.execution.tests.helpers import jobs, take, together
from tasks import services
from tasks.models import ScheduledTask, TaskExecution
from tasks.tests.factories import (
    ScheduledTaskFactory,
    TaskAttemptFactory,
    TaskExecutionFactory,
    TaskLogFactory,
)

pytestmark = pytest.mark.django_db

REPORT = {
    "name": "Daily Report",
    "task_type": "api_call",
    "schedule": "0 9 * * *",
    "enabled": True,
    "config": {"url": "https://api.example.com/report", "method": "GET"},
}
TASK_FIELDS = {
    "id", "name", "description", "task_type", "schedule", "timezone", "anchor_at", "start_at", "end_at",
    "jitter_seconds", "enabled", "pause_note", "schedule_error", "config", "retry_policy", "timeout_seconds", "overlap",
    "misfire", "misfire_limit", "grace_seconds", "max_concurrency", "pause_after_failures", "on_lost_worker",
    "priority", "notify", "next_run_at", "last_run_at", "last_output", "success_count", "failure_count",
    "consecutive_failures", "version", "archived_at", "created_at", "updated_at",
}  # fmt: skip


@pytest.fixture
def task() -> ScheduledTask:
    return ScheduledTaskFactory(name="Report")


@pytest.fixture
def execution(task) -> TaskExecution:
    return services.start_execution(task=task, input_data={"a": 1})


def fields(answer: Any) -> set[str]:
    """The fields that a refusal names; it must be a problem document with reasons."""
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert all(error["detail"] and error["code"] for error in answer.json()["errors"])
    return {error["field"] for error in answer.json()["errors"]}


def client_of(user: Any, group: str) -> APIClient:
    user.groups.set([Group.objects.get(name=group)])
    _, plain = tokens.create_token(user=user, name=group, expires_at=None)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    return client


ENDPOINTS = [
    ("get", "/v1/tasks", "view"),
    ("post", "/v1/tasks", "edit"),
    ("get", "/v1/tasks/{task}", "view"),
    ("patch", "/v1/tasks/{task}", "edit"),
    ("delete", "/v1/tasks/{task}", "edit"),
    ("post", "/v1/tasks/{task}/pause", "edit"),
    ("post", "/v1/tasks/{task}/resume", "edit"),
    ("get", "/v1/tasks/{task}/executions", "view"),
    ("post", "/v1/tasks/{task}/executions", "operate"),
    ("get", "/v1/tasks/executions", "view"),
    ("get", "/v1/tasks/executions/{execution}", "view"),
    ("post", "/v1/tasks/executions/{execution}/cancel", "operate"),
    ("post", "/v1/tasks/executions/{execution}/retry", "operate"),
]


@pytest.mark.parametrize(("method", "path", "needed"), ENDPOINTS)
def test_without_signing_in_nothing_is_told_or_done(anonymous_api, execution, method, path, needed):
    before = list(TaskExecution.objects.values()), list(ScheduledTask.objects.values())

    answer = getattr(anonymous_api, method)(path.format(task=execution.task_id, execution=execution.pk))

    assert answer.status_code == 401
    assert (list(TaskExecution.objects.values()), list(ScheduledTask.objects.values())) == before


@pytest.mark.parametrize(("method", "path", "needed"), ENDPOINTS)
@pytest.mark.parametrize(
    ("role", "may"),
    [("viewer", {"view"}), ("operator", {"view", "operate"}), ("editor", {"view", "operate", "edit"})],
)
def test_what_each_role_may_do(user, execution, method, path, needed, role, may):
    client = client_of(user, role)

    answer = getattr(client, method)(path.format(task=execution.task_id, execution=execution.pk), {})

    assert (answer.status_code == 403) is (needed not in may), answer.content


def test_an_unknown_task_or_run_is_a_404(api):
    paths = [
        ("get", "/v1/tasks/999"), ("patch", "/v1/tasks/999"), ("delete", "/v1/tasks/999"),
        ("post", "/v1/tasks/999/pause"), ("get", "/v1/tasks/999/executions"), ("post", "/v1/tasks/999/executions"),
        ("get", "/v1/tasks/executions/999"), ("post", "/v1/tasks/executions/999/cancel"),
        ("get", f"/v1/tasks/{2**63}"), ("get", "/v1/tasks/words"),
    ]  # fmt: skip

    answers = {path: getattr(api, method)(path, {}).status_code for method, path in paths}

    assert answers == {path: 404 for _, path in paths}


# --- tasks --------------------------------------------------------------------------------------------------------------


def test_a_task_is_created_as_the_document_shows(api):
    answer = api.post("/v1/tasks", REPORT)

    task = answer.json()
    assert answer.status_code == 201
    assert set(task) == TASK_FIELDS
    assert {name: task[name] for name in REPORT} == REPORT
    assert task["next_run_at"] is not None
    assert ScheduledTask.objects.get().pk == task["id"]
    assert LogEntry.objects.get().object_id == str(task["id"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": ""}, {"name"}),
        ({"name": None}, {"name"}),
        ({"name": 5}, {"name"}),
        ({"name": "x" * 201}, {"name"}),
        ({"name": "Report"}, {"name"}),
        ({"task_type": "ssh"}, {"task_type"}),
        ({"schedule": "61 * * * *"}, {"schedule"}),
        ({"enabled": "yes"}, {"enabled"}),
        ({"config": "x"}, {"config"}),
        ({"config": {"url": 5}}, {"config.url"}),
        ({"config": {"url": "https://a.example/", "extra": 1}}, {"config.extra"}),
        ({"retry_policy": {"max_attempts": 99}}, {"retry_policy.max_attempts"}),
        ({"retry_policy": None}, {"retry_policy"}),
        ({"priority": 40_000}, {"priority"}),
        ({"priority": "1"}, {"priority"}),
        ({"overlap": "perhaps"}, {"overlap"}),
        ({"colour": "red"}, {"colour"}),
        ({"success_count": 5}, {"success_count"}),
        ({"next_run_at": "2030-01-01T00:00:00Z"}, {"next_run_at"}),
        ({"start_at": "2030-01-02T00:00:00Z", "end_at": "2030-01-01T00:00:00Z"}, {"end_at"}),
        ({"start_at": "tomorrow"}, {"start_at"}),
    ],
)
def test_a_task_that_cannot_be_saved_is_refused_by_field(api, task, change, expected):
    answer = api.post("/v1/tasks", {**REPORT, **change})

    assert fields(answer) == expected
    assert ScheduledTask.objects.count() == 1


@pytest.mark.parametrize("missing", ["name", "task_type"])
def test_a_required_field_is_asked_for(api, missing):
    answer = api.post("/v1/tasks", {name: value for name, value in REPORT.items() if name != missing})

    assert fields(answer) == {missing}


@pytest.mark.parametrize("text", ["\x00", "\ud800"])
@pytest.mark.parametrize("where", ["name", "description", "config", "input"])
def test_text_that_cannot_be_stored_is_refused(api, task, text, where):
    bad = f"a{text}b"
    path, body = {
        "input": (f"/v1/tasks/{task.pk}/executions", {"input_data": {"x": bad}}),
        "config": ("/v1/tasks", {**REPORT, "config": {"url": "https://a.example/", "body": {bad: bad}}}),
    }.get(where, ("/v1/tasks", {**REPORT, where: bad}))

    answer = api.post(path, json.dumps(body), content_type="application/json")

    assert answer.status_code == 400


def test_a_task_is_shown(api, task):
    answer = api.get(f"/v1/tasks/{task.pk}")

    assert (answer.status_code, set(answer.json()), answer.json()["name"]) == (200, TASK_FIELDS, "Report")


def test_a_task_is_changed_field_by_field(api, task):
    answer = api.patch(f"/v1/tasks/{task.pk}", {"description": "For Monday.", "retry_policy": {"max_retries": 1}})

    stored = ScheduledTask.objects.get()
    assert answer.status_code == 200
    assert (stored.description, stored.name, stored.version) == ("For Monday.", "Report", 2)
    assert answer.json()["retry_policy"]["max_attempts"] == 2
    assert "description" in LogEntry.objects.get().change_message


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"task_type": "cron"}, "config.url"), ({"unknown": 1}, "unknown"), ({"failure_count": 0}, "failure_count")],
)
def test_a_change_that_does_not_fit_is_refused(api, task, change, expected):
    assert expected in fields(api.patch(f"/v1/tasks/{task.pk}", change))
    assert ScheduledTask.objects.get().version == 1


def test_a_task_is_deleted(api, task):
    assert api.delete(f"/v1/tasks/{task.pk}").status_code == 204
    assert ScheduledTask.objects.count() == 0


def test_a_task_with_a_run_going_on_is_kept(api, execution):
    answer = api.delete(f"/v1/tasks/{execution.task_id}")

    assert (answer.status_code, ScheduledTask.objects.count()) == (409, 1)
    assert not LogEntry.objects.exists()


def test_a_task_is_paused_and_resumed(api):
    pk = api.post("/v1/tasks", REPORT).json()["id"]

    paused = api.post(f"/v1/tasks/{pk}/pause", {"note": "Audit."})
    again = api.post(f"/v1/tasks/{pk}/pause")
    resumed = api.post(f"/v1/tasks/{pk}/resume")

    assert [answer.status_code for answer in (paused, again, resumed)] == [200, 200, 200]
    assert (paused.json()["enabled"], paused.json()["pause_note"], paused.json()["next_run_at"]) == (
        False,
        "Audit.",
        None,
    )
    assert (resumed.json()["enabled"], resumed.json()["pause_note"]) == (True, "")
    assert resumed.json()["next_run_at"] is not None
    assert set(LogEntry.objects.values_list("change_message", flat=True)) >= {"Paused.", "Resumed."}


def test_a_pause_takes_a_note_only(api, task):
    assert fields(api.post(f"/v1/tasks/{task.pk}/pause", {"why": "x"})) == {"why"}
    assert fields(api.post(f"/v1/tasks/{task.pk}/pause", {"note": "x" * 2001})) == {"note"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"Report", "Other"}),
        ("enabled=true", {"Report"}),
        ("enabled=false", {"Other"}),
        ("task_type=cron", {"Other"}),
        ("name=rep", {"Report"}),
        ("created_after=2000-01-01T00:00:00Z", {"Report", "Other"}),
        ("created_before=2000-01-01T00:00:00Z", set()),
    ],
)
def test_tasks_are_filtered(api, task, query, found):
    ScheduledTaskFactory(name="Other", enabled=False, task_type="cron", config={"job": "prune"})

    answer = api.get(f"/v1/tasks?{query}")

    assert {item["name"] for item in answer.json()["results"]} == found
    assert answer.json()["count"] == len(found)


@pytest.mark.parametrize(
    "query",
    ["enabled=perhaps", "task_type=ssh", "colour=red", "ordering=config", "page=0", "size=201", "created_after=soon"],
)
def test_a_filter_that_makes_no_sense_is_refused(api, query):
    assert fields(api.get(f"/v1/tasks?{query}")) == {query.split("=")[0]}


def test_tasks_are_ordered(api, task):
    ScheduledTaskFactory(name="Another")

    names = [item["name"] for item in api.get("/v1/tasks?ordering=name").json()["results"]]

    assert names == ["Another", "Report"]


# --- runs ---------------------------------------------------------------------------------------------------------------


def test_a_run_is_started(api, task):
    answer = api.post(f"/v1/tasks/{task.pk}/executions", {"input_data": {"a": [1]}}, HTTP_X_REQUEST_ID="request-1")

    run = answer.json()
    assert answer.status_code == 202
    assert (run["task"], run["task_name"], run["status"], run["trigger"]) == (task.pk, "Report", "pending", "api")
    assert (run["input_data"], run["attempts"], run["logs"], run["output_data"]) == ({"a": [1]}, [], [], None)
    assert run["correlation_id"] == "request-1"
    assert [job["args"]["execution_id"] for job in jobs()] == [run["id"]]


@pytest.mark.parametrize("body", [None, {}])
def test_a_run_needs_no_body(api, task, body):
    answer = api.post(f"/v1/tasks/{task.pk}/executions", body)

    assert (answer.status_code, answer.json()["input_data"]) == (202, {})


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"input_data": 5}, {"input_data"}), ({"input": {}}, {"input"}), ({"status": "success"}, {"status"})],
)
def test_a_run_that_cannot_be_started_is_refused(api, task, body, expected):
    assert fields(api.post(f"/v1/tasks/{task.pk}/executions", body)) == expected
    assert TaskExecution.objects.count() == 0


def test_a_body_that_is_no_object_is_refused(api, task):
    assert api.post(f"/v1/tasks/{task.pk}/executions", [1]).status_code == 400
    assert api.post(f"/v1/tasks/{task.pk}/executions", "{", content_type="application/json").status_code == 400


def start(api: APIClient, task: ScheduledTask, key: str, body: dict[str, Any] | None = None) -> Any:
    return api.post(f"/v1/tasks/{task.pk}/executions", body or {}, HTTP_IDEMPOTENCY_KEY=key)


def test_the_same_key_and_body_give_the_same_run(api, task):
    first = start(api, task, "order-1", {"input_data": {"a": 1, "b": 2}})

    again = start(api, task, "order-1", {"input_data": {"b": 2, "a": 1}})

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert (TaskExecution.objects.count(), len(jobs())) == (1, 1)


def test_the_same_key_with_another_body_is_a_conflict(api, task):
    start(api, task, "order-1", {"input_data": {"a": 1}})

    answer = start(api, task, "order-1", {"input_data": {"a": 2}})

    assert (answer.status_code, TaskExecution.objects.count()) == (409, 1)
    assert "Idempotency-Key" in answer.json()["detail"]


def test_a_key_still_answers_with_its_run_when_that_has_finished(api, task):
    pk = start(api, task, "order-1").json()["id"]
    TaskExecution.objects.update(status="success", due_at=None)

    again = start(api, task, "order-1")

    assert (again.json()["id"], again.json()["status"]) == (pk, "success")


@pytest.mark.parametrize("key", ["x" * 256, "schlüssel", "tab\tkey", "", " "])
def test_a_key_that_does_not_fit_is_refused(api, task, key):
    assert fields(start(api, task, key)) == {"Idempotency-Key"}


@pytest.mark.django_db(transaction=True)
def test_racing_requests_with_one_key_get_one_run(api, task):
    answers = together([lambda: start(api, task, "order-1", {"input_data": {"a": 1}})] * 4)

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert (TaskExecution.objects.count(), len(jobs())) == (1, 1)


def test_a_run_is_shown_with_attempts_and_log(api, execution):
    TaskAttemptFactory(execution=execution, status="failed", error_class="http.503")
    TaskLogFactory(execution=execution, text="GET answered 503")

    run = api.get(f"/v1/tasks/executions/{execution.pk}").json()

    assert [attempt["error_class"] for attempt in run["attempts"]] == ["http.503"]
    assert [line["text"] for line in run["logs"]] == ["GET answered 503"]
    assert set(run) >= {"status", "duration_ms", "input_data", "output_data", "error_message", "logs"}


def test_runs_are_listed_without_their_bulk(api, execution):
    TaskExecution.objects.update(output_data={"big": "x"})

    everywhere = api.get("/v1/tasks/executions").json()
    of_task = api.get(f"/v1/tasks/{execution.task_id}/executions").json()
    of_other = api.get(f"/v1/tasks/{ScheduledTaskFactory().pk}/executions").json()

    assert everywhere["results"] == of_task["results"]
    assert (of_task["count"], of_other["count"]) == (1, 0)
    assert not {"output_data", "attempts", "logs"} & set(of_task["results"][0])


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("status=failed", 1),
        ("status=pending", 1),
        ("trigger=schedule", 1),
        ("correlation_id=c-1", 1),
        ("correlation_id=c-2", 0),
        ("task=999999", 0),
        ("created_before=2000-01-01T00:00:00Z", 0),
        ("ordering=duration_ms", 2),
    ],
)
def test_runs_are_filtered(api, execution, query, number):
    TaskExecutionFactory(task=execution.task, status="failed", trigger="schedule", correlation_id="c-1")

    assert api.get(f"/v1/tasks/executions?{query}").json()["count"] == number


@pytest.mark.parametrize("query", ["status=odd", "state=failed", "task=x", "trigger=magic", "ordering=input_data"])
def test_a_filter_of_runs_that_makes_no_sense_is_refused(api, execution, query):
    assert fields(api.get(f"/v1/tasks/executions?{query}")) == {query.split("=")[0]}
    assert fields(api.get(f"/v1/tasks/{execution.task_id}/executions?{query}")) == {query.split("=")[0]}


def test_a_pending_run_is_cancelled(api, execution):
    answer = api.post(f"/v1/tasks/executions/{execution.pk}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert LogEntry.objects.get().change_message == "Cancelled."


def test_a_running_run_is_asked_to_stop(api, execution):
    take(execution)

    answer = api.post(f"/v1/tasks/executions/{execution.pk}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert answer.json()["cancel_requested_at"] is not None


@pytest.mark.parametrize(("status", "action"), [("success", "cancel"), ("cancelled", "cancel"), ("pending", "retry")])
def test_what_its_state_does_not_allow_is_a_conflict(api, task, status, action):
    execution = TaskExecutionFactory(task=task, status=status)

    answer = api.post(f"/v1/tasks/executions/{execution.pk}/{action}")

    assert answer.status_code == 409
    assert status in answer.json()["detail"]
    assert (TaskExecution.objects.count(), LogEntry.objects.count()) == (1, 0)


def test_a_finished_run_is_retried_as_a_new_one(api, task):
    execution = TaskExecutionFactory(task=task, status="failed", input_data={"a": 1})

    answer = api.post(f"/v1/tasks/executions/{execution.pk}/retry")

    again = answer.json()
    assert answer.status_code == 202
    assert (again["retry_of"], again["trigger"], again["input_data"]) == (execution.pk, "retry", {"a": 1})
    assert again["id"] != execution.pk


def test_the_same_key_gives_the_same_retry_and_is_no_key_of_another_run(api, task):
    first, second = TaskExecutionFactory.create_batch(2, task=task, status="failed")

    def retry(execution: TaskExecution) -> Any:
        return api.post(f"/v1/tasks/executions/{execution.pk}/retry", HTTP_IDEMPOTENCY_KEY="again-1")

    assert retry(first).json()["id"] == retry(first).json()["id"]
    assert (retry(second).status_code, start(api, task, "again-1").status_code) == (409, 409)
    assert TaskExecution.objects.filter(trigger="retry").count() == 1


@pytest.mark.parametrize("count", ["abc", "0", "101", ""])
def test_a_number_of_next_runs_that_does_not_fit_is_refused_by_its_name(api, task, count):
    assert fields(api.get(f"/v1/tasks/{task.pk}/next-runs?count={count}")) == {"count"}


@pytest.mark.parametrize("path", ["/v1/tasks?count=5", "/v1/tasks/{task}?count=5", "/v1/secrets?force=true"])
def test_a_parameter_of_another_action_is_refused(api, task, path):
    assert api.get(path.format(task=task.pk)).status_code == 400


def test_lists_read_and_answer_no_outputs(api, execution):
    """One may have 256 KB, and a page 200 rows."""
    paths = ["/v1/tasks", "/v1/tasks/executions", f"/v1/tasks/{execution.task_id}/executions"]

    with CaptureQueriesContext(connection) as queries:
        found = [api.get(path).json()["results"] for path in paths]

    assert [len(rows) for rows in found] == [1, 1, 1]
    assert not any({"last_output", "output_data"} & rows[0].keys() for rows in found)
    assert not any("output" in query["sql"] for query in queries)


@pytest.mark.parametrize("method", ["patch", "delete", "put"])
def test_runs_are_not_edited(api, execution, method):
    answer = getattr(api, method)(f"/v1/tasks/executions/{execution.pk}", {"status": "success"})

    assert answer.status_code == 405


# --- cost ---------------------------------------------------------------------------------------------------------------


def queries(api: APIClient, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert api.get(path).status_code == 200
    return len(captured)


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/executions", "/v1/tasks/{task}/executions"])
def test_a_list_costs_the_same_with_one_row_and_with_twenty(api, execution, path):
    path = path.format(task=execution.task_id)
    queries(api, path)
    with_one = queries(api, path)
    TaskExecutionFactory.create_batch(19, task=execution.task)
    for other in TaskExecutionFactory.create_batch(19):
        TaskAttemptFactory(execution=other)

    assert queries(api, path) == with_one


def test_a_run_costs_the_same_with_one_attempt_and_with_twenty(api, execution):
    path = f"/v1/tasks/executions/{execution.pk}"
    TaskAttemptFactory(execution=execution)
    TaskLogFactory(execution=execution)
    queries(api, path)
    with_one = queries(api, path)
    TaskAttemptFactory.create_batch(19, execution=execution)
    TaskLogFactory.create_batch(19, execution=execution)

    assert queries(api, path) == with_one


@pytest.mark.parametrize(
    "path", ["/v1/tasks", "/v1/tasks/executions", "/v1/tasks/{task}", "/v1/tasks/executions/{run}"]
)
def test_people_get_pages(browser, execution, path):
    answer = browser.get(path.format(task=execution.task_id, run=execution.pk), HTTP_ACCEPT="text/html")

    assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tasks/{task}/pause", {"note": "Audit."}),
        ("/v1/tasks/{task}/resume", {}),
        ("/v1/tasks/{task}/backfill", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}),
        ("/v1/tasks/{task}/executions", {}),
        ("/v1/tasks/executions/{pending}/cancel", {}),
        ("/v1/tasks/executions/{ended}/retry", {}),
    ],
)
def test_a_change_and_its_audit_line_are_made_together(api, failing_audit, path, body):
    task = ScheduledTaskFactory(enabled=False, schedule="@hourly")
    pending, ended = TaskExecutionFactory(task=task), TaskExecutionFactory(task=task, status="failed")

    def rows() -> list[Any]:
        return [list(model.objects.order_by("id").values()) for model in (ScheduledTask, TaskExecution)]

    before = rows()

    with pytest.raises(ConnectionAbortedError):
        api.post(path.format(task=task.pk, pending=pending.pk, ended=ended.pk), body)

    assert rows() == before
