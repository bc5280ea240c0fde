"""What tasks and secrets have to do with workflows."""

from __future__ import annotations

from typing import Any

import pytest

from automation_lab.core.execution import runner
from automation_lab.core.execution.tests.helpers import KIND, add_worker
from tasks import services as tasks
from tasks.models import NotificationChannel, Secret, TaskExecution
from tasks.notifying import channels
from tasks.tests.factories import ScheduledTaskFactory, SecretFactory
from workflows import services as workflows

pytestmark = pytest.mark.django_db

# --- who uses a secret ------------------------------------------------------------------------------------------------


@pytest.fixture
def used(db) -> Secret:
    """A secret that a task, a workflow and a channel name."""
    secret = SecretFactory(name="TOKEN")
    SecretFactory(name="TOKEN_2")
    auth = {"type": "bearer", "token": "{{ secrets.TOKEN }}"}
    ScheduledTaskFactory(name="report", config={"url": "https://a.example", "auth": auth})
    ScheduledTaskFactory(name="other", config={"url": "https://a.example/?{{ secrets.TOKEN_2 }}"})
    step = {"type": "api_call", "config": {"url": "https://a.example", "headers": {"X": '{{ secrets["TOKEN"] }}'}}}
    workflows.create_workflow(fields={"name": "orders", "trigger_type": "manual", "steps": [step]})
    channels.create_channel(name="hook", kind="webhook", target="https://a.example/hook", secret=secret)
    return secret


def test_a_secret_knows_what_names_it(api, used):
    answer = api.get(f"/v1/secrets/{used.pk}").json()

    assert [(user["kind"], user["name"]) for user in answer["used_by"]] == [
        ("task", "report"),
        ("channel", "hook"),
        ("workflow", "orders"),
    ]
    assert "used_by" not in api.get("/v1/secrets").json()["results"][0]


def test_a_secret_in_use_is_not_deleted(api, used):
    answer = api.delete(f"/v1/secrets/{used.pk}")

    assert answer.status_code == 409
    assert "task report, channel hook, workflow orders" in answer.json()["detail"]
    assert Secret.objects.filter(pk=used.pk).exists()


def test_a_secret_in_use_is_deleted_with_force_unless_a_channel_signs_with_it(api, used):
    kept = api.delete(f"/v1/secrets/{used.pk}?force=true")
    NotificationChannel.objects.all().delete()
    gone = api.delete(f"/v1/secrets/{used.pk}?force=true")

    assert (kept.status_code, gone.status_code) == (409, 204)


def test_force_is_true_or_false(api, used):
    assert api.delete(f"/v1/secrets/{used.pk}?force=yes").status_code == 400


def test_a_secret_that_nothing_names_is_deleted(api):
    assert api.delete(f"/v1/secrets/{SecretFactory().pk}").status_code == 204


# --- a task that starts a workflow ------------------------------------------------------------------------------------


def run_job(config: dict[str, Any]) -> TaskExecution:
    task = tasks.create_task(fields={"name": "job", "task_type": "cron", "config": config})
    execution = tasks.start_execution(task=task)
    runner.run(KIND, execution.pk, worker=add_worker())
    execution.refresh_from_db()
    return execution


def test_a_task_can_start_a_workflow(db):
    step = {"type": "set", "config": {"values": {"a": 1}}}
    workflow = workflows.create_workflow(fields={"name": "orders", "trigger_type": "manual", "steps": [step]})

    run = run_job({"job": "start_workflow", "arguments": {"workflow": "orders", "data": {"n": 5}}})

    started = workflow.executions.get()
    assert (run.status, run.output_data) == ("success", {"workflow": "orders", "execution_id": started.pk})
    assert started.trigger_data == {"n": 5}


def test_a_task_that_starts_an_unknown_workflow_fails(db):
    run = run_job({"job": "start_workflow", "arguments": {"workflow": "unheard"}})

    assert (run.status, "There is no workflow named 'unheard'" in run.error_message) == ("failed", True)
