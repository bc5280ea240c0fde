"""Every write to workflows: what is kept of each version, what is refused."""

from __future__ import annotations

import hashlib

import pytest

from automation_lab.core.exceptions import Conflict, Invalid
from workflows import services
from workflows.models import Workflow, WorkflowExecution, WorkflowVersion

pytestmark = pytest.mark.django_db
STEPS = [{"type": "set", "config": {"values": {"x": 1}}}]


@pytest.fixture
def workflow(db):
    return services.create_workflow(fields={"name": "orders", "steps": STEPS, "variables": {"a": 1}}, author="pat")


def faults(**fields):
    with pytest.raises(Invalid) as caught:
        services.create_workflow(fields={"name": "w", "steps": [], **fields})
    return [fault["field"] for fault in caught.value.errors]


def test_a_new_workflow_has_its_first_version(workflow):
    version = WorkflowVersion.objects.get()

    assert (version.workflow, version.number, version.created_by) == (workflow, 1, "pat")
    assert version.steps == workflow.steps == [{"id": "set", **STEPS[0]}]
    assert version.variables == {"a": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": [{"type": "set", "config": {"values": {"x": 2}}}]},
        {"variables": {}},
        {"timeout_seconds": 60},
        {"retry_policy": {"max_attempts": 5}},
        {"trigger_type": "webhook"},
    ],
    ids=str,
)
def test_a_change_of_the_definition_makes_a_new_version(workflow, changes):
    changed = services.update_workflow(workflow=workflow, changes=changes, author="sam")

    assert changed.version == 2
    assert list(WorkflowVersion.objects.values_list("number", "created_by")) == [(2, "sam"), (1, "pat")]
    assert WorkflowVersion.objects.get(number=1).variables == {"a": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"enabled": False},
        {"description": "x"},
        {"name": "other"},
        {"steps": [{"id": "set", **STEPS[0]}]},
        {"concurrency": "skip"},
    ],
    ids=str,
)
def test_any_other_change_does_not(workflow, changes):
    services.update_workflow(workflow=workflow, changes=changes)

    assert Workflow.objects.get().version == 1
    assert WorkflowVersion.objects.count() == 1


def test_an_update_leaves_alone_what_has_changed_meanwhile(workflow):
    Workflow.objects.update(success_count=7, description="by somebody else")

    services.update_workflow(workflow=workflow, changes={"enabled": False})

    row = Workflow.objects.get()
    assert (row.success_count, row.description, row.enabled) == (7, "by somebody else", False)


def test_every_fault_is_reported_at_once():
    found = faults(
        steps=[{"type": "nope"}],
        retry_policy={"max_attempts": 0},
        trigger_type="webhook",
        trigger_config={"x": 1},
        timeout_seconds=0,
    )

    assert found == ["steps[0].type", "retry_policy.max_attempts", "trigger_config.x", "timeout_seconds"]


def test_the_condition_of_a_retry_policy_is_checked():
    assert faults(retry_policy={"retry_if": "error.code == 'x' and attempts < 2"}) == ["retry_policy.retry_if"]


def test_a_name_is_taken_once(workflow):
    assert faults(name="orders") == ["name"]

    other = services.create_workflow(fields={"name": "other", "steps": []})
    with pytest.raises(Invalid):
        services.update_workflow(workflow=other, changes={"name": "orders"})


def test_what_is_not_editable_is_refused(workflow):
    with pytest.raises(Invalid):
        services.update_workflow(workflow=workflow, changes={"version": 7})


def test_a_retry_policy_is_kept_in_its_normal_form():
    workflow = services.create_workflow(
        fields={"name": "w", "steps": [], "retry_policy": {"max_retries": 2, "delay": 1}}
    )

    assert (workflow.retry_policy["max_attempts"], workflow.retry_policy["delay_seconds"]) == (3, 1)


def test_a_workflow_with_a_live_run_is_not_deleted(workflow):
    run = services.start_execution(workflow=workflow)
    with pytest.raises(Conflict):
        services.delete_workflow(workflow=workflow)

    services.cancel_execution(execution=run)
    services.delete_workflow(workflow=workflow)

    assert not Workflow.objects.exists()
    assert not WorkflowExecution.objects.exists()


def test_a_workflow_that_is_off_is_not_started(workflow):
    services.update_workflow(workflow=workflow, changes={"enabled": False})

    with pytest.raises(Conflict):
        services.start_execution(workflow=Workflow.objects.get())


def test_the_same_key_gives_the_same_run(workflow):
    first = services.start_execution(workflow=workflow, trigger_data=[1], idempotency_key="k")

    assert services.start_execution(workflow=workflow, trigger_data=[1], idempotency_key="k") == first
    with pytest.raises(Conflict):
        services.start_execution(workflow=workflow, trigger_data=[2], idempotency_key="k")
    assert WorkflowExecution.objects.count() == 1


def test_the_hash_of_a_request_stays_what_stored_rows_have(workflow):
    run = services.start_execution(workflow=workflow, trigger_source="api", trigger_data=[1], idempotency_key="k")

    request = b'{"trigger_data":[1],"trigger_source":"api"}'
    assert run.request_hash == hashlib.sha256(request).hexdigest()
    assert services.start_execution(workflow=workflow).request_hash == ""


def test_a_finished_run_is_not_cancelled(workflow):
    run = services.start_execution(workflow=workflow)
    services.cancel_execution(execution=run)

    with pytest.raises(Conflict):
        services.cancel_execution(execution=run)
