"""Dry runs and tests of one step."""

from __future__ import annotations

import pytest

from automation_lab.core.exceptions import Invalid
from inbox.models import Webhook
from workflows import services
from workflows.models import StepExecution, Workflow, WorkflowExecution
from workflows.running import rehearsal

pytestmark = pytest.mark.django_db

CALL = {
    "type": "api_call",
    "id": "call",
    "config": {"method": "POST", "url": "https://api.example.com/{{ vars.name }}"},
}
USE = {"type": "set", "id": "use", "config": {"values": {"status": "{{ steps.call.output.status }}"}}}


def workflow_of(*steps) -> Workflow:
    return services.create_workflow(fields={"name": "Dry", "steps": list(steps), "variables": {"name": "ann"}})


def mapped_workflow() -> Workflow:
    mapping = {"input": {"name": "{{ trigger.data.person }}"}}
    return services.create_workflow(fields={"name": "Mapped", "steps": [CALL], "trigger_config": mapping})


def by_path(report):
    return {result["path"]: result for result in report["step_results"]}


def test_a_dry_run_renders_the_config_and_does_nothing():
    report = rehearsal.dry_run(workflow=workflow_of(CALL), outputs={})

    call = by_path(report)["call"]
    assert call["input"]["url"] == "https://api.example.com/ann"
    assert call["note"] == rehearsal.NOT_DONE
    assert not WorkflowExecution.objects.exists()
    assert not StepExecution.objects.exists()


def test_a_dry_run_takes_the_given_output_in_the_place_of_the_effect():
    report = rehearsal.dry_run(workflow=workflow_of(CALL, USE), outputs={"call": {"status": 201}})

    assert (report["status"], report["variables"]["status"]) == ("success", 201)


def test_a_dry_run_names_what_would_fail():
    report = rehearsal.dry_run(workflow=workflow_of(CALL, USE), outputs={"call": {}})

    assert report["status"] == "failed"
    assert "status" in report["error_message"]


def test_a_dry_run_says_which_output_it_needs():
    report = rehearsal.dry_run(workflow=workflow_of(CALL, USE))

    assert report["error_message"].endswith("The step 'call' is not done in a dry run: say in `outputs` what it gives.")


def test_an_output_for_no_step_is_refused():
    with pytest.raises(Invalid, match="Did you mean `call`") as caught:
        rehearsal.dry_run(workflow=workflow_of(CALL, USE), outputs={"cal": {"status": 201}})

    assert caught.value.field == "outputs"


def test_a_dry_run_tries_a_definition_that_is_not_saved():
    workflow = workflow_of(CALL)

    report = rehearsal.dry_run(workflow=workflow, steps=[{"type": "set", "config": {"values": {"x": 1}}}])

    assert report["variables"]["x"] == 1
    assert workflow.version == 1


def test_a_dry_run_with_a_stored_webhook_has_its_names():
    webhook = Webhook.objects.create(
        source="github",
        event_type="push",
        method="POST",
        path="/",
        raw_body=b"{}",
        sha256="0" * 64,
        body={"ref": "main"},
    )
    step = {"type": "set", "config": {"values": {"ref": "{{ trigger.data.ref }}", "type": "{{ trigger.event_type }}"}}}

    report = rehearsal.dry_run(workflow=workflow_of(step), webhook=webhook)

    assert report["variables"] == {"name": "ann", "ref": "main", "type": "push"}


def test_a_dry_run_fills_variables_as_a_start_does():
    workflow = mapped_workflow()

    report = rehearsal.dry_run(workflow=workflow, trigger_data={"person": "bo"})

    assert (report["status"], by_path(report)["call"]["input"]["url"]) == ("success", "https://api.example.com/bo")


def test_a_dry_run_says_that_the_input_mapping_fails():
    report = rehearsal.dry_run(workflow=mapped_workflow(), trigger_data={})

    assert (report["status"], report["step_results"]) == ("failed", [])
    assert report["error_message"].startswith("The input mapping failed: `trigger.data.person`")


def test_one_step_is_tested_with_mapped_variables_or_given_ones():
    workflow = mapped_workflow()

    mapped = rehearsal.test_step(step=CALL, workflow=workflow, trigger_data={"person": "bo"})
    given = rehearsal.test_step(step=CALL, workflow=workflow, variables={"name": "cy"})

    assert by_path(mapped)["call"]["input"]["url"] == "https://api.example.com/bo"
    assert by_path(given)["call"]["input"]["url"] == "https://api.example.com/cy"


def test_one_step_is_tested_with_given_outputs_of_earlier_ones():
    report = rehearsal.test_step(step=USE, outputs={"call": {"status": 204}}, do_it=True)

    assert by_path(report)["use"]["output"] == {"status": 204}


def test_a_faulty_step_is_refused_before_it_is_tested():
    with pytest.raises(Invalid):
        rehearsal.test_step(step={"type": "set", "config": {"values": {"x": "{{ nothing.here }}"}}})


def test_the_api_refuses_an_unknown_webhook(api):
    workflow = workflow_of(CALL)

    answer = api.post(f"/v1/workflows/{workflow.pk}/dry-run", {"webhook": 999})

    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no webhook 999.")


def test_the_api_refuses_an_unknown_workflow_for_a_step(api):
    answer = api.post("/v1/workflows/test-step", {"step": CALL, "workflow": 999})

    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no workflow 999.")


def test_the_api_renders_a_step(api):
    answer = api.post("/v1/workflows/test-step", {"step": CALL, "variables": {"name": "bo"}})

    assert answer.status_code == 200, answer.content
    assert answer.json()["step_results"][0]["input"]["url"] == "https://api.example.com/bo"
