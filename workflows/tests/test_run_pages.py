"""The page of a run: its steps, what it waits for, deciding, resuming."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.urls import reverse

from workflows import services
from workflows.models import StepExecution, WorkflowExecution
from workflows.tests.factories import StepAttemptFactory, StepExecutionFactory, WorkflowExecutionFactory
from workflows.tests.helpers import output_of
from workflows.tests.test_admin import BACKEND, CANARY, page, said

pytestmark = pytest.mark.django_db
MAX_QUERIES = 12
CHARGE = {"id": "charge", "type": "set", "config": {"values": {"charged": 1}}}
SECOND = {"id": "second", "type": "set", "config": {"values": {"b": "{{ trigger.data.b }}"}}}
FORM = {
    "type": "object",
    "required": ["reason"],
    "properties": {
        "note": {"type": "string", "maxLength": 500, "description": "<b>bold</b>"},
        "reason": {"type": "string", "enum": ["damaged", "late"], "title": CANARY},
        "amount": {"type": "number", "maximum": 100},
        "notify": {"type": "boolean"},
    },
}


def html_of(client, run):
    return client.get(page("workflowexecution", "change", run.pk)).content.decode()


# --- steps ------------------------------------------------------------------------------------------------------------


def test_steps_are_indented_by_their_place_and_drawn_on_the_time_line(console):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    run = WorkflowExecutionFactory(status="success", started_at=start, finished_at=start + timedelta(seconds=10))
    StepExecutionFactory(execution=run, path="loop", step_id="loop", type="for_each", started_at=start, position=1)
    StepExecutionFactory(
        execution=run,
        path="loop[3]/fetch",
        step_id="fetch",
        position=2,
        started_at=start + timedelta(seconds=5),
        finished_at=start + timedelta(seconds=7, milliseconds=500),
    )

    html = html_of(console, run)

    assert re.search(r'--depth: 1">\s*<span class="lab-branch">3</span>\s*<strong title="loop\[3\]/fetch">fetch', html)
    assert "left: 50.00%; width: 25.00%" in html


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "waiting", "type": "approval"}, "Waits for an approval"),
        ({"status": "waiting", "type": "delay"}, "Waits for the time"),
        ({"status": "waiting", "type": "api_call", "attempt": 2, "error": {"message": "x"}}, "Waits for attempt 3 at"),
        ({"status": "interrupted", "type": "api_call"}, "Waits for a decision"),
    ],
)
def test_a_waiting_step_says_for_what_and_until_when(console, fields, words):
    until = datetime.now(UTC) + timedelta(hours=2, minutes=1)
    step = StepExecutionFactory(execution=WorkflowExecutionFactory(status="running"), next_attempt_at=until, **fields)

    html = html_of(console, step.execution)

    assert words in html
    assert fields["status"] == "interrupted" or f"{until:%Y-%m-%d %H:%M:%S} UTC, in 2 h" in html


@pytest.mark.parametrize("fields", [{"type": "delay"}, {"type": "sub_workflow", "next_attempt_at": None}], ids=str)
def test_a_step_that_may_wait_for_longer_than_its_run_says_when_that_ends(console, fields):
    now = datetime.now(UTC)
    run = WorkflowExecutionFactory(status="running", deadline_at=now + timedelta(minutes=61))
    step = {"status": "waiting", "next_attempt_at": now + timedelta(days=3), **fields}
    StepExecutionFactory(execution=run, **step)

    assert f"; the run ends {run.deadline_at:%Y-%m-%d %H:%M:%S} UTC, in 1 h" in html_of(console, run)


def test_a_failed_step_says_why_in_the_tree_escaped(console):
    step = StepExecutionFactory(status="failed", name=CANARY, error={"message": CANARY})

    html = html_of(console, step.execution)

    assert "<script>alert" not in html
    assert re.search(r"lab-failures\">&lt;script&gt;", html)


def test_the_data_of_a_step_is_fetched_when_it_is_opened(console, django_assert_max_num_queries):
    step = StepExecutionFactory(input={"url": CANARY}, output={"x": 1}, error=None)
    StepAttemptFactory.create_batch(2, step=step)
    url = reverse("admin:workflows_stepexecution_data", args=[step.pk])

    assert f'data-load="{url}"' in html_of(console, step.execution)
    with django_assert_max_num_queries(MAX_QUERIES):
        html = console.get(url).content.decode()

    assert "<h3>Input</h3>" in html and "<h3>Output</h3>" in html and "Error</h3>" not in html
    assert "Attempts" in html
    assert "<script>alert" not in html


def test_the_data_of_a_step_is_for_those_who_may_see_steps(client):
    step = StepExecutionFactory()
    client.force_login(User.objects.create(username="guest", is_staff=True), backend=BACKEND)

    assert client.get(reverse("admin:workflows_stepexecution_data", args=[step.pk])).status_code == 403


def test_of_a_long_run_the_steps_in_trouble_are_shown_as_well(console, django_assert_max_num_queries):
    run = WorkflowExecutionFactory(status="failed")
    rows = [
        StepExecutionFactory.build(execution=run, path=f"loop[{n}]/a", position=n, status="success", output={"n": n})
        for n in range(500)
    ]
    rows[450].status = "failed"
    StepExecution.objects.bulk_create(rows)

    with django_assert_max_num_queries(MAX_QUERIES):
        html = html_of(console, run)

    assert "loop[450]/a" in html
    assert "loop[449]/a" not in html
    assert f"{page('stepexecution', 'changelist')}?execution__id__exact={run.pk}" in html


def test_steps_that_a_resumed_run_kept_have_no_place_in_its_time(console):
    first = WorkflowExecutionFactory(status="failed")
    run = WorkflowExecutionFactory(status="running", resumed_from=first)
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    StepExecutionFactory(execution=run, status="success", started_at=long_ago, finished_at=long_ago)

    html = html_of(console, run)

    assert "kept from the run before" in html
    assert page("workflowexecution", "change", run.pk) in html_of(console, first)


@pytest.mark.parametrize(("status", "is_live"), [("running", True), ("success", False)])
def test_the_page_follows_a_run_while_it_goes_on(console, status, is_live):
    run = WorkflowExecutionFactory(status=status)

    assert ("data-live" in html_of(console, run)) == is_live


# --- approvals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(run_workflow):
    config = {"message": f"Refund?\n{CANARY}", "form": FORM}
    run = run_workflow([{"id": "ok", "type": "approval", "config": config}])
    return run.steps.get()


def approval_url(step):
    return reverse("admin:workflows_stepexecution_approve", args=[step.pk])


def test_a_run_that_waits_for_approval_leads_to_the_decision(console, asked, django_assert_max_num_queries):
    with django_assert_max_num_queries(MAX_QUERIES):
        html = html_of(console, asked.execution)

    assert "Waits for approval" in html
    assert f"{asked.execution.deadline_at:%Y-%m-%d %H:%M:%S} UTC" in html.partition("Waits for approval")[2][:5_000]
    assert approval_url(asked) in html
    assert "<script>alert" not in html


def test_the_form_of_an_approval_is_made_from_its_schema_escaped(console, asked):
    html = console.get(approval_url(asked)).content.decode()

    assert '<select name="form.reason"' in html
    assert '<textarea name="form.note"' in html
    assert 'type="number" name="form.amount"' in html
    assert 'type="checkbox" name="form.notify"' in html
    assert html.index("form.reason") < html.index("form.note")  # what is needed comes first
    assert "<script>alert" not in html and "<b>bold" not in html
    assert StepExecution.objects.get().signal is None


def test_an_approval_is_recorded_with_its_form(console, asked, drive):
    answer = {"decision": "approved", "form.reason": '"late"', "form.amount": "12.5", "comment": "fine"}

    response = console.post(approval_url(asked), answer, follow=True)
    run = drive(asked.execution)

    assert said(response) == ["Approved."]
    output = output_of(run, "ok")
    assert (output["decision"], output["by"], output["comment"]) == ("approved", "root", "fine")
    assert output["form"] == {"reason": "late", "amount": 12.5, "notify": False}
    assert LogEntry.objects.get().get_change_message() == "Approved ok."


def test_an_approval_and_its_audit_line_are_written_together(console, asked, failing_audit):
    with pytest.raises(ConnectionAbortedError):
        console.post(approval_url(asked), {"decision": "approved", "form.reason": '"late"'})

    assert StepExecution.objects.get().signal is None


def test_faults_of_the_form_stand_at_their_fields(console, asked):
    response = console.post(approval_url(asked), {"decision": "approved", "form.amount": "500"})

    errors = response.context["form"].errors
    assert response.status_code == 200
    assert "form.amount" in errors
    assert StepExecution.objects.get().signal is None


def test_a_rejection_needs_no_form(console, asked, drive):
    console.post(approval_url(asked), {"decision": "rejected", "form.amount": "nonsense", "comment": "no"})
    run = drive(asked.execution)

    assert run.status == "failed"
    assert "Rejected by root: no" in run.error_message


@pytest.mark.parametrize("decision", ["", "maybe"])
def test_neither_decision_is_none(console, asked, decision):
    console.post(approval_url(asked), {"decision": decision, "form.reason": '"late"'})

    assert StepExecution.objects.get().signal is None


def test_who_started_the_run_does_not_approve_it(console, asked):
    WorkflowExecution.objects.update(started_by="root")

    response = console.post(approval_url(asked), {"decision": "approved", "form.reason": '"late"'}, follow=True)

    assert "somebody else has to decide" in said(response)[0]
    assert not LogEntry.objects.exists()


def test_a_viewer_decides_nothing(viewer, asked):
    html = html_of(viewer, asked.execution)

    assert approval_url(asked) not in html
    assert viewer.get(approval_url(asked)).status_code == 403
    assert viewer.post(approval_url(asked), {"decision": "approved"}).status_code == 403


def test_a_step_that_waits_no_longer_offers_no_decision(console, asked, drive):
    console.post(approval_url(asked), {"decision": "rejected"})
    drive(asked.execution)

    html = console.get(approval_url(asked)).content.decode()

    assert "waits for no approval" in html
    assert 'value="approved"' not in html


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def failed(run_workflow):
    """A run whose second step has failed, for want of its input."""
    run = run_workflow([CHARGE, SECOND], trigger_data={})
    assert run.status == "failed"
    return run


def resume_url(run):
    return reverse("admin:workflows_workflowexecution_resume", args=[run.pk])


def choices(**changes):
    chosen = {"start": "failed", "version": "same", "trigger_data": '{"b": 2}', "edit_input": "on", "skip": "{}"}
    return {**chosen, **changes}


def preview(console, run, **changes):
    response = console.post(resume_url(run), {**choices(**changes), "do": "preview"})
    return response, response.context["form"].data.get("previewed", "")


def test_a_failed_run_offers_to_resume_and_a_live_one_does_not(console, failed):
    live = WorkflowExecutionFactory(status="running")

    assert resume_url(failed) in html_of(console, failed)
    assert resume_url(live) not in html_of(console, live)


def test_looking_at_the_page_resumes_nothing(console, failed, django_assert_max_num_queries):
    with django_assert_max_num_queries(MAX_QUERIES):
        response = console.get(resume_url(failed), {"do": "resume", "from": "second"})

    assert response.context["form"].initial["start"] == "second"
    assert WorkflowExecution.objects.count() == 1


def test_what_is_kept_and_what_runs_again_is_shown_first(console, failed):
    response, previewed = preview(console, failed)

    plan = response.context["plan"]
    assert ([step.path for step in plan.kept], [step.path for step in plan.again]) == (["charge"], ["second"])
    assert previewed
    assert WorkflowExecution.objects.count() == 1


def test_a_previewed_resume_starts_a_new_run(console, failed, drive):
    _, previewed = preview(console, failed)

    response = console.post(resume_url(failed), {**choices(), "do": "resume", "previewed": previewed}, follow=True)

    fresh = WorkflowExecution.objects.get(resumed_from=failed)
    assert said(response) == [f"Run #{fresh.pk} goes on from #{failed.pk}."]
    assert (fresh.started_by, fresh.trigger_data) == ("root", {"b": 2})
    assert drive(fresh).variables == {"charged": 1, "b": 2}
    assert LogEntry.objects.get().object_id == str(fresh.pk)


def test_a_resume_and_its_audit_line_are_written_together(console, failed, failing_audit):
    _, previewed = preview(console, failed)

    with pytest.raises(ConnectionAbortedError):
        console.post(resume_url(failed), {**choices(), "do": "resume", "previewed": previewed})

    assert WorkflowExecution.objects.count() == 1


def test_without_a_preview_nothing_is_resumed(console, failed):
    response = console.post(resume_url(failed), {**choices(), "do": "resume"})

    assert response.context["plan"] is not None
    assert WorkflowExecution.objects.count() == 1


def test_other_choices_are_previewed_anew(console, failed):
    _, previewed = preview(console, failed)

    console.post(resume_url(failed), {**choices(start="start"), "do": "resume", "previewed": previewed})

    assert WorkflowExecution.objects.count() == 1


def test_the_old_input_stays_unless_another_one_is_wanted(console, failed):
    kept = choices()
    del kept["edit_input"]
    previewed = console.post(resume_url(failed), kept).context["form"].data["previewed"]

    console.post(resume_url(failed), {**kept, "do": "resume", "previewed": previewed})

    assert WorkflowExecution.objects.get(resumed_from=failed).trigger_data == {}


def test_a_run_is_resumed_on_the_latest_version_with_a_step_skipped(console, failed, drive):
    services.update_workflow(workflow=failed.workflow, changes={"timeout_seconds": 60})
    changes = {"version": "latest", "skip": '{"second": {"b": 9}}'}
    _, previewed = preview(console, failed, **changes)

    console.post(resume_url(failed), {**choices(**changes), "do": "resume", "previewed": previewed})

    fresh = WorkflowExecution.objects.get(resumed_from=failed)
    assert fresh.version.number == 2
    assert drive(fresh).status == "success"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"start": "nowhere"}, "start"),
        ({"version": "oldest"}, "version"),
        ({"skip": '{"charge": 1}'}, "skip"),
        ({"skip": "[1]"}, "skip"),
        ({"trigger_data": "{"}, "trigger_data"),
    ],
)
def test_choices_that_lead_nowhere_are_refused_at_their_fields(console, failed, changes, field):
    response, _ = preview(console, failed, **changes)

    assert field in response.context["form"].errors
    assert WorkflowExecution.objects.count() == 1


def test_a_run_that_goes_on_cannot_be_resumed(console):
    run = WorkflowExecutionFactory(status="running")

    response, _ = preview(console, run)

    assert "it can be resumed when it has finished" in str(response.context["form"].non_field_errors())


def test_a_viewer_resumes_nothing(viewer, failed):
    assert resume_url(failed) not in html_of(viewer, failed)
    assert viewer.post(resume_url(failed), choices()).status_code == 403


def test_a_run_that_is_gone_is_not_found(console):
    assert console.get(reverse("admin:workflows_workflowexecution_resume", args=[99])).status_code == 404
