"""Events of our own, from steps and over the API."""

from __future__ import annotations

import pytest

from automation_lab.core.exceptions import Conflict, Invalid
from workflows import resume, services
from workflows.models import WorkflowExecution
from workflows.tests.helpers import error_of, output_of
from workflows.triggering import events

pytestmark = pytest.mark.django_db


def setting(step_id, /, **values):
    return {"id": step_id, "type": "set", "config": {"values": values}}


@pytest.fixture
def listener(db):
    def make(name="listener", *, steps=(), enabled=True, **config):
        fields = {
            "name": name,
            "steps": [*steps],
            "enabled": enabled,
            "trigger_type": "event",
            "trigger_config": config,
        }
        return services.create_workflow(fields=fields)

    return make


def emit(event="order.paid", payload=None, **values):
    return events.emit(event=event, payload=payload, **values).executions


def test_an_event_starts_the_workflows_that_name_it(listener):
    one, several = listener("one", event="order.paid"), listener("several", event=["order.paid", "order.lost"])
    listener("other", event="order.lost")
    listener("off", event="order.paid", enabled=False)
    listener("silent")

    started = emit(payload={"id": 7})

    assert [run.workflow for run in started] == [one, several]
    run = WorkflowExecution.objects.get(workflow=one)
    assert (run.trigger_source, run.trigger_data, run.event_type, run.status) == (
        "event",
        {"id": 7},
        "order.paid",
        "pending",
    )


def test_the_run_sees_the_event(listener, drive):
    see = setting("a", name="{{ trigger.event_type }}", id="{{ trigger.id }}", n="{{ trigger.data.n }}")
    listener(event="order.paid", steps=[see])

    [run] = emit(payload={"n": 1}, event_id="evt_7")

    assert drive(run).variables == {"name": "order.paid", "id": "evt_7", "n": 1}


def test_a_resumed_run_sees_the_same_event(listener, drive):
    fail = {"id": "f", "type": "fail", "config": {"message": "{{ trigger.id }} {{ trigger.event_type }}"}}
    listener(event="order.paid", steps=[fail])
    [run] = emit(payload={"n": 1}, event_id="evt_7")

    run = drive(run)
    for _ in range(2):
        run = drive(resume.resume(execution=run, plan=resume.plan(execution=run)))

    assert error_of(run, "f")["message"] == "evt_7 order.paid"


def test_a_filter_judges_the_event(listener):
    listener(event="order.paid", filter="trigger.data.total > 10 and trigger.type == 'order.paid'")

    assert emit(payload={"total": 5}) == []
    assert len(emit(payload={"total": 50})) == 1


def test_a_filter_that_fails_leaves_a_failed_run_and_stops_no_other(listener):
    listener("bad", event="order.paid", filter="trigger.data.total > 10")
    listener("good", event="order.paid")

    bad, good = emit(payload={})

    assert bad.status == "failed"
    assert bad.error_message.startswith("The filter failed: `trigger.data.total`")
    assert good.status == "pending"


def test_the_same_event_starts_a_workflow_once(listener):
    listener(event="order.paid")

    assert emit(payload=1, event_id="evt_1") == emit(payload=1, event_id="evt_1")
    with pytest.raises(Conflict):
        emit(payload=2, event_id="evt_1")
    assert WorkflowExecution.objects.count() == 1
    emit(payload=1)
    emit(payload=1)
    assert WorkflowExecution.objects.count() == 3


def test_a_step_emits_an_event(run_workflow, listener):
    listener(event="order.paid")
    step = {
        "id": "tell",
        "type": "emit_event",
        "config": {"event": "order.paid", "payload": {"n": "{{ trigger.data }}"}},
    }

    run = run_workflow([step], trigger_data=7)

    started = WorkflowExecution.objects.get(event_type="order.paid")
    assert (started.trigger_data, started.depth) == ({"n": 7}, 1)
    assert output_of(run, "tell") == {"event_id": f"evt_{run.steps.get().idempotency_key}", "executions": [started.pk]}


def test_a_circle_of_events_ends_after_ten_hops(listener, drive):
    listener(event="ping", steps=[{"id": "tell", "type": "emit_event", "config": {"event": "ping"}}])
    emit("ping")

    while (run := WorkflowExecution.objects.filter(status="pending").first()) is not None:
        drive(run)

    assert list(WorkflowExecution.objects.order_by("id").values_list("depth", flat=True)) == list(range(10))
    last = WorkflowExecution.objects.latest("id")
    assert error_of(last, "tell")["code"] == "limit.depth"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"event": 7}, "trigger_config.event"),
        ({"evnt": "x"}, "trigger_config.evnt"),
        ({"event": "x", "filter": "1 +"}, "trigger_config.filter"),
        ({"event": "x", "filter": "vars.x == 1"}, "trigger_config.filter"),
    ],
    ids=str,
)
def test_a_trigger_that_cannot_work_is_refused(listener, config, field):
    with pytest.raises(Invalid) as caught:
        listener(**config)

    assert [fault["field"] for fault in caught.value.errors] == [field]
