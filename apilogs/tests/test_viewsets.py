from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from apilogs import export
from apilogs.models import ApiLog
from apilogs.tests.factories import ApiLogFactory

pytestmark = pytest.mark.django_db

START = datetime(2026, 10, 1, 12, tzinfo=UTC)


@pytest.fixture
def logs() -> list[ApiLog]:
    """Oldest first."""
    return [
        ApiLogFactory(path="/v1/webhooks/inbox", method="POST", created_at=START, duration_ms=1),
        ApiLogFactory(
            path="/v1/webhooks/inbox/7", status_code=404, created_at=START + timedelta(hours=1), duration_ms=3
        ),
        ApiLogFactory(
            path="/v1/tasks",
            route="/v1/tasks",
            status_code=500,
            created_at=START + timedelta(hours=2),
            duration_ms=2,
            user_id=12,
            username="pat",
            client_ip="192.0.2.7",
            correlation_id="order-12345",
        ),
    ]


def positions(response: Any, logs: list[ApiLog]) -> list[int]:
    """Which of `logs` were answered, in what order."""
    order = [log.pk for log in logs]
    return [order.index(row["id"]) for row in response.json()["results"]]


@pytest.mark.parametrize(
    "path", ["", "/1", "/stats/summary", "/stats/timeseries", "/export"], ids=lambda path: path or "list"
)
def test_nobody_reads_the_log_without_a_token(path: str, anonymous_api: APIClient) -> None:
    assert anonymous_api.get(f"/v1/api-logs{path}").status_code == 401


def test_reading_needs_the_permission(anonymous_api: APIClient, user: User) -> None:
    anonymous_api.force_authenticate(user)

    assert anonymous_api.get("/v1/api-logs").status_code == 403


def test_the_list_is_newest_first_and_without_payloads(api: APIClient, logs: list[ApiLog]) -> None:
    response = api.get("/v1/api-logs?page=1&size=50")

    assert positions(response, logs) == [2, 1, 0]
    assert not {"request_headers", "request_body", "response_headers", "response_body"} & set(
        response.json()["results"][0]
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("path=/v1/webhooks&status_code=200", [0]),
        ("path=/v1/webhooks", [1, 0]),
        ("method=post", [0]),
        ("route=/v1/tasks&status_class=5xx", [2]),
        ("status_class=4xx", [1]),
        ("errors_only=true", [2, 1]),
        ("errors_only=false", [2, 1, 0]),
        ("min_duration_ms=2", [2, 1]),
        ("user_id=12", [2]),
        ("username=pat", [2]),
        ("client_ip=192.0.2.7", [2]),
        ("correlation_id=order-12345", [2]),
        ("created_after=2026-10-01T13:00:00Z", [2, 1]),
        ("created_before=2026-10-01T13:00:00Z", [0]),
        ("ordering=duration_ms", [0, 2, 1]),
        ("ordering=-id", [2, 1, 0]),
        ("ordering=created_at", [0, 1, 2]),
    ],
)
def test_filters_and_orderings(query: str, expected: list[int], api: APIClient, logs: list[ApiLog]) -> None:
    assert positions(api.get(f"/v1/api-logs?{query}"), logs) == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=200", "status"),
        ("status_class=6xx", "status_class"),
        ("status_code=abc", "status_code"),
        ("client_ip=nowhere", "client_ip"),
        ("min_duration_ms=-1", "min_duration_ms"),
        ("created_after=yesterday", "created_after"),
        ("ordering=path", "ordering"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_by_name(query: str, field: str, api: APIClient) -> None:
    response = api.get(f"/v1/api-logs?{query}")

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


def test_a_row_shows_its_payloads(api: APIClient) -> None:
    log = ApiLogFactory(request_headers=[["Host", "lab"]], request_body="{}", response_body="ok")

    row = api.get(f"/v1/api-logs/{log.pk}").json()

    assert (row["request_headers"], row["request_body"], row["response_body"]) == ([["Host", "lab"]], "{}", "ok")


def test_a_row_can_be_deleted_and_nothing_else(api: APIClient, logs: list[ApiLog]) -> None:
    assert api.patch(f"/v1/api-logs/{logs[0].pk}", {}).status_code == 405
    assert api.post("/v1/api-logs", {}).status_code == 405
    assert api.delete(f"/v1/api-logs/{logs[0].pk}").status_code == 204

    assert not ApiLog.objects.filter(pk=logs[0].pk).exists()
    assert api.delete(f"/v1/api-logs/{logs[0].pk}").status_code == 404


@pytest.mark.parametrize("rows", [1, 20])
def test_the_list_takes_the_same_queries_however_long_it_is(
    rows: int, api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    api.get("/v1/api-logs")  # the token's last use is noted once a minute
    ApiLogFactory.create_batch(rows)

    with django_assert_num_queries(3):  # token, count, rows
        api.get("/v1/api-logs")


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_summary_covers_the_last_24_hours_by_default(api: APIClient) -> None:
    now = datetime.now(UTC)
    ApiLogFactory(created_at=now - timedelta(hours=23))
    ApiLogFactory(created_at=now - timedelta(hours=25))

    summary = api.get("/v1/api-logs/stats/summary").json()

    assert (summary["count"], summary["read_from"]) == (1, "rows")
    assert sum(point["count"] for point in summary["per_hour"]) == 1


def test_the_summary_takes_a_window_and_filters(api: APIClient, logs: list[ApiLog]) -> None:
    query = "since=2026-10-01T12:00:00Z&until=2026-10-01T14:00:00Z&path=/v1/webhooks&method=get"

    summary = api.get(f"/v1/api-logs/stats/summary?{query}").json()

    assert (summary["count"], summary["error_share"], summary["p50_ms"]) == (1, 1.0, 3.0)


def test_the_series_takes_a_bucket(api: APIClient, logs: list[ApiLog]) -> None:
    query = "since=2026-10-01T12:00:00Z&until=2026-10-01T15:00:00Z&bucket=hour"

    series = api.get(f"/v1/api-logs/stats/timeseries?{query}").json()

    assert [(point["at"], point["status_classes"]["4xx"]) for point in series["points"]] == [
        ("2026-10-01T12:00:00Z", 0),
        ("2026-10-01T13:00:00Z", 1),
        ("2026-10-01T14:00:00Z", 0),
    ]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("summary?since=soon", "since"),
        ("summary?bucket=hour", "bucket"),
        ("summary?since=2026-10-02T00:00:00Z&until=2026-10-01T00:00:00Z", "since"),
        ("timeseries?bucket=week", "bucket"),
        ("summary?path=%00", "path"),
        ("summary?until=0001-01-01T00:00:00Z", "until"),
        ("summary?until=9999-12-31T23:59:59Z", "until"),
        ("timeseries?until=9999-12-31T23:59:59Z&since=9999-12-30T00:00:00Z&bucket=day", "until"),
    ],
)
def test_figures_that_cannot_be_given_are_refused_by_name(path: str, field: str, api: APIClient) -> None:
    response = api.get(f"/v1/api-logs/stats/{path}")

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


# --- export -----------------------------------------------------------------------------------------------------------


def exported(api: APIClient, query: str) -> tuple[str, str]:
    response = api.get(f"/v1/api-logs/export?{query}")
    assert response.status_code == 200, response.content
    return response["Content-Type"], b"".join(response.streaming_content).decode()


def test_the_json_export_is_one_list(api: APIClient, logs: list[ApiLog]) -> None:
    content_type, text = exported(api, "format=json")

    assert content_type == "application/json; charset=utf-8"
    assert [row["id"] for row in json.loads(text)] == [log.pk for log in reversed(logs)]
    assert list(json.loads(text)[0]) == export.FIELDS


def test_an_empty_export_is_an_empty_list(api: APIClient) -> None:
    assert json.loads(exported(api, "")[1]) == []


def test_the_ndjson_export_is_one_object_a_line(api: APIClient, logs: list[ApiLog]) -> None:
    content_type, text = exported(api, "format=ndjson&ordering=created_at")

    assert content_type == "application/x-ndjson; charset=utf-8"
    assert [json.loads(line)["id"] for line in text.splitlines()] == [log.pk for log in logs]


def test_the_csv_export_has_a_header_and_json_in_its_cells(api: APIClient) -> None:
    log = ApiLogFactory(request_headers=[["Host", "lab"]], request_body='a,"b"\nc', created_at=START)

    content_type, text = exported(api, "format=csv")

    [row] = csv.DictReader(io.StringIO(text))
    assert content_type == "text/csv; charset=utf-8"
    assert (row["id"], row["created_at"]) == (str(log.pk), "2026-10-01T12:00:00+00:00")
    assert (row["request_headers"], row["request_body"]) == ('[["Host","lab"]]', 'a,"b"\nc')


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_cannot_be_made_to_run_a_cell(start: str, api: APIClient) -> None:
    ApiLogFactory(user_agent=f"{start}cmd|' /C calc'!A0", duration_ms=1.5)

    [row] = csv.DictReader(io.StringIO(exported(api, "format=csv")[1], newline=""))

    assert row["user_agent"].startswith(f"'{start}cmd")
    assert row["duration_ms"] == "1.5"


def test_the_export_takes_the_filters_of_the_list(api: APIClient, logs: list[ApiLog]) -> None:
    _, text = exported(api, "format=ndjson&path=/v1/webhooks&errors_only=true")

    assert [json.loads(line)["id"] for line in text.splitlines()] == [logs[1].pk]


@pytest.mark.parametrize(
    ("query", "field"),
    [("format=xml", "format"), ("page=2", "page"), ("ordering=duration_ms", "ordering"), ("a=b", "a")],
)
def test_an_export_that_cannot_be_made_is_refused_by_name(query: str, field: str, api: APIClient) -> None:
    response = api.get(f"/v1/api-logs/export?{query}")

    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("ordering", ["created_at", "-created_at"])
def test_an_export_reads_page_after_page_and_each_row_once(
    ordering: str, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE_ROWS", 10)
    instants = [START + timedelta(seconds=number // 7) for number in range(35)]  # several rows share an instant
    made = [ApiLogFactory(created_at=instant).pk for instant in instants]

    with CaptureQueriesContext(connection) as queries:
        content = api.get(f"/v1/api-logs/export?format=ndjson&ordering={ordering}").streaming_content
        before = len(queries)
        first = next(content)
        assert len(queries) - before == 1  # nothing beyond the first page was read yet
        lines = (first + b"".join(content)).splitlines()

    found = [json.loads(line)["id"] for line in lines]
    assert found == (made if ordering == "created_at" else made[::-1])
