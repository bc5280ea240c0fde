from __future__ import annotations

from datetime import timedelta

import pytest
from procrastinate.contrib.django import app
from pytest_django import Settings

from apilogs import jobs
from apilogs.models import ApiLog, ApiLogHour
from apilogs.tests.factories import ApiLogFactory
from automation_lab.core import clock, pruning

pytestmark = pytest.mark.django_db


def test_the_worker_rolls_up_every_minute_and_one_job_prunes_every_night() -> None:
    periodic = {task.task.name: task.cron for task in app.periodic_registry.periodic_tasks.values()}

    assert periodic["apilogs.roll_up"] == "* * * * *"
    assert {name: cron for name, cron in periodic.items() if "prune" in name} == {"automation_lab.prune": "47 3 * * *"}


def test_a_minute_brings_the_figures_up_to_date() -> None:
    ApiLogFactory(created_at=clock.database_now())

    jobs.roll_up(timestamp=0)

    assert ApiLogHour.objects.get().count == 1


def test_pruning_counts_late_rows_before_it_deletes_old_ones(settings: Settings) -> None:
    settings.RETENTION_API_LOGS_DAYS = 1
    now = clock.database_now()
    ApiLogFactory(created_at=now)
    jobs.roll_up(timestamp=0)
    ApiLogFactory(created_at=now - timedelta(hours=40))  # a segment of the spool came late

    pruning.prune(now=now)

    assert ApiLog.objects.count() == 1
    assert ApiLogHour.objects.count() == 2
