"""Every write to the API log beside the writer's: hourly figures, pruning, abandoned spools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Max, Min, Sum
from django.db.models.functions import TruncHour

from apilogs import histogram, spool, storage
from apilogs.models import ApiLog, ApiLogDrop, ApiLogHour
from apilogs.rows import Row
from automation_lab.core.pruning import delete_in_batches
from automation_lab.core.registry import PrunableTable

HOUR = timedelta(hours=1)
RECENT_HOURS = 2
LATE_HOURS = 48  # rows of a spool may arrive long after their hour
LOCK_KEY = 1_718_183_797  # "figu" in ASCII
BATCH = 5000


def floor_hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


# --- hourly figures ---------------------------------------------------------------------------------------------------


def roll_up(now: datetime, *, since: datetime | None = None) -> int:
    """Write the figures of the current and recent hours, and of all since the last one written; the number of rows.

    Counts again from the rows, so it may run at any time and any number of times. Hours whose rows were pruned keep
    their figures.
    """
    with figures_lock():
        start = floor_hour(since) if since else _first_open_hour(now)
        hours = [_hour(*item) for item in _counted(start, now).items()]
        ApiLogHour.objects.bulk_create(
            hours,
            batch_size=500,
            update_conflicts=True,
            unique_fields=["hour", "route", "status_class"],
            update_fields=["count", "duration_ms_sum", "duration_ms_max", "histogram"],
        )
    return len(hours)


@contextmanager
def figures_lock() -> Iterator[None]:
    """Nobody counts an hour while another process deletes its rows: the figures would be those of what is left.

    A lock of the session and not of a transaction, as rows are deleted in several.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])


def _first_open_hour(now: datetime) -> datetime:
    recent = floor_hour(now) - RECENT_HOURS * HOUR
    last = ApiLogHour.objects.aggregate(last=Max("hour"))["last"]
    if last is None:
        oldest = ApiLog.objects.aggregate(oldest=Min("created_at"))["oldest"]
        last = floor_hour(oldest) if oldest else recent
    return min(recent, last)


Key = tuple[datetime, str, int]
Bucket = tuple[int, int, float, float]  # bucket, count, sum, maximum


def _counted(start: datetime, now: datetime) -> dict[Key, list[Bucket]]:
    groups: dict[Key, list[Bucket]] = defaultdict(list)
    rows = (
        ApiLog.objects.filter(created_at__gte=start, created_at__lte=now)
        .order_by()
        .values_list(
            TruncHour("created_at", tzinfo=UTC), "route", F("status_code") / 100, histogram.bucket_expression()
        )
        .annotate(rows=Count("id"), total=Sum("duration_ms"), longest=Max("duration_ms"))
    )
    for hour, route, status_class, *figures in rows:
        groups[hour, route, status_class].append(tuple(figures))
    return groups


def _hour(key: Key, buckets: list[Bucket]) -> ApiLogHour:
    hour, route, status_class = key
    return ApiLogHour(
        hour=hour,
        route=route,
        status_class=status_class,
        count=sum(count for _, count, _, _ in buckets),
        duration_ms_sum=sum(total for _, _, total, _ in buckets),
        duration_ms_max=max(longest for *_, longest in buckets),
        histogram=histogram.from_counts({bucket: count for bucket, count, _, _ in buckets}),
    )


# --- pruning ----------------------------------------------------------------------------------------------------------


def prune(now: datetime, days: int, batch: int = BATCH, dry_run: bool = False) -> int:
    """Delete the rows older than `days` (0: none), in short transactions; the number deleted, or that would be.

    Rows that came late are counted first. Ends at a full hour: an hour is either whole or gone, and its figures are never
    counted again from a part of it.
    """
    if days <= 0:
        return 0
    old = ApiLog.objects.filter(created_at__lt=floor_hour(now - timedelta(days=days)))
    with figures_lock():
        if not dry_run:
            roll_up(now, since=now - timedelta(hours=LATE_HOURS))
        return delete_in_batches(old, dry_run=dry_run, batch=batch, oldest_first=("created_at", "id"))


def prune_hours(now: datetime, days: int, batch: int = BATCH, dry_run: bool = False) -> int:
    """The same for the hourly figures and the counts of dropped rows."""
    if days <= 0:
        return 0
    before = now - timedelta(days=days)
    hours = ApiLogHour.objects.filter(hour__lt=before)
    drops = ApiLogDrop.objects.filter(at__lt=before)
    return delete_in_batches(
        hours, dry_run=dry_run, batch=batch, oldest_first=("hour", "route", "status_class")
    ) + delete_in_batches(drops, dry_run=dry_run, batch=batch, oldest_first=("at", "id"))


PRUNABLE = {
    "api_logs": PrunableTable("RETENTION_API_LOGS_DAYS", prune),
    "api_log_hours": PrunableTable("RETENTION_API_LOG_HOURS_DAYS", prune_hours),
}


# --- spool ------------------------------------------------------------------------------------------------------------


def load_spool() -> int:
    """Store what killed web processes of this machine left in the spool; the number of lines read."""
    if not settings.API_LOG_SPOOL or not spool.has_segments(Path(settings.API_LOG_SPOOL)):
        return 0
    with storage.connect() as connection:

        def merge(rows: list[Row], drops: dict[str, int]) -> None:
            storage.store_each(connection, rows, drops, storage.merge)

        return spool.load_abandoned(Path(settings.API_LOG_SPOOL), merge)
