"""Schedules, concurrency rules and input mappings of workflows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from automation_lab.core import clock
from automation_lab.core.exceptions import Invalid
from workflows import services
from workflows.models import Workflow, WorkflowExecution
from workflows.triggering import ticking

pytestmark = pytest.mark.django_db

STEPS = [{"type": "set", "id": "a", "config": {"values": {"x": 1}}}]


def workflow_of(**fields: Any) -> Workflow:
    return services.create_workflow(fields={"name": "Started", "steps": STEPS, **fields})


def scheduled(schedule: str = "every 1 minute", **config: Any) -> Workflow:
    return workflow_of(trigger_type="schedule", trigger_config={"schedule": schedule, **config})


def runs(workflow: Workflow) -> list[WorkflowExecution]:
    return list(workflow.executions.order_by("id"))


def test_a_slot_that_is_due_starts_one_run():
    workflow = scheduled(data={"kind": "nightly"})
    slot = workflow.next_run_at

    ticking.tick(slot)
    ticking.tick(slot)

    (run,) = runs(workflow)
    assert run.trigger_source == "schedule"
    assert run.trigger_data == {"scheduled_for": slot.isoformat(), "kind": "nightly"}
    assert Workflow.objects.get(pk=workflow.pk).next_run_at == slot + timedelta(minutes=1)


def test_missed_slots_are_one_row_with_their_count():
    workflow = scheduled(misfire="skip", grace_seconds=0)
    slot = workflow.next_run_at

    ticking.tick(slot + timedelta(minutes=4, seconds=30))

    (row,) = runs(workflow)
    assert (row.status, row.error_message.split(" from ")[0]) == ("cancelled", "Missed: 5 slots")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "trigger_config.schedule"),
        ({"schedule": "0 0 31 2 *"}, "trigger_config.schedule"),
        ({"schedule": "@daily", "timezone": "Europe/Berlim"}, "trigger_config.timezone"),
        ({"schedule": "@daily", "colour": "red"}, "trigger_config.colour"),
        ({"schedule": "@daily", "input": {"x": "{{ nothing }}"}}, "trigger_config.input.x"),
    ],
)
def test_a_wrong_schedule_is_refused_with_its_field(config, field):
    with pytest.raises(Invalid) as caught:
        workflow_of(trigger_type="schedule", trigger_config=config)

    assert [error["field"] for error in caught.value.errors] == [field]


@pytest.mark.parametrize("name", ["filter", "input", "dedupe"])
@pytest.mark.parametrize("value", [5, None, [1]], ids=str)
def test_a_trigger_by_hand_has_settings_of_the_right_type(name, value):
    with pytest.raises(Invalid) as caught:
        workflow_of(trigger_config={name: value})

    assert [error["field"] for error in caught.value.errors] == [f"trigger_config.{name}"]


def test_a_trigger_by_hand_keeps_what_another_type_has_left():
    config = {"source": "github", "event_type": "push"}

    assert workflow_of(trigger_config=config).trigger_config == config


def test_a_workflow_that_is_switched_off_has_no_next_run():
    workflow = scheduled()

    workflow = services.update_workflow(workflow=workflow, changes={"enabled": False})

    assert workflow.next_run_at is None


def test_an_edit_at_the_instant_of_a_slot_keeps_the_slot():
    workflow = scheduled()
    Workflow.objects.filter(pk=workflow.pk).update(next_run_at=clock.database_now() - timedelta(milliseconds=1))

    services.update_workflow(workflow=workflow, changes={"trigger_config": {"schedule": "@daily"}})

    assert len(runs(workflow)) == 1


def test_skip_leaves_a_row_with_the_reason():
    workflow = workflow_of(concurrency="skip")

    first = services.start_execution(workflow=workflow)
    second = services.start_execution(workflow=workflow)

    assert (first.status, second.status) == ("pending", "cancelled")
    assert second.error_message == f"Skipped: run {first.pk} is still going on."


def test_cancel_previous_ends_the_run_before():
    workflow = workflow_of(concurrency="cancel_previous")

    first = services.start_execution(workflow=workflow)
    second = services.start_execution(workflow=workflow)

    first.refresh_from_db()
    assert (first.status, second.status) == ("cancelled", "pending")


def test_queue_shares_a_limit_of_one():
    workflow = workflow_of(concurrency="queue")

    execution = services.start_execution(workflow=workflow)

    assert (execution.concurrency_keys, execution.concurrency_limits) == ([f"workflow:{workflow.pk}"], [1])


def test_an_input_mapping_fills_variables():
    workflow = workflow_of(
        trigger_type="event", trigger_config={"event": "x", "input": {"n": "{{ trigger.data.n + 1 }}"}}
    )

    execution = services.start_execution(workflow=workflow, trigger_data={"n": 1})

    assert execution.variables == {"n": 2}


def test_an_input_mapping_that_fails_leaves_a_failed_run():
    workflow = workflow_of(trigger_type="event", trigger_config={"event": "x", "input": {"n": "{{ trigger.data.n }}"}})

    execution = services.start_execution(workflow=workflow, trigger_data={})

    assert execution.status == "failed"
    assert "input mapping" in execution.error_message


def test_an_input_mapping_that_gives_too_much_leaves_a_failed_run():
    workflow = workflow_of(trigger_type="event", trigger_config={"event": "x", "input": {"n": "{{ trigger.data.n }}"}})

    execution = services.start_execution(workflow=workflow, trigger_data={"n": "x" * 300_000})

    assert (execution.status, execution.variables) == ("failed", {})
    assert execution.error_message.startswith("The input mapping failed: it gives more than 256 kB")


@pytest.mark.parametrize(
    ("trigger_type", "trigger_config"),
    [("webhook", {}), ("webhook", {"source": "shop", "event_type": []}), ("event", {}), ("event", {"event": ""})],
    ids=str,
)
def test_a_trigger_that_matches_nothing_is_warned_about(trigger_type, trigger_config):
    workflow = workflow_of(trigger_type=trigger_type, trigger_config=trigger_config)

    [warning] = services.warnings(workflow)

    assert (warning["path"], warning["detail"].split(":")[0].split()[0]) == ("trigger_config", "Matches")


def test_a_one_off_runs_once_and_has_no_next_slot():
    instant = datetime(2099, 1, 1, tzinfo=UTC)
    workflow = scheduled(instant.isoformat())

    ticking.tick(instant)

    assert len(runs(workflow)) == 1
    assert Workflow.objects.get(pk=workflow.pk).next_run_at is None


def test_triggers_with_one_dedupe_key_start_one_run_and_leave_the_reason():
    workflow = workflow_of(trigger_type="event", trigger_config={"event": "x", "dedupe": "{{ trigger.data.order }}"})

    first = services.start_execution(workflow=workflow, trigger_data={"order": 1})
    second = services.start_execution(workflow=workflow, trigger_data={"order": 1})
    other = services.start_execution(workflow=workflow, trigger_data={"order": 2})

    assert (first.status, second.status, other.status) == ("pending", "cancelled", "pending")
    assert second.error_message == f"Skipped: run {first.pk} has the same dedupe key."


def test_a_dedupe_key_that_cannot_be_told_leaves_a_failed_run():
    workflow = workflow_of(trigger_type="event", trigger_config={"event": "x", "dedupe": "{{ trigger.data.order }}"})

    execution = services.start_execution(workflow=workflow, trigger_data={})

    assert (execution.status, execution.error_message.split(":")[0]) == ("failed", "The dedupe key failed")


@pytest.mark.django_db(transaction=True)
def test_of_triggers_that_race_with_one_dedupe_key_one_starts():
    workflow = workflow_of(trigger_type="event", trigger_config={"event": "x", "dedupe": "{{ trigger.data.order }}"})

    def start(_: int) -> str:
        try:
            return services.start_execution(workflow=workflow, trigger_data={"order": 1}).status
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(start, range(6)))

    assert sorted(statuses) == ["cancelled"] * 5 + ["pending"]
