"""The ticker of workflows: one that cannot be planned stops no other, and nobody spins for one that is held."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from automation_lab.core.execution.tests.helpers import together
from tasks.models import Notification
from tasks.notifying import channels
from workflows import services
from workflows.models import Workflow
from workflows.signals import execution_finished
from workflows.triggering import ticking

pytestmark = pytest.mark.django_db

NOON = datetime(2099, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
STEPS = [{"type": "set", "id": "a", "config": {"values": {"x": 1}}}]


def due(name: str = "Due", schedule: str = "* * * * *", notify: Any = None, **config: Any) -> Workflow:
    """A workflow that is due at NOON."""
    workflow = services.create_workflow(
        fields={
            "name": name,
            "steps": STEPS,
            "trigger_type": "schedule",
            "trigger_config": {"schedule": schedule, **config},
            "notify": notify or {},
        }
    )
    Workflow.objects.filter(pk=workflow.pk).update(next_run_at=NOON)
    return workflow


def broken(config: dict[str, Any], **fields: Any) -> Workflow:
    """One that was saved when its schedule could still be evaluated."""
    workflow = due("Broken", **fields)
    Workflow.objects.filter(pk=workflow.pk).update(trigger_config={**workflow.trigger_config, **config})
    return workflow


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"timezone": "Mars/Base"}, "Mars/Base"),
        ({"schedule": "0 0 30 2 *"}, "never fires"),
        ({"misfire": "unheard"}, "unheard"),
    ],
)
def test_a_schedule_that_cannot_be_evaluated_is_set_aside_with_its_error_and_stops_no_other(config, reason):
    workflow, fine = broken(config), due("Fine")

    ticking.tick(NOON)
    ticking.tick(NOON + MINUTE)

    workflow.refresh_from_db()
    assert workflow.next_run_at is None
    assert workflow.schedule_error.startswith("The schedule cannot be evaluated: ")
    assert reason in workflow.schedule_error
    assert workflow.executions.count() == 0
    assert fine.executions.count() == 2


def test_a_workflow_that_is_set_aside_is_told_to_its_channels():
    channels.create_channel(name="ops", kind="email", target="ops@example.com")
    workflow = broken({"timezone": "Mars/Base"}, notify={"paused": ["ops"]})

    ticking.tick(NOON)

    told = Notification.objects.get()
    assert (told.event, told.title) == ("paused", "Workflow Broken is paused")
    assert "Mars/Base" in told.text
    assert told.url.endswith(f"/admin/workflows/workflow/{workflow.pk}/change/")


def test_an_edit_takes_up_a_workflow_that_was_set_aside():
    workflow = broken({"timezone": "Mars/Base"})
    ticking.tick(NOON)

    services.update_workflow(workflow=workflow, changes={"trigger_config": {"schedule": "* * * * *"}})

    workflow.refresh_from_db()
    assert (workflow.schedule_error, workflow.next_run_at is None) == ("", False)


def test_missed_slots_are_announced_as_the_end_of_a_run():
    workflow = due(misfire="skip", grace_seconds=0)
    ended = []

    def note(sender: Any, execution: Any, **values: Any) -> None:
        ended.append((execution.workflow_id, values["status"]))

    execution_finished.connect(note)
    try:
        ticking.tick(NOON + 5 * MINUTE)
    finally:
        execution_finished.disconnect(note)

    assert ended == [(workflow.pk, "cancelled")]


def test_more_than_one_batch_is_recorded_in_one_tick(monkeypatch):
    monkeypatch.setattr(ticking, "BATCH", 3)
    workflows = [due(f"workflow {number}") for number in range(7)]

    ticking.tick(NOON)

    assert [workflow.executions.count() for workflow in workflows] == [1] * 7


def test_schedules_move_on_in_one_plain_statement():
    for number in range(3):
        due(f"workflow {number}")

    with CaptureQueriesContext(connection) as asked:
        ticking.tick(NOON)

    moved = [query["sql"] for query in asked if query["sql"].split()[0] == "UPDATE" and "next_run_at" in query["sql"]]
    assert len(moved) == 1
    assert "CASE" not in moved[0]


@pytest.mark.django_db(transaction=True)
def test_a_workflow_that_somebody_else_holds_is_looked_at_again_soon():
    workflow = due()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Workflow.objects.select_for_update().get(pk=workflow.pk)
            held.set()
            release.wait(10)

    def look() -> datetime | None:
        held.wait(10)
        try:
            return ticking.tick(NOON)
        finally:
            release.set()

    _, again_at = together([hold, look])

    assert workflow.executions.count() == 0
    assert NOON < again_at <= NOON + SECOND
