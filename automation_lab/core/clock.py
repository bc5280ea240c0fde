"""One clock for all machines: the database's. Ticker, claim and retry take instants as arguments, so tests inject them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.db import connection


def database_now() -> datetime:
    """The database's wall clock, aware, also inside a long transaction (`clock_timestamp()`, not `now()`)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def running_clock() -> Callable[[], datetime]:
    """The database's clock, asked once and carried on by this machine's monotonic one: for many instants of one run."""
    start, asked_at = database_now(), time.monotonic()
    return lambda: start + timedelta(seconds=time.monotonic() - asked_at)


def process_now() -> datetime:
    """This machine's clock, for log lines: cheap, and never compared with a stored instant."""
    return datetime.now(UTC)
