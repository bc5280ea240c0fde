"""Every write to tasks and their runs, and every refusal."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.execution import queue
from automation_lab.core.execution.tests.helpers import jobs, take, together
from tasks import services
from tasks.models import ScheduledTask, TaskExecution
from tasks.tests.factories import ScheduledTaskFactory, TaskExecutionFactory

pytestmark = pytest.mark.django_db

URL = {"url": "https://api.example.com/report"}


def create(**fields: Any) -> ScheduledTask:
    return services.create_task(fields={"name": "Report", "task_type": "api_call", "config": URL, **fields})


def faults(**fields: Any) -> dict[str, str]:
    """field -> code of everything that is wrong with a task of these fields."""
    with pytest.raises(Invalid) as caught:
        create(**fields)
    assert all(fault["detail"] for fault in caught.value.errors)
    return {fault["field"]: fault["code"] for fault in caught.value.errors}


@pytest.fixture
def task() -> ScheduledTask:
    return create()


# --- create -------------------------------------------------------------------------------------------------------------


def test_the_smallest_task():
    task = create()

    stored = ScheduledTask.objects.get()
    assert stored == task
    assert (stored.enabled, stored.schedule, stored.next_run_at, stored.version) == (True, "", None, 1)
    assert (stored.retry_policy, stored.on_lost_worker, stored.timezone) == ({}, "rerun", "UTC")


def test_a_scheduled_task_knows_its_next_run():
    task = create(schedule="0 9 * * *")

    assert task.next_run_at > clock.database_now()
    assert (task.next_run_at.hour, task.next_run_at.minute) == (9, 0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"task_type": "api_call"}, "rerun"),
        ({"task_type": "webhook"}, "rerun"),
        ({"task_type": "cron", "config": {"job": "tidy"}}, "fail"),
        ({"task_type": "cron", "config": {"job": "tidy"}, "on_lost_worker": "rerun"}, "rerun"),
    ],
)
def test_a_server_job_is_not_run_again_by_itself(job, fields, expected):
    assert create(**fields).on_lost_worker == expected


def test_a_retry_policy_is_stored_in_its_normal_form():
    task = create(retry_policy={"max_retries": 4, "backoff": "linear", "retry_delay": 5})

    assert task.retry_policy["max_attempts"] == 5
    assert task.retry_policy["strategy"] == "linear"
    assert task.retry_policy["delay_seconds"] == 5
    assert "max_retries" not in task.retry_policy


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schedule": "sometimes"}, {"schedule"}),
        ({"schedule": "0 0 31 2 *"}, {"schedule"}),
        ({"timezone": "Europe/Berln"}, {"timezone"}),
        ({"timezone": ""}, {"timezone"}),
        ({"timeout_seconds": 0}, {"timeout_seconds"}),
        ({"timeout_seconds": 86_401}, {"timeout_seconds"}),
        ({"jitter_seconds": 86_401}, {"jitter_seconds"}),
        ({"task_type": "ssh"}, {"task_type"}),
        ({"config": {}}, {"config.url"}),
        ({"config": []}, {"config"}),
        ({"config": {**URL, "verb": "GET"}}, {"config.verb"}),
        ({"config": {**URL, "method": "BREW"}}, {"config.method"}),
        ({"config": {**URL, "timeout_seconds": 301}}, {"config.timeout_seconds"}),
        ({"config": {**URL, "headers": {"X": []}}}, {"config.headers.X"}),
        ({"config": {**URL, "auth": {"type": "magic"}}}, {"config.auth.type"}),
        ({"config": {**URL, "auth": {"type": "basic"}}}, {"config.auth.username"}),
        ({"config": {**URL, "auth": {"type": "bearer", "secret": "x"}}}, {"config.auth.token"}),
        ({"config": {**URL, "auth": {"type": "header", "name": "X-Key"}}}, {"config.auth.value"}),
        ({"config": {**URL, "auth": {"type": "hmac"}}}, {"config.auth.secret"}),
        ({"config": {**URL, "expect_status": "200-299"}}, {"config.expect_status"}),
        ({"config": {**URL, "expect_status": 20}}, {"config.expect_status"}),
        ({"config": {**URL, "expect_status": [200, "4x4"]}}, {"config.expect_status[1]"}),
        ({"config": {**URL, "expect_status": []}}, {"config.expect_status"}),
        ({"task_type": "webhook", "config": {**URL, "expect_status": "ok"}}, {"config.expect_status"}),
        ({"task_type": "webhook", "config": {**URL, "event": "order.paid", "payload": [1]}}, {"config.payload"}),
        ({"config": {"url": "{{ imput.url }}"}}, {"config.url"}),
        ({"config": {**URL, "body": [{"a": "{{ input. }}"}]}}, {"config.body[0].a"}),
        ({"config": {**URL, "extract": {"x": "response.body["}}}, {"config.extract.x"}),
        ({"config": {**URL, "extract": {"x": "input.x"}}}, {"config.extract.x"}),
        ({"config": {**URL, "extract": {"x": 5}}}, {"config.extract.x"}),
        ({"retry_policy": []}, {"retry_policy"}),
        ({"retry_policy": {"max_attempts": 0}}, {"retry_policy.max_attempts"}),
        ({"retry_policy": {"retry_if": "error.code =="}}, {"retry_policy.retry_if"}),
        ({"retry_policy": {"retry_if": "input.a == 1"}}, {"retry_policy.retry_if"}),
        ({"task_type": "webhook", "config": {}}, {"config.url"}),
        ({"task_type": "cron", "config": {}}, {"config"}),
        ({"task_type": "cron", "config": {"job": "tidi"}}, {"config.job"}),
    ],
)
def test_what_is_wrong_with_a_task_is_said_by_field(fields, expected):
    assert set(faults(**fields)) == expected
    assert ScheduledTask.objects.count() == 0


@pytest.mark.parametrize(
    "config",
    [
        {"auth": {"type": "none"}},
        {"auth": {"type": "basic", "username": "u"}},
        {"auth": {"type": "basic", "password": "{{ secrets.TOKEN }}"}},
        {"auth": {"type": "{{ input.how }}"}},
        {"auth": {"type": "bearer", "token": "{{ secrets.TOKEN }}"}},
        {"expect_status": "2XX"},
        {"expect_status": "404"},
        {"expect_status": 204},
        {"expect_status": [200, "3xx", "{{ input.status }}"]},
        {"expect_status": "{{ input.status }}"},
    ],
)
def test_what_an_api_call_may_say(config):
    assert create(config={**URL, **config}).config == {**URL, **config}


def test_all_faults_are_said_at_once():
    found = faults(
        schedule="never",
        timezone="Mars/Base",
        start_at=clock.process_now(),
        end_at=clock.process_now() - timedelta(1),
        timeout_seconds=0,
        config={"url": "{{ x.y }}", "verb": 1},
        retry_policy={"tries": 2},
    )

    assert {*found} == {
        "schedule",
        "timezone",
        "end_at",
        "timeout_seconds",
        "config.url",
        "config.verb",
        "retry_policy.tries",
    }


def test_a_name_is_taken_once(task):
    assert faults() == {"name": "unique"}


def test_a_field_of_the_server_cannot_be_set():
    with pytest.raises(Invalid, match="success_count"):
        create(success_count=5)


@pytest.mark.django_db(transaction=True)
def test_of_two_that_take_the_same_name_at_once_one_gets_it():
    results = together([create, create])

    assert sorted(type(result).__name__ for result in results) == ["Invalid", "ScheduledTask"]
    assert ScheduledTask.objects.count() == 1


# --- update, pause, delete ----------------------------------------------------------------------------------------------


def test_a_change_is_stored_with_a_new_version(task):
    changed = services.update_task(task=task, changes={"name": "Other", "priority": 3})

    stored = ScheduledTask.objects.get()
    assert (stored.name, stored.priority, stored.version) == ("Other", 3, 2)
    assert changed.version == 2


def test_a_change_leaves_counters_alone_that_moved_meanwhile(task):
    ScheduledTask.objects.update(success_count=5, last_output={"a": 1})

    services.update_task(task=task, changes={"description": "Daily."})

    stored = ScheduledTask.objects.get()
    assert (stored.success_count, stored.last_output, stored.description) == (5, {"a": 1}, "Daily.")


def test_a_change_is_judged_together_with_what_is_stored(task):
    with pytest.raises(Invalid) as caught:
        services.update_task(task=task, changes={"task_type": "cron"})

    assert {fault["field"] for fault in caught.value.errors} >= {"config.url"}
    assert ScheduledTask.objects.get().task_type == "api_call"


def test_a_new_name_must_be_free(task):
    other = create(name="Other")

    with pytest.raises(Invalid, match="exists already"):
        services.update_task(task=other, changes={"name": task.name})


def test_pausing_and_resuming(task):
    services.update_task(task=task, changes={"schedule": "0 9 * * *"})

    paused = services.pause_task(task=task, note="Audit.")
    resumed = services.resume_task(task=task)

    assert (paused.enabled, paused.pause_note, paused.next_run_at) == (False, "Audit.", None)
    assert (resumed.enabled, resumed.pause_note) == (True, "")
    assert resumed.next_run_at > clock.database_now()


@pytest.mark.parametrize(
    "changes",
    [
        {"notify": {"failure": ["gone"]}},
        {"timezone": "US/Pacific-New"},
        {"config": {"job": "gone"}, "task_type": "cron"},
    ],
)
def test_a_task_can_be_paused_whatever_has_become_of_what_it_names(task, changes):
    ScheduledTask.objects.filter(pk=task.pk).update(**changes)

    assert services.pause_task(task=task, note="Broken.").enabled is False
    with pytest.raises(Invalid):
        services.resume_task(task=task)


def test_a_task_goes_with_its_history(task):
    TaskExecutionFactory(task=task, status="success")

    services.delete_task(task=task)

    assert (ScheduledTask.objects.count(), TaskExecution.objects.count()) == (0, 0)


@pytest.mark.parametrize("state", [{"status": "pending"}, {"status": "running"}, {"status": "running", "worker": 4}])
def test_a_task_with_a_run_going_on_is_not_deleted(task, state):
    TaskExecutionFactory(task=task, **state)

    with pytest.raises(Conflict, match="cancel them first"):
        services.delete_task(task=task)

    assert ScheduledTask.objects.count() == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda task: services.update_task(task=task, changes={"name": "x"}),
        lambda task: services.pause_task(task=task),
        lambda task: services.resume_task(task=task),
        lambda task: services.delete_task(task=task),
        lambda task: services.start_execution(task=task),
    ],
    ids=["update", "pause", "resume", "delete", "start"],
)
def test_an_archived_task_stays_as_it_is(change):
    task = ScheduledTaskFactory(archived_at=clock.database_now())

    with pytest.raises(Conflict, match="archived"):
        change(task)


# --- runs ---------------------------------------------------------------------------------------------------------------


def test_a_run_is_recorded_and_queued(task):
    task = services.update_task(task=task, changes={"priority": 4})

    execution = services.start_execution(task=task, trigger="api", input_data={"a": 1})

    stored = TaskExecution.objects.get()
    [job] = jobs()
    assert stored == execution
    assert (stored.status, stored.trigger, stored.input_data, stored.priority) == ("pending", "api", {"a": 1}, 4)
    assert stored.due_at <= clock.database_now()
    assert (job["id"], job["priority"]) == (stored.job_id, 4)


def test_a_paused_task_can_be_run_by_hand(task):
    task = services.pause_task(task=task)

    assert services.start_execution(task=task).status == "pending"


def test_the_same_key_gives_the_same_run(task):
    first = services.start_execution(task=task, idempotency_key="k", input_data={"a": 1, "b": 2})

    again = services.start_execution(task=task, idempotency_key="k", input_data={"b": 2, "a": 1})

    assert (again.pk, len(jobs())) == (first.pk, 1)


def test_the_hash_of_a_request_stays_what_stored_rows_have(task):
    run = services.start_execution(task=task, idempotency_key="k", input_data={"b": 2, "a": [1, "ü"]})

    assert run.request_hash == hashlib.sha256('{"a":[1,"ü"],"b":2}'.encode()).hexdigest()
    assert services.start_execution(task=task).request_hash == ""


def test_the_same_key_with_other_input_is_a_conflict(task):
    services.start_execution(task=task, idempotency_key="k", input_data={"a": 1})

    with pytest.raises(Conflict, match="take a new key"):
        services.start_execution(task=task, idempotency_key="k", input_data={"a": 2})


def test_a_key_belongs_to_its_task(task):
    first = services.start_execution(task=task, idempotency_key="k")

    other = services.start_execution(task=create(name="Other"), idempotency_key="k")

    assert other.pk != first.pk


def test_without_key_every_start_is_a_run(task):
    runs = {services.start_execution(task=task).pk for _ in range(3)}

    assert len(runs) == 3


@pytest.mark.django_db(transaction=True)
def test_racing_starts_with_one_key_make_one_run(task):
    results = together([lambda: services.start_execution(task=task, idempotency_key="k")] * 6)

    assert {result.pk for result in results} == {TaskExecution.objects.get().pk}
    assert len(jobs()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_start_and_a_deletion_at_once_never_leave_a_run_without_its_task():
    for number in range(10):
        task = create(name=f"task {number}")
        together(
            [
                lambda task=task: services.start_execution(task=task),
                lambda task=task: services.delete_task(task=task),
            ]
        )

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM task_executions e LEFT JOIN scheduled_tasks t ON t.id = e.task_id WHERE t.id IS NULL"
        )
        assert cursor.fetchone()[0] == 0
    assert ScheduledTask.objects.count() == TaskExecution.objects.count()


def test_a_pending_run_is_cancelled_at_once(task):
    execution = services.start_execution(task=task)

    assert services.cancel_execution(execution=execution).status == "cancelled"
    task.refresh_from_db()
    assert task.failure_count == 0


def test_a_finished_run_cannot_be_cancelled(task):
    execution = TaskExecutionFactory(task=task, status="success")

    with pytest.raises(Conflict, match="finished already"):
        services.cancel_execution(execution=execution)


@pytest.mark.parametrize("status", ["success", "failed", "cancelled", "timeout", "skipped", "missed"])
def test_a_finished_run_can_be_retried_as_a_new_one(task, status):
    first = TaskExecutionFactory(task=task, status=status, input_data={"a": 1}, idempotency_key="k")

    again = services.retry_execution(execution=first)

    assert again.pk != first.pk
    assert (again.retry_of, again.trigger, again.input_data, again.status) == (first, "retry", {"a": 1}, "pending")
    assert again.idempotency_key == ""
    assert again.effect_key() != first.effect_key()


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_run_that_is_going_on_cannot_be_retried(task, status):
    with pytest.raises(Conflict, match=status):
        services.retry_execution(execution=TaskExecutionFactory(task=task, status=status))


def test_an_effect_has_the_same_key_over_the_attempts_of_a_run_and_another_for_another_part(task):
    execution = services.start_execution(task=task)
    claim = take(execution)
    queue.park(claim, due_at=clock.database_now(), now=clock.database_now(), status="pending")

    stored = TaskExecution.objects.get()

    assert stored.effect_key() == execution.effect_key()
    assert stored.effect_key("a") != stored.effect_key("b") != stored.effect_key()


def test_a_misfire_limit_beyond_one_round_is_refused():
    with pytest.raises(Invalid) as caught:
        create(misfire_limit=1001)

    assert [error["field"] for error in caught.value.errors] == ["misfire_limit"]
