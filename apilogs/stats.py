"""Figures about the API log: from the rows for up to a day or so, from the hourly figures for longer windows.

Percentiles: from rows, the observed duration of the nearest rank; from hours, that of `apilogs.histogram` (±5.2 %).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import OperationalError, connection, transaction
from django.db.models import Aggregate, Count, F, FloatField, Max, Q, QuerySet, Sum, Value
from django.db.models.functions import Trunc
from psycopg.errors import QueryCanceled

from apilogs import histogram
from apilogs.models import ApiLog, ApiLogDrop
from apilogs.services import floor_hour
from automation_lab.core.exceptions import Invalid

SHARES = (0.5, 0.95, 0.99)
RAW_WINDOW = timedelta(hours=25)
LONGEST_RAW_WINDOW = timedelta(days=31)
MOST_ROUTES = 100
MOST_POINTS = 1500
TIMEOUT_SECONDS = 5
STEPS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
STATUS_CLASSES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Selection:
    """Which requests: a window (`since` inclusive, `until` exclusive) and filters, empty for all."""

    since: datetime
    until: datetime
    route: str = ""
    path: str = ""
    method: str = ""

    def __post_init__(self) -> None:
        if self.since >= self.until:
            raise Invalid("since must be before until.", field="since")
        if self.needs_rows and self.until - self.since > LONGEST_RAW_WINDOW:
            days = LONGEST_RAW_WINDOW.days
            raise Invalid(
                f"With path or method the window is at most {days} days; filter by route instead.", field="since"
            )

    @property
    def needs_rows(self) -> bool:
        return bool(self.path or self.method)

    @property
    def uses_rows(self) -> bool:
        return self.needs_rows or self.until - self.since <= RAW_WINDOW

    def rows(self) -> QuerySet[ApiLog]:
        rows = ApiLog.objects.filter(created_at__gte=self.since, created_at__lt=self.until).order_by()
        if self.route:
            rows = rows.filter(route=self.route)
        if self.path:
            rows = rows.filter(path__startswith=self.path)
        return rows.filter(method=self.method) if self.method else rows


# --- what the API answers ---------------------------------------------------------------------------------------------


def summary(selection: Selection) -> dict[str, Any]:
    with _time_limit():
        total = _figures_by(selection, "all")
        hours = (selection.until - selection.since) / STEPS["hour"]
        return {
            "since": _start(selection),
            "until": selection.until,
            "read_from": "rows" if selection.uses_rows else "hours",
            **(total[0][1] if total else _figures({})),
            "by_route": [{"route": route, **figures} for route, figures in _busiest(_figures_by(selection, "route"))],
            "by_status": _by_status(selection),
            "per_hour": _series(selection, "hour") if hours <= MOST_POINTS else [],
            "dropped_count": _dropped(selection),
        }


def timeseries(selection: Selection, step: str) -> dict[str, Any]:
    """One point for every `step` (minute, hour, day) of the window, those without requests too."""
    points = (selection.until - selection.since) / STEPS[step]
    if points > MOST_POINTS:
        raise Invalid(
            f"That is more than {MOST_POINTS} points; take a longer bucket or a shorter window.", field="bucket"
        )
    if step == "minute" and not selection.uses_rows:
        raise Invalid("Minutes are kept for windows of up to 25 hours; take bucket=hour.", field="bucket")
    with _time_limit():
        return {
            "since": _start(selection),
            "until": selection.until,
            "read_from": "rows" if selection.uses_rows else "hours",
            "bucket": step,
            "points": _series(selection, step),
        }


def _start(selection: Selection) -> datetime:
    """The hourly figures begin at a full hour, whatever was asked."""
    return selection.since if selection.uses_rows else floor_hour(selection.since)


def _busiest(groups: list[tuple[Any, dict[str, Any]]]) -> list[tuple[Any, dict[str, Any]]]:
    return sorted(groups, key=lambda group: (-group[1]["count"], group[0]))[:MOST_ROUTES]


def _by_status(selection: Selection) -> list[Mapping[str, Any]]:
    """Known for each status code as long as there are rows; the hourly figures know the classes only."""
    if not selection.uses_rows:
        return []
    return list(selection.rows().values("status_code").annotate(count=Count("id")).order_by("status_code"))


def _dropped(selection: Selection) -> int:
    drops = ApiLogDrop.objects.filter(at__gte=selection.since, at__lt=selection.until)
    return drops.aggregate(total=Sum("count"))["total"] or 0


def _series(selection: Selection, step: str) -> list[dict[str, Any]]:
    known = dict(_figures_by(selection, step))
    return [{"at": at, **known.get(at, _figures({}))} for at in _instants(selection, step)]


def _instants(selection: Selection, step: str) -> Iterator[datetime]:
    at = selection.since.astimezone(UTC).replace(second=0, microsecond=0)
    if step != "minute":
        at = at.replace(minute=0)
    if step == "day":
        at = at.replace(hour=0)
    while at < selection.until:
        yield at
        at += STEPS[step]


@contextmanager
def _time_limit() -> Iterator[None]:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{TIMEOUT_SECONDS}s'")
            yield
    except OperationalError as exc:
        if isinstance(exc.__cause__, QueryCanceled):
            raise Invalid("There are too many rows in this window; make it shorter.", field="since") from exc
        raise


# --- figures of groups ------------------------------------------------------------------------------------------------


class Percentiles(Aggregate):
    """Observed values at SHARES, by nearest rank."""

    template = f"percentile_disc(ARRAY{list(SHARES)}) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = ArrayField(FloatField())


def _figures_by(selection: Selection, group: str) -> list[tuple[Any, dict[str, Any]]]:
    """(key, figures) of every `all`, `route`, `minute`, `hour` or `day`."""
    counted = _from_rows(selection, group) if selection.uses_rows else _from_hours(selection, group)
    return [(row["key"], _figures(row)) for row in counted]


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    classes = {f"{status}xx": row.get(f"class_{status}") or 0 for status in STATUS_CLASSES}
    count = sum(classes.values())
    errors = classes["4xx"] + classes["5xx"]
    percentiles: Sequence[float | None] = row.get("percentiles") or [None] * len(SHARES)
    return {
        "count": count,
        "error_count": errors,
        "error_share": round(errors / count, 6) if count else 0.0,
        "status_classes": classes,
        "avg_ms": round(row["total_ms"] / count, 3) if count else None,
        **{f"p{share * 100:.0f}_ms": value for share, value in zip(SHARES, percentiles, strict=True)},
        "max_ms": row.get("longest_ms"),
    }


def _from_rows(selection: Selection, group: str) -> Iterable[Mapping[str, Any]]:
    keys = {"all": Value(""), "route": F("route")}
    key = keys.get(group) or Trunc("created_at", group, tzinfo=UTC)
    classes = {
        f"class_{status}": Count("id", filter=Q(status_code__gte=status * 100, status_code__lt=status * 100 + 100))
        for status in STATUS_CLASSES
    }
    return (
        selection.rows()
        .values(key=key)
        .annotate(
            **classes,
            total_ms=Sum("duration_ms"),
            longest_ms=Max("duration_ms"),
            percentiles=Percentiles("duration_ms"),
        )
    )


GROUPS_OF_HOURS = {"all": "''", "route": "route", "hour": "hour", "day": "date_trunc('day', hour, 'UTC')"}
CLASS_SUMS = ", ".join(f"sum(count) FILTER (WHERE status_class = {status})" for status in STATUS_CLASSES)
# Element by element: three times as fast as unnesting, for a month of hours has millions of elements.
HISTOGRAM_SUM = ", ".join(f"sum(histogram[{bucket + 1}])" for bucket in range(histogram.BUCKETS))
FROM_HOURS = """
    SELECT {group}, sum(duration_ms_sum), max(duration_ms_max), ARRAY[{histogram}], {classes}
    FROM api_log_hours
    WHERE hour >= %(since)s AND hour < %(until)s AND (%(route)s = '' OR route = %(route)s)
    GROUP BY 1
"""


def _from_hours(selection: Selection, group: str) -> Iterable[Mapping[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            FROM_HOURS.format(group=GROUPS_OF_HOURS[group], histogram=HISTOGRAM_SUM, classes=CLASS_SUMS),
            {"since": floor_hour(selection.since), "until": selection.until, "route": selection.route},
        )
        for key, total_ms, longest_ms, sums, *classes in cursor:
            counts = [int(count or 0) for count in sums]
            yield {
                "key": key,
                "total_ms": total_ms,
                "longest_ms": longest_ms,
                "percentiles": [histogram.percentile(counts, share) for share in SHARES],
                **{f"class_{status}": int(count or 0) for status, count in zip(STATUS_CLASSES, classes, strict=True)},
            }
