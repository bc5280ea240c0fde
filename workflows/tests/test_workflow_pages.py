"""The pages of workflows: warnings, versions, dry runs, files."""

from __future__ import annotations

import json
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from inbox.tests.factories import WebhookFactory
from tasks.models import Notification
from tasks.tests.factories import NotificationChannelFactory
from workflows import services
from workflows.definitions import transfer
from workflows.models import StepExecution, Workflow, WorkflowExecution, WorkflowVersion
from workflows.tests.factories import MessageTemplateFactory
from workflows.tests.test_admin import BACKEND, CANARY, page, said, submitted, workflow_form

pytestmark = pytest.mark.django_db
MAX_QUERIES = 12
LOG = {"id": "say", "type": "log", "config": {"message": "Hello {{ trigger.data.name }}"}}
CALL = {"id": "call", "type": "api_call", "config": {"url": "https://api.example.com/{{ trigger.data.path }}"}}


def make(name="Deploy", steps=(LOG,), **fields):
    return services.create_workflow(fields={"name": name, "steps": list(steps), **fields}, author="root")


def action(name, row, model="workflow"):
    return reverse(f"admin:workflows_{model}_{name}", args=[row.pk])


# --- the page ---------------------------------------------------------------------------------------------------------


def test_a_workflow_shows_what_does_not_work_yet(console):
    workflow = make(steps=[{"type": "email", "config": {"template": "welcome"}}])

    html = console.get(page("workflow", "change", workflow.pk)).content.decode()

    assert "Warnings" in html
    assert "There is no message template named &#x27;welcome&#x27; yet" in html


def test_a_workflow_without_warnings_shows_none(console):
    MessageTemplateFactory(name="welcome", to="a@example.com")
    workflow = make(steps=[{"type": "email", "config": {"template": "welcome"}}])

    assert ">Warnings" not in console.get(page("workflow", "change", workflow.pk)).content.decode()


def test_steps_inside_others_are_indented_in_the_outline(console):
    workflow = make(steps=[{"id": "each", "type": "for_each", "config": {"items": [1], "steps": [LOG]}}])

    html = console.get(page("workflow", "change", workflow.pk)).content.decode()

    assert re.search(r'--depth: 1">say<', html)


def test_channels_of_a_workflow_are_chosen_by_boxes(console):
    NotificationChannelFactory(name="ops")

    console.post(page("workflow", "add"), {**workflow_form(), "notify-failure": "ops"})

    assert Workflow.objects.get().notify == {"failure": ["ops"]}
    assert not Notification.objects.exists()


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def versions():
    """The three versions of a workflow."""
    workflow = make()
    services.update_workflow(workflow=workflow, changes={"steps": [{**LOG, "config": {"message": CANARY}}]})
    services.update_workflow(workflow=workflow, changes={"steps": [LOG, CALL], "timeout_seconds": 60})
    return list(WorkflowVersion.objects.order_by("number"))


def test_a_version_shows_what_changed_since_the_one_before_escaped(console, versions, django_assert_max_num_queries):
    with django_assert_max_num_queries(MAX_QUERIES):
        html = console.get(page("workflowversion", "change", versions[1].pk)).content.decode()

    assert "Changes from version 1 to version 2" in html
    assert re.search(r'lab-line-removed">-  &quot;message&quot;: &quot;Hello', html)
    assert re.search(r'lab-line-added">\+  &quot;message&quot;: &quot;&lt;script&gt;', html)
    assert "<script>alert" not in html


def test_a_version_is_compared_with_any_other(console, versions):
    html = console.get(page("workflowversion", "change", versions[2].pk), {"against": 1}).content.decode()

    assert "Changes from version 1 to version 3" in html
    assert re.search(r"call</span> added", html)
    assert "<h4>" not in html.split("call</span> added")[0].split("Changes from")[1]
    assert "timeout_seconds" in html


@pytest.mark.parametrize("against", ["99", "x", "3", "-1", ""])
def test_a_version_that_is_none_is_not_compared_with(console, versions, against):
    html = console.get(page("workflowversion", "change", versions[2].pk), {"against": against}).content.decode()

    assert "Changes from version 2 to version 3" in html


def test_an_older_version_is_restored_as_the_newest(console, versions):
    response = console.post(action("restore", versions[0], "workflowversion"), submitted(), follow=True)

    workflow = Workflow.objects.get()
    assert said(response) == ["Version 1 is restored as version 4."]
    assert (workflow.version, workflow.steps, workflow.timeout_seconds) == (4, versions[0].steps, 3600)
    assert WorkflowVersion.objects.get(number=4).created_by == "root"
    assert LogEntry.objects.filter(object_id=str(workflow.pk)).exists()


def test_the_newest_version_offers_no_restore_and_a_look_restores_nothing(console, versions):
    newest = console.get(page("workflowversion", "change", versions[2].pk)).content.decode()
    console.get(action("restore", versions[0], "workflowversion"))

    assert action("restore", versions[2], "workflowversion") not in newest
    assert WorkflowVersion.objects.count() == 3


def test_an_operator_restores_nothing(as_role, versions):
    response = as_role("operator").post(action("restore", versions[0], "workflowversion"), submitted())

    assert response.status_code == 403
    assert WorkflowVersion.objects.count() == 3


# --- dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_every_config_rendered_and_does_nothing(console):
    workflow = make(steps=[LOG, CALL])
    data = {"trigger_data": json.dumps({"name": CANARY, "path": "orders"}), "outputs": '{"call": {"status": 204}}'}

    html = console.post(action("dry_run", workflow), data).content.decode()

    assert "not done in a dry run" in html
    assert "https://api.example.com/orders" in html
    assert "204" in html
    assert "<script>alert" not in html
    assert not WorkflowExecution.objects.exists() and not StepExecution.objects.exists()


def test_a_dry_run_takes_a_stored_webhook(console):
    webhook = WebhookFactory(body={"name": "from-the-webhook"})
    workflow = make(steps=[LOG])

    html = console.post(action("dry_run", workflow), {"webhook": webhook.pk}).content.decode()

    assert "Hello from-the-webhook" in html


def test_a_dry_run_that_fails_says_at_which_step(console):
    html = console.post(action("dry_run", make()), {"trigger_data": "{}"}).content.decode()

    assert re.search(r'lab-state lab-bad">failed', html)
    assert "name" in html


NOT_JSON = {
    '{\n  "a": 1,\n}': "at line 3, column 1.",
    "[" * 5_000: "nests deeper than 64 levels",
    "1" * 5_000: "at most 1,000 digits",
    '{"a": NaN}': "are not JSON numbers",
    '{"a": 1, "a": 2}': 'The key "a" occurs twice',
    '{"a": "\\u0000"}': "NUL",
    '{"a": "\\ud800"}': "half of a surrogate pair",
}


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: text[:12])
def test_what_is_no_exact_json_is_refused_with_the_reason_and_kept(console, text):
    response = console.post(page("workflow", "add"), workflow_form(variables=text))

    form = response.context["adminform"].form
    assert NOT_JSON[text] in form.errors["variables"][0]
    assert form["variables"].value() == text
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"webhook": "999"}, "webhook"),
        ({"webhook": "9" * 30}, "webhook"),
        ({"webhook": "x"}, "webhook"),
        ({"trigger_data": "{"}, "trigger_data"),
        ({"outputs": "[]"}, "outputs"),
    ],
)
def test_what_cannot_be_tried_is_refused_at_its_field(console, data, field):
    response = console.post(action("dry_run", make()), data)

    assert field in response.context["form"].errors


def test_the_latest_webhooks_of_the_source_are_offered(console, django_assert_max_num_queries):
    wanted, other = WebhookFactory(source="github"), WebhookFactory(source="shop")
    workflow = make(trigger_type="webhook", trigger_config={"source": "github"})

    with django_assert_max_num_queries(MAX_QUERIES):
        html = console.get(action("dry_run", workflow)).content.decode()

    assert f'href="?webhook={wanted.pk}"' in html
    assert f'href="?webhook={other.pk}"' not in html


def test_who_may_not_see_webhooks_tries_with_typed_data_only(client):
    webhook = WebhookFactory(body={"name": "private"})
    user = User.objects.create(username="guest", is_staff=True)
    user.user_permissions.add(*Group.objects.get(name="viewer").permissions.filter(content_type__app_label="workflows"))
    client.force_login(user, backend=BACKEND)

    html = client.post(action("dry_run", make()), {"webhook": webhook.pk, "trigger_data": "{}"}).content.decode()

    assert "private" not in html


# --- files ------------------------------------------------------------------------------------------------------------

IMPORT = "admin:workflows_workflow_import_file"


def exported(**changes):
    workflow = make(name="Exported", steps=[{"type": "email", "config": {"template": "welcome"}}])
    MessageTemplateFactory(name="welcome")
    document = transfer.export_workflow(workflow)
    document["workflow"] |= changes
    workflow.versions.all().delete()
    workflow.delete()
    return document


def test_a_workflow_is_downloaded_as_a_file(console):
    workflow = make()

    response = console.get(action("export", workflow))

    assert response.headers["Content-Disposition"] == f'attachment; filename="workflow-{workflow.pk}.json"'
    assert response.json() == transfer.export_workflow(workflow)


def test_an_uploaded_file_is_imported_switched_off_and_its_warnings_are_said(console):
    file = SimpleUploadedFile("w.json", json.dumps({**exported(), "secrets": ["CRM"]}).encode())

    response = console.post(reverse(IMPORT), {"file": file, "on_conflict": "skip", "do": "import"}, follow=True)

    workflow = Workflow.objects.get()
    assert (workflow.name, workflow.enabled) == ("Exported", False)
    assert said(response)[0] == "Exported: created, switched off."
    assert any("no secret named 'CRM'" in text for text in said(response))
    assert LogEntry.objects.get().is_addition()


def test_an_import_and_its_audit_line_are_written_together(console, failing_audit):
    text = json.dumps(exported())

    with pytest.raises(ConnectionAbortedError):
        console.post(reverse(IMPORT), {"text": text, "on_conflict": "skip", "do": "import"})

    assert not Workflow.objects.exists()


def test_a_file_is_checked_without_being_imported(console):
    file = SimpleUploadedFile("w.json", json.dumps(exported(name=CANARY)).encode())

    response = console.post(reverse(IMPORT), {"file": file, "on_conflict": "skip", "do": "check"})

    html = response.content.decode()
    assert "This file can be imported" in html
    assert "<script>alert" not in html
    assert CANARY in json.loads(response.context["form"].initial["text"])["workflow"]["name"]
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    ("on_conflict", "names", "version"),
    [("rename", ["Exported", "Exported (2)"], 1), ("update", ["Exported"], 2)],
)
def test_a_name_that_is_taken_is_handled_as_chosen(console, on_conflict, names, version):
    document = exported()
    make(name="Exported")

    console.post(reverse(IMPORT), {"text": json.dumps(document), "on_conflict": on_conflict, "do": "import"})

    assert sorted(Workflow.objects.values_list("name", flat=True)) == names
    assert Workflow.objects.get(name="Exported").version == version


def test_a_name_that_is_taken_is_left_alone_by_default(console):
    document = exported()
    make(name="Exported")

    response = console.post(reverse(IMPORT), {"text": json.dumps(document), "on_conflict": "skip", "do": "import"})

    assert "on_conflict" in response.context["form"].errors
    assert Workflow.objects.count() == 1


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"text": "{"},
        {"text": "[]"},
        {"text": '{"format": "other", "workflow": {}}'},
        {"text": "{}", "file": b"{}"},
        {"file": b"\xff\xfe{}"},
        {"file": b"x" * (transfer.MAX_BYTES + 1)},
        {"text": "{}", "on_conflict": "burn"},
    ],
)
def test_what_is_no_exported_workflow_is_refused_with_the_reason(console, data):
    sent = {"on_conflict": "skip", "do": "import", **data}
    if "file" in data:
        sent["file"] = SimpleUploadedFile("w.json", data["file"])

    response = console.post(reverse(IMPORT), sent)

    assert response.status_code == 200
    assert response.context["form"].errors
    assert not Workflow.objects.exists()


def test_files_are_imported_by_editors_and_exported_by_viewers(as_role):
    workflow = make()
    viewer = as_role("viewer")

    codes = [viewer.get(action("export", workflow)).status_code, viewer.get(reverse(IMPORT)).status_code]
    codes.append(as_role("editor").get(reverse(IMPORT)).status_code)

    assert codes == [200, 403, 200]


@pytest.mark.parametrize("name", ["dry_run", "export"])
def test_a_workflow_that_is_gone_is_not_found(console, name):
    assert console.get(reverse(f"admin:workflows_workflow_{name}", args=[99])).status_code == 404
