"""Whatever fails where: resuming from the failed step ends in the variables of an undisturbed run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automation_lab.core.execution import runner
from workflows import resume, services
from workflows.models import Workflow, WorkflowExecution
from workflows.tests.helpers import KIND, new_worker

pytestmark = pytest.mark.django_db

NAMES = ("a", "b", "c")


def assignments() -> st.SearchStrategy[dict[str, Any]]:
    def build(target: str, source: str, number: int) -> dict[str, Any]:
        return {"type": "set", "config": {"values": {target: f"{{{{ vars.{source} * 2 + {number} }}}}"}}}

    return st.builds(build, st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(0, 9))


def gates() -> st.SearchStrategy[dict[str, Any]]:
    """A step that fails when the input names its label."""
    return st.builds(lambda label: {"type": "validate", "config": {"rules": [gate_rule(label)]}}, st.integers(0, 3))


def gate_rule(label: int) -> dict[str, Any]:
    return {"if": f"{label} != trigger.data.fail", "message": "told to fail"}


def conditions(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(name: str, then: list[Any], other: list[Any]) -> dict[str, Any]:
        return {"type": "condition", "config": {"if": f"vars.{name} % 2 == 0", "then": then, "else": other}}

    lists = st.lists(children, max_size=3)
    return st.builds(build, st.sampled_from(NAMES), lists, lists)


def loops(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(count: int, steps: list[Any]) -> dict[str, Any]:
        return {"type": "for_each", "config": {"items": list(range(count)), "steps": steps}}

    return st.builds(build, st.integers(1, 3), st.lists(children, min_size=1, max_size=2))


STEPS = st.lists(
    st.recursive(assignments() | gates(), lambda children: conditions(children) | loops(children), max_leaves=5),
    min_size=1,
    max_size=5,
)


def run(execution: WorkflowExecution, worker: int) -> WorkflowExecution:
    runner.run(KIND, execution.pk, worker=worker)
    return WorkflowExecution.objects.with_history().get(pk=execution.pk)


@given(steps=STEPS, fail=st.integers(0, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_a_resumed_run_ends_as_an_undisturbed_one(steps, fail):
    worker = new_worker()
    workflow = services.create_workflow(
        fields={
            "name": f"Random {Workflow.objects.count()}",
            "steps": steps,
            "variables": {"a": 1, "b": 2, "c": 3},
        }
    )
    undisturbed = run(services.start_execution(workflow=workflow, trigger_data={"fail": -1}), worker)

    disturbed = run(services.start_execution(workflow=workflow, trigger_data={"fail": fail}), worker)
    if disturbed.status == "failed":
        plan = resume.plan(execution=disturbed, trigger_data={"fail": -1}, edit_input=True)
        fresh = resume.resume(execution=disturbed, plan=plan)
        disturbed = run(fresh, worker)

    assert (undisturbed.status, disturbed.status) == ("success", "success")
    assert disturbed.variables == undisturbed.variables
