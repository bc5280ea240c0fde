from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from apilogs import storage, writer
from apilogs.models import ApiLog, ApiLogDrop
from apilogs.rows import Entry
from apilogs.tests.factories import make_entry
from apilogs.writer import LogWriter

TERMINATE_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log_writer() -> Iterator[LogWriter]:
    log_writer = LogWriter(spool_directory=None, max_rows=20)
    yield log_writer
    log_writer.close()


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def table_away() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE api_logs RENAME TO api_logs_gone")
        yield
        cursor.execute("ALTER TABLE api_logs_gone RENAME TO api_logs")


def entries(count: int, **changes: object) -> list[Entry]:
    return [make_entry(correlation_id=f"row-{number}", **changes) for number in range(count)]


def test_rows_are_stored_soon_without_being_asked(log_writer: LogWriter) -> None:
    log_writer.put(make_entry())

    wait_until(ApiLog.objects.exists)


def test_closing_stores_what_waits(log_writer: LogWriter) -> None:
    for entry in entries(15):
        log_writer.put(entry)

    log_writer.close()

    assert ApiLog.objects.count() == 15
    assert log_writer.counters() == {"held": 0, "stored": 15, "dropped": 0}


def test_while_the_table_is_away_rows_wait_and_nothing_is_lost(log_writer: LogWriter) -> None:
    with table_away():
        for entry in entries(10):
            log_writer.put(entry)
        time.sleep(1)

        assert log_writer.counters() == {"held": 10, "stored": 0, "dropped": 0}

    wait_until(lambda: log_writer.counters()["held"] == 0)
    assert ApiLog.objects.count() == 10


def test_overload_drops_and_counts_and_leaves_one_visible_row(log_writer: LogWriter) -> None:
    with table_away():
        for entry in entries(50):
            log_writer.put(entry)

        assert log_writer.counters() == {"held": 20, "stored": 0, "dropped": 30}

    wait_until(lambda: log_writer.counters()["held"] == 0)
    log_writer.close()
    drop = ApiLogDrop.objects.get()
    assert (drop.count, drop.reason, drop.process) == (30, "queue full", storage.process_name())
    assert ApiLog.objects.count() + drop.count == 50


def test_when_full_the_newest_successes_go_and_errors_stay(log_writer: LogWriter) -> None:
    with table_away():
        for entry in entries(20) + entries(5, status_code=500, path="/v1/error"):
            log_writer.put(entry)

    wait_until(lambda: log_writer.counters()["held"] == 0)
    assert ApiLog.objects.filter(path="/v1/error").count() == 5
    successes = ApiLog.objects.filter(status_code=200).values_list("correlation_id", flat=True)
    assert set(successes) == {f"row-{number}" for number in range(15)}


def test_the_bound_counts_bytes_too() -> None:
    log_writer = LogWriter(spool_directory=None, max_bytes=10_000)
    with table_away():
        for entry in entries(15, weight=1000):
            log_writer.put(entry)

        assert log_writer.counters()["dropped"] == 5

    log_writer.close()
    assert ApiLog.objects.count() == 10


def test_a_row_that_the_database_refuses_costs_only_itself(log_writer: LogWriter) -> None:
    for entry in [*entries(7), make_entry(status_code=70_000), *entries(7)]:
        log_writer.put(entry)

    log_writer.close()

    assert ApiLog.objects.count() == 14
    assert ApiLogDrop.objects.get().reason == "refused by the database"
    assert log_writer.counters() == {"held": 0, "stored": 14, "dropped": 1}


def test_a_row_that_cannot_be_built_costs_only_itself(log_writer: LogWriter) -> None:
    for entry in [*entries(3), make_entry(started_at=float("nan"))]:
        log_writer.put(entry)

    log_writer.close()

    assert ApiLog.objects.count() == 3
    assert ApiLogDrop.objects.get().reason == "fault in the log itself"


def test_a_lost_connection_is_made_anew(log_writer: LogWriter) -> None:
    log_writer.put(make_entry())
    wait_until(ApiLog.objects.exists)

    with connection.cursor() as cursor:
        cursor.execute(TERMINATE_OTHERS)
    log_writer.put(make_entry())
    log_writer.close()

    assert ApiLog.objects.count() == 2


def test_giving_up_at_the_exit_takes_no_longer_than_allowed(log_writer: LogWriter, caplog) -> None:
    with table_away():
        log_writer.put(make_entry())
        started = time.monotonic()

        log_writer.close(timeout=1)

        assert time.monotonic() - started < writer.EXIT_SECONDS
    assert "1 API log rows could not be stored" in caplog.text


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # from Python 3.12 on
def test_a_forked_child_gets_a_writer_of_its_own() -> None:
    writer.record(make_entry(correlation_id="parent"))
    pid = os.fork()
    if pid == 0:
        writer.record(make_entry(correlation_id="child"))
        writer.shutdown()
        os._exit(0)
    os.waitpid(pid, 0)
    writer.shutdown()

    assert set(ApiLog.objects.values_list("correlation_id", flat=True)) == {"parent", "child"}
