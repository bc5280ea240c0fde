from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry

from workflows.models import Workflow

pytestmark = [pytest.mark.django_db, pytest.mark.urls("automation_lab.core.tests.api_urls")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enabled", "true"),
        ("enabled", 1),
        ("enabled", None),
        ("timeout_seconds", "12"),
        ("timeout_seconds", True),
        ("timeout_seconds", 1.0),
        ("timeout_seconds", 2**63),
        ("timeout_seconds", -1),
        ("name", 12),
        ("name", True),
        ("name", None),
        ("name", ["x"]),
        ("variables", []),
        ("variables", "{}"),
        ("steps", {}),
        ("id", 5),
        ("version", 9),
        ("created_at", "2026-01-01T00:00:00Z"),
        ("nmae", "x"),
    ],
)
def test_loose_types_and_fields_that_are_not_taken_are_refused(api, field, value):
    answer = api.post("/v1/things", {"name": "x", field: value})

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_an_unknown_field_names_the_nearest_one(api):
    answer = api.post("/v1/things", {"name": "x", "enabeld": True})

    assert 'did you mean "enabled"?' in answer.json()["errors"][0]["detail"]


def test_an_unknown_choice_names_those_that_there_are(api):
    answer = api.post("/v1/things", {"name": "x", "trigger_type": "hook"})

    assert answer.json()["errors"] == [
        {
            "field": "trigger_type",
            "code": "invalid_choice",
            "detail": 'There is no "hook" here; known are webhook, schedule, manual, event.',
        }
    ]


def test_all_faults_come_at_once(api):
    answer = api.post("/v1/things", {"nmae": "x", "enabled": "no"})

    assert {error["field"] for error in answer.json()["errors"]} == {"name", "nmae", "enabled"}


def test_a_write_leaves_one_audit_line(api, admin_user):
    made = api.post("/v1/things", {"name": "one", "variables": {"token": "canary"}}).json()
    api.patch(f"/v1/things/{made['id']}", {"enabled": False, "variables": {}})
    api.delete(f"/v1/things/{made['id']}")

    entries = list(LogEntry.objects.order_by("id").values_list("user_id", "object_id", "action_flag"))

    assert entries == [(admin_user.pk, str(made["id"]), flag) for flag in (1, 2, 3)]
    assert "canary" not in str(list(LogEntry.objects.values()))


def test_a_refused_write_leaves_none(api):
    api.post("/v1/things", {"name": 1})

    assert not LogEntry.objects.exists()


def test_a_change_writes_the_given_fields_only(api, monkeypatch):
    from automation_lab.core.tests.api_urls import WorkflowViewSet

    workflow = Workflow.objects.create(name="one")
    before = workflow.updated_at
    original = WorkflowViewSet.perform_update

    def meanwhile(view, serializer):
        Workflow.objects.update(success_count=7)
        return original(view, serializer)

    monkeypatch.setattr(WorkflowViewSet, "perform_update", meanwhile)
    api.patch(f"/v1/things/{workflow.pk}", {"name": "two"})

    workflow.refresh_from_db()
    assert (workflow.name, workflow.success_count) == ("two", 7)
    assert workflow.updated_at > before
