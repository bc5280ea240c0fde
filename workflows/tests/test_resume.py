"""Resuming finished runs, and what a resume may keep."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.execution import runner
from automation_lab.core.execution.hints import kind_of
from workflows import resume, services
from workflows.models import Workflow, WorkflowExecution

pytestmark = pytest.mark.django_db

FAILS_UNTIL_READY = {
    "type": "validate",
    "id": "check",
    "config": {"data": "{{ trigger.data }}", "rules": [{"if": "trigger.data.ready", "message": "not ready"}]},
}


@pytest.fixture
def worker() -> int:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        return int(cursor.fetchone()[0])


@pytest.fixture
def run(worker: int) -> Any:
    def run(execution: WorkflowExecution) -> WorkflowExecution:
        runner.run(kind_of(WorkflowExecution), execution.pk, worker=worker)
        return WorkflowExecution.objects.get(pk=execution.pk)

    return run


def set_step(step_id: str, **values: Any) -> dict[str, Any]:
    return {"type": "set", "id": step_id, "config": {"values": values}}


def workflow_of(*steps: dict[str, Any]) -> Workflow:
    return services.create_workflow(fields={"name": "Resumable", "steps": list(steps), "variables": {"count": 1}})


def mapped_workflow() -> Workflow:
    fields = {
        "name": "Mapped",
        "steps": [FAILS_UNTIL_READY, set_step("last", seen="{{ vars.total }}")],
        "trigger_config": {"input": {"total": "{{ trigger.data.n * 2 }}"}},
    }
    return services.create_workflow(fields=fields)


def failed_run(run: Any, *steps: dict[str, Any]) -> WorkflowExecution:
    execution = services.start_execution(workflow=workflow_of(*steps), trigger_data={"ready": False})
    return run(execution)


def paths(records: list[Any]) -> list[str]:
    return [record.path for record in records]


def test_from_the_failed_step_earlier_results_are_kept(run):
    old = failed_run(
        run, set_step("first", count="{{ vars.count + 1 }}"), FAILS_UNTIL_READY, set_step("last", done=True)
    )

    plan = resume.plan(execution=old, trigger_data={"ready": True}, edit_input=True)
    fresh = run(resume.resume(execution=old, plan=plan))

    assert old.status == "failed"
    assert (paths(plan.kept), paths(plan.again)) == (["first"], ["check"])
    assert (fresh.status, fresh.variables) == ("success", {"count": 2, "done": True})
    assert fresh.resumed_from_id == old.pk


def test_from_the_start_nothing_is_kept(run):
    old = failed_run(run, set_step("first", count="{{ vars.count + 1 }}"), FAILS_UNTIL_READY)

    plan = resume.plan(execution=old, start="start", trigger_data={"ready": True}, edit_input=True)
    fresh = run(resume.resume(execution=old, plan=plan))

    assert plan.kept == []
    assert fresh.variables == {"count": 2}


def test_from_a_finished_step_the_variables_are_those_before_it(run):
    old = failed_run(run, set_step("first", a=1), set_step("second", a=2), FAILS_UNTIL_READY)

    plan = resume.plan(execution=old, start="second")

    assert paths(plan.kept) == ["first"]
    assert plan.variables == {"count": 1, "a": 1}


def test_variables_that_the_input_mapping_fills_are_there_again(run):
    workflow = mapped_workflow()
    old = run(services.start_execution(workflow=workflow, trigger_data={"ready": False, "n": 4}))

    plan = resume.plan(execution=old, trigger_data={"ready": True, "n": 5}, edit_input=True)
    fresh = run(resume.resume(execution=old, plan=plan))
    again = run(resume.resume(execution=fresh, plan=resume.plan(execution=fresh, start="start")))

    assert resume.plan(execution=old).variables == {"total": 8}
    assert (fresh.status, fresh.variables) == ("success", {"total": 10, "seen": 10})
    assert again.variables == fresh.variables


def test_an_input_that_cannot_be_mapped_is_refused(run):
    old = run(services.start_execution(workflow=mapped_workflow(), trigger_data={"ready": False, "n": 4}))

    with pytest.raises(Invalid, match="input mapping failed") as caught:
        resume.plan(execution=old, trigger_data={"ready": True}, edit_input=True)

    assert caught.value.field == "trigger_data"
    assert resume.plan(execution=old, variables={"total": 1}).variables == {"total": 1}


def test_variables_that_were_too_large_to_be_kept_have_to_be_given(run):
    steps = [set_step("first", x="{{ trigger.data.x }}"), FAILS_UNTIL_READY]
    old = run(services.start_execution(workflow=workflow_of(*steps), trigger_data={"ready": False, "x": "y" * 300_000}))

    with pytest.raises(Invalid, match="give the variables"):
        resume.plan(execution=old)

    assert resume.plan(execution=old, variables={"x": 1}).variables == {"x": 1}


def test_of_a_success_the_step_to_run_again_has_to_be_named(run):
    done = run(services.start_execution(workflow=workflow_of(set_step("first", a=1), {"type": "stop", "id": "end"})))

    with pytest.raises(Invalid, match="name the one to run again from") as caught:
        resume.plan(execution=done)

    assert caught.value.field == "from"
    assert paths(resume.plan(execution=done, start="end").again) == ["end"]


def test_inside_a_branch_the_decision_and_the_steps_before_it_are_kept(run):
    branch = {
        "type": "condition",
        "id": "branch",
        "config": {"if": "vars.count == 1", "then": [set_step("inside", count=5), FAILS_UNTIL_READY]},
    }
    old = failed_run(run, branch, set_step("last", done=True))

    plan = resume.plan(execution=old, trigger_data={"ready": True}, edit_input=True)
    fresh = run(resume.resume(execution=old, plan=plan))

    assert (paths(plan.kept), paths(plan.reopened)) == (["branch[then]/inside"], ["branch"])
    assert fresh.status == "success", fresh.error_message
    assert fresh.steps.get(path="branch").output == {"result": True}


def test_a_step_can_be_skipped_with_an_output(run):
    after = set_step("after", seen="{{ steps.check.output.valid }}")
    old = failed_run(run, FAILS_UNTIL_READY, after)

    plan = resume.plan(execution=old, skip={"check": {"valid": "by hand"}})
    fresh = run(resume.resume(execution=old, plan=plan))

    assert fresh.status == "success", fresh.error_message
    assert fresh.variables["seen"] == "by hand"
    assert fresh.steps.get(path="check").status == "skipped"


def test_the_latest_version_is_used_when_it_fits(run):
    old = failed_run(run, set_step("first", a=1), FAILS_UNTIL_READY)
    services.update_workflow(workflow=old.workflow, changes={"steps": [set_step("first", a=1), set_step("check", b=2)]})
    old = WorkflowExecution.objects.with_history().get(pk=old.pk)

    plan = resume.plan(execution=old, version="latest")
    fresh = run(resume.resume(execution=old, plan=plan))

    assert plan.version.number == 2
    assert fresh.variables == {"count": 1, "a": 1, "b": 2}


def test_the_latest_version_is_refused_when_a_kept_step_is_gone(run):
    old = failed_run(run, set_step("first", a=1), FAILS_UNTIL_READY)
    services.update_workflow(workflow=old.workflow, changes={"steps": [set_step("other", a=1), FAILS_UNTIL_READY]})
    old = WorkflowExecution.objects.with_history().get(pk=old.pk)

    with pytest.raises(Conflict, match="'first' was removed"):
        resume.plan(execution=old, version="latest")


def test_an_execution_that_is_going_on_is_not_resumed():
    execution = services.start_execution(workflow=workflow_of(set_step("first", a=1)))

    with pytest.raises(Conflict, match="pending"):
        resume.plan(execution=execution)


def test_an_unknown_step_is_refused(run):
    old = failed_run(run, FAILS_UNTIL_READY)

    with pytest.raises(Invalid, match="No step 'nowhere'"):
        resume.plan(execution=old, start="nowhere")


def test_the_api_previews_and_resumes(api, run):
    old = failed_run(run, set_step("first", a=1), FAILS_UNTIL_READY)
    address = f"/v1/workflows/executions/{old.pk}/resume"

    preview = api.post(address, {"from": "failed", "dry_run": True})
    answer = api.post(address, {"trigger_data": {"ready": True}})

    assert (preview.status_code, preview.json()["kept"], preview.json()["again"]) == (200, ["first"], ["check"])
    assert (answer.status_code, answer.json()["resumed_from"]) == (202, old.pk)
    assert answer.json()["trigger_data"] == {"ready": True}
