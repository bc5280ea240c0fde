"""The latest runs of tasks, as the list shows them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.console import history
from tasks.models import TaskExecution
from tasks.tests.factories import ScheduledTaskFactory, TaskExecutionFactory

pytestmark = pytest.mark.django_db


def make_runs(task, durations, **fields):
    TaskExecution.objects.bulk_create(
        TaskExecutionFactory.build(task=task, status="success", duration_ms=duration, **fields)
        for duration in durations
    )


def test_the_latest_20_runs_come_oldest_first():
    task = ScheduledTaskFactory()
    make_runs(task, range(1, 31))

    found = history.recent([task.pk])[task.pk]

    assert [run.duration_ms for run in found.runs] == list(range(11, 31))


def test_p95_is_of_the_last_100_runs_that_took_time():
    task = ScheduledTaskFactory()
    make_runs(task, [900_000] * 50)
    make_runs(task, range(1, 100))
    make_runs(task, [None])

    assert history.recent([task.pk])[task.pk].p95_ms == 95


def test_a_run_tells_its_slot_and_the_slots_that_it_stands_for():
    slot = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    run = TaskExecutionFactory(status="missed", scheduled_for=slot, count=4, error_message="x" * 500)

    (found,) = history.recent([run.task_id])[run.task_id].runs

    assert (found.pk, found.status, found.at, found.count, len(found.error)) == (run.pk, "missed", slot, 4, 160)


def test_many_tasks_cost_one_query(django_assert_num_queries):
    tasks = ScheduledTaskFactory.create_batch(3)
    make_runs(tasks[0], [5])

    with django_assert_num_queries(1):
        found = history.recent([task.pk for task in tasks])

    assert [len(found[task.pk].runs) for task in tasks] == [1, 0, 0]
    assert found[tasks[1].pk] == history.History()


def test_no_tasks_cost_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert history.recent([]) == {}
