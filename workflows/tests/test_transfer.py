"""Export, import, versions."""

from __future__ import annotations

import json
import re

import pytest
from django.core.management import CommandError, call_command

from automation_lab.core.exceptions import Conflict, Invalid
from workflows import services
from workflows.definitions import transfer, versions
from workflows.models import MessageTemplate, NamedSchema, Workflow

pytestmark = pytest.mark.django_db

STEPS = [
    {"type": "validate", "id": "check", "config": {"schema": "order"}},
    {
        "type": "api_call",
        "id": "charge",
        "config": {"url": "https://pay.example.com/", "auth": {"type": "bearer", "token": "{{ secrets.PAY }}"}},
    },
    {"type": "email", "id": "mail", "config": {"template": "thanks"}},
]


@pytest.fixture
def order() -> Workflow:
    NamedSchema.objects.create(name="order", schema={"type": "object"})
    MessageTemplate.objects.create(name="thanks", subject="Thanks", to="ann@example.com")
    return services.create_workflow(fields={"name": "Order", "steps": STEPS})


def test_a_file_carries_templates_and_schemas_and_secrets_by_name(order):
    document = transfer.export_workflow(order)

    assert document["workflow"]["steps"] == order.steps
    assert [row["name"] for row in document["templates"]] == ["thanks"]
    assert [row["name"] for row in document["schemas"]] == ["order"]
    assert document["secrets"] == ["PAY"]


def test_a_round_trip_gives_the_same_definition_switched_off(order):
    document = json.loads(json.dumps(transfer.export_workflow(order)))
    services.delete_workflow(workflow=order)
    MessageTemplate.objects.all().delete()
    NamedSchema.objects.all().delete()

    result = transfer.import_workflow(document=document)

    assert (result["action"], result["workflow"].enabled) == ("created", False)
    assert transfer.export_workflow(result["workflow"]) == document
    assert result["warnings"] == ["There is no secret named 'PAY' yet."]


def test_a_taken_name_is_skipped_renamed_or_updated(order):
    document = transfer.export_workflow(order)
    document["workflow"]["steps"] = STEPS[:1]

    with pytest.raises(Conflict):
        transfer.import_workflow(document=document)
    renamed = transfer.import_workflow(document=document, on_conflict="rename")
    updated = transfer.import_workflow(document=document, on_conflict="update")

    assert renamed["workflow"].name == "Order (2)"
    assert (updated["workflow"].pk, updated["workflow"].version) == (order.pk, 2)


def test_a_template_that_differs_stays_with_a_warning(order):
    document = transfer.export_workflow(order)
    document["templates"][0]["subject"] = "Other"

    result = transfer.import_workflow(document=document, on_conflict="rename")

    assert MessageTemplate.objects.get(name="thanks").subject == "Thanks"
    assert any("'thanks' exists and differs" in warning for warning in result["warnings"])


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"format": "other", "workflow": {"name": "x", "steps": []}},
        {"format": transfer.FORMAT, "workflow": {"name": "x", "steps": [], "extra": 1}},
        {"format": transfer.FORMAT, "workflow": {"name": "x", "steps": [{"type": "python", "config": {}}]}},
        {
            "format": transfer.FORMAT,
            "workflow": {"name": "x", "steps": []},
            "schemas": [{"name": "s", "schema": {"type": 3}}],
        },
    ],
)
def test_a_hostile_file_is_refused(document):
    with pytest.raises(Invalid):
        transfer.import_workflow(document=document)

    assert not Workflow.objects.exists()


def test_a_dry_run_of_the_command_adds_nothing(order, tmp_path, capsys):
    call_command("export_workflows", "--out", str(tmp_path))
    (path,) = tmp_path.iterdir()

    call_command("import_workflows", str(path), "--on-conflict", "rename", "--dry-run")

    assert "would be renamed as 'Order (2)'" in capsys.readouterr().out
    assert Workflow.objects.count() == 1


@pytest.mark.parametrize(
    "contents",
    [b"{", b"[" * 5_000, b"\xff", b'{"format": NaN}', b'{"format": "\\u0000"}'],
    ids=lambda contents: repr(contents[:8]),
)
def test_the_command_says_which_file_is_wrong(tmp_path, capsys, contents):
    path = tmp_path / "wrong.json"
    path.write_bytes(contents)

    with pytest.raises(CommandError, match="1 of 1 files") as ended:
        call_command("import_workflows", str(path))

    assert ended.value.returncode == 1
    assert re.search(r"wrong\.json: \w", capsys.readouterr().err)


@pytest.mark.django_db
def test_a_name_that_no_workflow_has_is_wrong_usage():
    with pytest.raises(CommandError, match="No workflow is named Nothing") as ended:
        call_command("export_workflows", "Nothing")

    assert ended.value.returncode == 2


def test_versions_can_be_compared_and_restored(order, api):
    changed = [{**STEPS[0], "name": "Check it"}, STEPS[2], {"type": "set", "id": "end", "config": {"values": {"a": 1}}}]
    services.update_workflow(workflow=order, changes={"steps": changed, "timeout_seconds": 60})
    first, second = order.versions.order_by("number")

    difference = versions.diff(first, second)
    answer = api.post(f"/v1/workflows/{order.pk}/versions/1/restore")

    assert {step["id"]: step["change"] for step in difference["steps"]} == {
        "check": "changed",
        "charge": "removed",
        "mail": "moved",
        "end": "added",
    }
    assert [change["field"] for change in difference["fields"]] == ["timeout_seconds"]
    assert (answer.status_code, answer.json()["version"]) == (200, 3)
    assert Workflow.objects.get(pk=order.pk).steps == order.steps
