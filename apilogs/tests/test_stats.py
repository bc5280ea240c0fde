"""The figures against a count by hand in Python, over random requests."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from apilogs import histogram, services, stats
from apilogs.models import ApiLog, ApiLogDrop
from apilogs.stats import Selection
from apilogs.tests.factories import ApiLogFactory
from automation_lab.core.exceptions import Invalid

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 10, 1, 12, 34, 56, tzinfo=UTC)
DAY = timedelta(days=1)
ROUTES = ["/v1/tasks", "/v1/tasks/{id}", "/v1/workflows", ""]
EXACT = 1e-3  # figures are rounded to it
BUCKET = math.exp(0.05) - 1  # half a bucket of the histogram


@pytest.fixture
def logs() -> list[ApiLog]:
    """400 requests of the last four days, spread over routes, states and five orders of magnitude of duration."""
    chance = random.Random(7)
    made = [
        ApiLogFactory.build(
            created_at=NOW - timedelta(seconds=chance.uniform(0, 4 * 86_400)),
            route=chance.choice(ROUTES),
            path=chance.choice(["/v1/tasks", "/v1/workflows/7"]),
            method=chance.choice(["GET", "POST"]),
            status_code=chance.choice([200, 200, 201, 302, 404, 500]),
            duration_ms=round(math.exp(chance.uniform(math.log(0.2), math.log(20_000))), 3),
        )
        for _ in range(400)
    ]
    ApiLog.objects.bulk_create(made)
    services.roll_up(NOW)
    return made


def nearest_rank(durations: list[float], share: float) -> float:
    return sorted(durations)[max(1, math.ceil(share * len(durations))) - 1]


def check(found: dict[str, Any], logs: Iterable[ApiLog], *, tolerance: float = EXACT) -> None:
    logs = list(logs)
    durations = [log.duration_ms for log in logs]
    errors = [log for log in logs if log.status_code >= 400]
    assert found["count"] == len(logs)
    assert found["error_count"] == len(errors)
    assert found["error_share"] == pytest.approx(len(errors) / len(logs), abs=1e-6)
    assert found["status_classes"] == {
        f"{digit}xx": sum(log.status_code // 100 == digit for log in logs) for digit in range(1, 6)
    }
    assert found["avg_ms"] == pytest.approx(sum(durations) / len(logs), abs=EXACT)
    assert found["max_ms"] == max(durations)
    for share in (0.5, 0.95, 0.99):
        expected = nearest_rank(durations, share)
        assert found[f"p{share * 100:.0f}_ms"] == pytest.approx(expected, rel=tolerance, abs=EXACT)


def grouped(logs: Iterable[ApiLog], key: Callable[[ApiLog], Any]) -> dict[Any, list[ApiLog]]:
    groups: dict[Any, list[ApiLog]] = defaultdict(list)
    for log in logs:
        groups[key(log)].append(log)
    return groups


def since(logs: list[ApiLog], instant: datetime) -> list[ApiLog]:
    return [log for log in logs if log.created_at >= instant]


def test_the_summary_of_a_day_is_exact(logs: list[ApiLog]) -> None:
    found = stats.summary(Selection(since=NOW - DAY, until=NOW))

    day = since(logs, NOW - DAY)
    assert found["read_from"] == "rows"
    check(found, day)
    by_route = grouped(day, lambda log: log.route)
    assert {group["route"] for group in found["by_route"]} == set(by_route)
    for group in found["by_route"]:
        check(group, by_route[group["route"]])
    codes = Counter(log.status_code for log in day)
    assert {row["status_code"]: row["count"] for row in found["by_status"]} == codes
    by_hour = grouped(day, lambda log: services.floor_hour(log.created_at))
    for point in found["per_hour"]:
        if point["count"]:
            check(point, by_hour.pop(point["at"]))
    assert by_hour == {}


def test_a_longer_summary_comes_from_the_hours_with_percentiles_within_half_a_bucket(logs: list[ApiLog]) -> None:
    start = NOW - 3 * DAY
    found = stats.summary(Selection(since=start, until=NOW))

    window = since(logs, services.floor_hour(start))
    assert (found["read_from"], found["since"]) == ("hours", services.floor_hour(start))
    check(found, window, tolerance=BUCKET)
    by_route = grouped(window, lambda log: log.route)
    for group in found["by_route"]:
        check(group, by_route.pop(group["route"]), tolerance=BUCKET)
    assert by_route == {}
    assert len(found["per_hour"]) == 73


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({"route": "/v1/tasks/{id}"}, lambda log: log.route == "/v1/tasks/{id}"),
        ({"path": "/v1/work"}, lambda log: log.path.startswith("/v1/work")),
        ({"method": "POST"}, lambda log: log.method == "POST"),
    ],
)
@pytest.mark.parametrize("days", [1, 3])
def test_filters_narrow_the_figures(
    filters: dict[str, str], matches: Callable[[ApiLog], bool], days: int, logs: list[ApiLog]
) -> None:
    selection = Selection(since=services.floor_hour(NOW - days * DAY), until=NOW, **filters)

    found = stats.summary(selection)

    window = since(logs, selection.since)
    check(found, filter(matches, window), tolerance=EXACT if found["read_from"] == "rows" else BUCKET)


@pytest.mark.parametrize(("step", "days"), [("minute", 1), ("hour", 1), ("hour", 3), ("day", 3)])
def test_a_series_has_a_point_for_every_step_and_adds_up(step: str, days: int, logs: list[ApiLog]) -> None:
    start = services.floor_hour(NOW - days * DAY)
    found = stats.timeseries(Selection(since=start, until=NOW), step)

    instants = [point["at"] for point in found["points"]]
    assert {later - earlier for earlier, later in pairwise(instants)} == {stats.STEPS[step]}
    assert sum(point["count"] for point in found["points"]) == len(since(logs, start))
    for point in found["points"]:
        if point["count"]:
            inside = [
                log for log in since(logs, start) if point["at"] <= log.created_at < point["at"] + stats.STEPS[step]
            ]
            check(point, inside, tolerance=EXACT if found["read_from"] == "rows" else BUCKET)


def test_without_requests_there_are_zeros_and_no_durations() -> None:
    found = stats.summary(Selection(since=NOW - timedelta(hours=2), until=NOW))

    assert (found["count"], found["error_share"], found["avg_ms"], found["p99_ms"]) == (0, 0.0, None, None)
    assert [point["count"] for point in found["per_hour"]] == [0, 0, 0]


def test_dropped_rows_are_part_of_the_summary() -> None:
    ApiLogDrop.objects.create(at=NOW - timedelta(hours=1), count=7, process="p", reason="queue full")
    ApiLogDrop.objects.create(at=NOW - 3 * DAY, count=9, process="p", reason="queue full")

    assert stats.summary(Selection(since=NOW - DAY, until=NOW))["dropped_count"] == 7


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (lambda: Selection(since=NOW, until=NOW), "since"),
        (lambda: Selection(since=NOW - 32 * DAY, until=NOW, path="/v1"), "since"),
        (lambda: stats.timeseries(Selection(since=NOW - 2 * DAY, until=NOW), "minute"), "bucket"),
        (lambda: stats.timeseries(Selection(since=NOW - 90 * DAY, until=NOW), "hour"), "bucket"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(ask: Callable[[], object], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask()

    assert caught.value.field == field


def test_the_formula_of_the_histogram_is_its_documentation() -> None:
    assert [histogram.bucket_of(ms) for ms in (0, 0.1, 0.1106, 1, 100, 10**9)] == [0, 0, 1, 23, 69, 159]
    assert histogram.percentile([], 0.5) is None
    assert histogram.percentile([0, 0, 1], 0.99) == pytest.approx(0.1 * math.exp(0.25), abs=EXACT)
