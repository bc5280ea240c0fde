from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from apilogs import histogram, services
from apilogs.models import ApiLog, ApiLogDrop, ApiLogHour
from apilogs.tests.factories import ApiLogFactory
from automation_lab.core import pruning
from automation_lab.core.execution.tests.helpers import together

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 10, 1, 12, 34, 56, tzinfo=UTC)
HOUR = timedelta(hours=1)


def figures() -> dict[tuple[datetime, str, int], tuple[int, float, float]]:
    return {
        (row.hour, row.route, row.status_class): (row.count, row.duration_ms_sum, row.duration_ms_max)
        for row in ApiLogHour.objects.all()
    }


def test_hours_are_counted_by_route_and_status_class() -> None:
    ApiLogFactory(created_at=NOW, duration_ms=2)
    ApiLogFactory(created_at=NOW.replace(minute=0, second=0), duration_ms=4)
    ApiLogFactory(created_at=NOW, status_code=404, duration_ms=1)
    ApiLogFactory(created_at=NOW - HOUR, route="/v1/workflows", duration_ms=8)

    services.roll_up(NOW)

    hour = NOW.replace(minute=0, second=0)
    assert figures() == {
        (hour, "/v1/tasks", 2): (2, 6.0, 4.0),
        (hour, "/v1/tasks", 4): (1, 1.0, 1.0),
        (hour - HOUR, "/v1/workflows", 2): (1, 8.0, 8.0),
    }


def test_the_histogram_counts_as_python_does() -> None:
    durations = [0.0, 0.05, 0.1, 0.11, 1, 1.5, 7.3, 99.9, 12_345.6, 10**7]
    for duration in durations:
        ApiLogFactory(created_at=NOW, duration_ms=duration)

    services.roll_up(NOW)

    expected = [0] * histogram.BUCKETS
    for duration in durations:
        expected[histogram.bucket_of(duration)] += 1
    assert ApiLogHour.objects.get().histogram == expected


def test_rolling_up_again_gives_the_same_and_takes_in_what_came_since() -> None:
    ApiLogFactory(created_at=NOW - timedelta(minutes=1))
    services.roll_up(NOW)
    services.roll_up(NOW)
    assert [count for count, *_ in figures().values()] == [1]

    ApiLogFactory(created_at=NOW)
    services.roll_up(NOW + timedelta(minutes=1))

    assert [count for count, *_ in figures().values()] == [2]


def test_hours_missed_while_no_worker_ran_are_caught_up() -> None:
    ApiLogFactory(created_at=NOW - 30 * HOUR)
    services.roll_up(NOW - 30 * HOUR)
    ApiLogFactory(created_at=NOW - 20 * HOUR)
    ApiLogFactory(created_at=NOW - 5 * HOUR)

    services.roll_up(NOW)

    assert ApiLogHour.objects.count() == 3


def test_the_first_roll_up_begins_with_the_oldest_row() -> None:
    ApiLogFactory(created_at=NOW - timedelta(days=9))

    services.roll_up(NOW)

    assert ApiLogHour.objects.get().hour == services.floor_hour(NOW - timedelta(days=9))


def test_figures_outlive_the_rows_they_were_counted_from() -> None:
    ApiLogFactory(created_at=NOW - timedelta(days=20))
    services.roll_up(NOW)

    services.prune(NOW, days=14)
    services.roll_up(NOW, since=NOW - timedelta(days=30))

    assert [count for count, *_ in figures().values()] == [1]


@pytest.mark.parametrize(("batch", "statements"), [(5000, 1), (2, 3)])
def test_old_rows_are_deleted_in_batches(batch: int, statements: int) -> None:
    old = [ApiLogFactory(created_at=NOW - timedelta(days=15)) for _ in range(5)]
    young = ApiLogFactory(created_at=NOW - timedelta(days=13))

    with CaptureQueriesContext(connection) as asked:
        assert services.prune(NOW, days=14, batch=batch) == len(old)

    assert list(ApiLog.objects.all()) == [young]
    assert len([query for query in asked if query["sql"].startswith("DELETE")]) == statements


def test_pruning_ends_at_a_full_hour() -> None:
    ApiLogFactory(created_at=NOW - timedelta(days=1, minutes=10))

    assert services.prune(NOW, days=1) == 0


def test_a_dry_run_only_counts() -> None:
    ApiLogFactory(created_at=NOW - timedelta(days=15))

    assert services.prune(NOW, days=14, dry_run=True) == 1
    assert ApiLog.objects.count() == 1


def test_zero_days_keep_everything() -> None:
    ApiLogFactory(created_at=NOW - timedelta(days=1000))

    assert services.prune(NOW, days=0) == 0


def test_hours_and_drops_have_a_retention_of_their_own() -> None:
    ApiLogHour.objects.create(hour=NOW - timedelta(days=400), status_class=2)
    ApiLogHour.objects.create(hour=NOW - timedelta(days=300), status_class=2)
    ApiLogDrop.objects.create(at=NOW - timedelta(days=400), count=1, process="p", reason="r")

    assert services.prune_hours(NOW, days=365) == 2
    assert ApiLogHour.objects.count() == 1


def test_the_settings_say_what_is_old(settings) -> None:
    settings.RETENTION_API_LOGS_DAYS = 1
    settings.RETENTION_API_LOG_HOURS_DAYS = 0
    ApiLogFactory(created_at=NOW - timedelta(days=2))
    ApiLogHour.objects.create(hour=NOW - timedelta(days=2), status_class=2)

    assert pruning.prune(now=NOW, only=["api_logs", "api_log_hours"]) == {"api_logs": 1, "api_log_hours": 0}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", [lambda: services.roll_up(NOW), lambda: services.prune(NOW, days=14)])
def test_nobody_counts_while_another_process_deletes(write: Callable[[], int]) -> None:
    """Two passes at once: the second waits until the first has ended."""
    ApiLogFactory(created_at=NOW - timedelta(days=15))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with services.figures_lock():
            held.set()
            release.wait(10)

    def hasten() -> None:
        held.wait(10)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '100ms'")
                write()
        finally:
            release.set()

    _, result = together([hold, hasten])

    assert isinstance(result, OperationalError)
    assert ApiLog.objects.count() == 1
