"""Every write to the API log beside the writer's: hourly figures, pruning, abandoned spools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, F, Max, Min, QuerySet, Sum
from django.db.models.functions import TruncHour

from apilogs import histogram, spool, storage
from apilogs.models import ApiLog, ApiLogDrop, ApiLogHour
from apilogs.rows import Row
from automation_lab.core.registry import PrunableTable

HOUR = timedelta(hours=1)
RECENT_HOURS = 2
LATE_HOURS = 48  # rows of a spool may arrive long after their hour


def floor_hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


# --- hourly figures ---------------------------------------------------------------------------------------------------


def roll_up(now: datetime, *, since: datetime | None = None) -> int:
    """Write the figures of the current and recent hours, and of all since the last one written; the number of rows.

    Counts again from the rows, so it may run at any time and any number of times. Hours whose rows were pruned keep
    their figures.
    """
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


def prune(now: datetime, days: int, batch: int = 5000, dry_run: bool = False) -> int:
    """Delete the rows older than `days` (0: none), in short transactions; the number deleted, or that would be.

    Ends at a full hour: an hour is either whole or gone, and its figures are never counted again from a part of it.
    """
    old = ApiLog.objects.filter(created_at__lt=floor_hour(now - timedelta(days=days)))
    return _delete_in_batches(old, batch, dry_run) if days > 0 else 0


def prune_hours(now: datetime, days: int, batch: int = 5000, dry_run: bool = False) -> int:
    """The same for the hourly figures and the counts of dropped rows."""
    if days <= 0:
        return 0
    before = now - timedelta(days=days)
    return _delete_in_batches(ApiLogHour.objects.filter(hour__lt=before), batch, dry_run) + _delete_in_batches(
        ApiLogDrop.objects.filter(at__lt=before), batch, dry_run
    )


def _delete_in_batches(old: QuerySet[Any], batch: int, dry_run: bool) -> int:
    return old.count() if dry_run else sum(_deleted_batches(old, batch))


def _deleted_batches(old: QuerySet[Any], batch: int) -> Iterator[int]:
    while True:
        ids = old.order_by(*old.model._meta.ordering).reverse().values("pk")[:batch]
        deleted, _ = old.model._base_manager.filter(pk__in=ids).delete()
        yield deleted
        if deleted < batch:
            return


def prune_by_settings(now: datetime) -> dict[str, int]:
    """Everything older than the RETENTION_… settings allow, by table."""
    return {
        "api_logs": prune(now, settings.RETENTION_API_LOGS_DAYS),
        "api_log_hours": prune_hours(now, settings.RETENTION_API_LOG_HOURS_DAYS),
    }


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
