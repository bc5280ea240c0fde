from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from apilogs.tests.conftest import StoredRows

pytestmark = pytest.mark.urls("apilogs.tests.urls")

JSON = "application/json"


def test_a_request_is_stored_with_its_route_caller_and_sizes(log_rows: StoredRows, web: Client) -> None:
    web.post("/v1/echo/7?a=1&a=2", b'{"x": 1}', content_type=JSON, headers={"User-Agent": "curl/8"})

    [row] = log_rows()
    assert (row.method, row.path, row.route, row.status_code) == ("POST", "/v1/echo/7", "/v1/echo/{id}", 200)
    assert row.query_params == [["a", "1"], ["a", "2"]]
    assert (row.request_size, row.response_size, row.client_ip, row.user_agent) == (8, 8, "127.0.0.1", "curl/8")
    assert 0 < row.duration_ms < 5000


def test_the_caller_is_named_when_the_view_asked_for_it(log_rows: StoredRows, web: Client, admin_user: User) -> None:
    web.get("/v1/away")

    [row] = log_rows()
    assert (row.user_id, row.username) == (admin_user.pk, "admin")


def test_logging_costs_the_request_no_query(
    log_rows: StoredRows, web: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        web.get("/v1/ignore-body")

    assert log_rows()[0].user_id is None


@pytest.mark.parametrize("path", ["/healthz", "/v1/api-logs", "/v1/api-logs/1", "/v1/api-logs/stats/summary"])
def test_health_and_reading_the_log_are_not_logged(path: str, log_rows: StoredRows, web: Client) -> None:
    web.get(path)

    assert log_rows() == []


def test_deleting_a_log_row_is_logged(log_rows: StoredRows, web: Client) -> None:
    web.delete("/v1/api-logs/99")

    assert [(row.method, row.status_code) for row in log_rows()] == [("DELETE", 404)]


def test_switched_off_nothing_is_logged(log_rows: StoredRows, web: Client, settings: Settings) -> None:
    settings.API_LOG_ENABLED = False

    web.get("/v1/ignore-body")

    assert log_rows() == []


# --- correlation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Request-ID": "order-12345"}, "order-12345"),
        ({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "X-Request-ID": "order-12345"}, "ab" * 16),
    ],
)
def test_a_correlation_id_is_accepted_bound_stored_and_returned(
    headers: dict[str, str], expected: str, log_rows: StoredRows, web: Client
) -> None:
    response = web.get("/v1/ignore-body", headers=headers)

    assert response.json() == {"correlation_id": expected}
    assert response["X-Request-ID"] == expected
    assert log_rows()[0].correlation_id == expected


def test_an_unfit_request_id_is_replaced(log_rows: StoredRows, web: Client) -> None:
    response = web.get("/v1/ignore-body", headers={"X-Request-ID": "bad id\n"})

    assert len(response["X-Request-ID"]) == 36
    assert log_rows()[0].correlation_id == response["X-Request-ID"]


def test_every_response_carries_the_id_outside_the_api_too(web: Client) -> None:
    assert web.get("/healthz", headers={"X-Request-ID": "probe-0001"})["X-Request-ID"] == "probe-0001"
    assert web.get("/nowhere")["X-Request-ID"]


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "status", "kept"),
    [
        ("off", 200, False),
        ("off", 400, False),
        ("errors", 200, False),
        ("errors", 400, True),
        ("all", 200, True),
        ("all", 500, True),
    ],
)
def test_bodies_are_kept_by_mode(
    mode: str, status: int, kept: bool, log_rows: StoredRows, web: Client, settings: Settings
) -> None:
    settings.API_LOG_BODIES = mode

    web.post(f"/v1/echo/1?status={status}", b'{"x":1}', content_type=JSON)

    [row] = log_rows()
    expected = '{"x":1}' if kept else None
    assert (row.request_body, row.response_body) == (expected, expected)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/webhooks/inbox/github",
        "/v1/secrets",
        "/v1/tokens/abc",
        "/v1/callbacks/tok",
        "/v1//callbacks/tok",
        "/v1/api-logs",
    ],
)
def test_bodies_of_secrets_and_of_the_inbox_are_never_kept(
    path: str, log_rows: StoredRows, web: Client, settings: Settings
) -> None:
    settings.API_LOG_BODIES = "all"

    web.post(f"{path}?status=400", b'{"value":"canary"}', content_type=JSON)

    [row] = log_rows()
    assert (row.request_body, row.response_body) == (None, None)


def test_a_body_that_the_view_left_alone_is_not_read(log_rows: StoredRows, web: Client) -> None:
    web.post("/v1/ignore-body", b'{"x":1}', content_type=JSON)

    [row] = log_rows()
    assert row.request_body is None
    assert row.request_size == 7
    assert "correlation_id" in row.response_body


def test_a_streamed_response_goes_out_whole_and_without_a_copy(log_rows: StoredRows, web: Client) -> None:
    response = web.get("/v1/stream")

    assert b"".join(response.streaming_content) == b"ab"
    [row] = log_rows()
    assert (row.response_body, row.response_size) == (None, 0)


def test_no_credential_of_a_request_is_anywhere_in_the_table(
    log_rows: StoredRows, web: Client, settings: Settings
) -> None:
    settings.API_LOG_BODIES = "all"
    web.cookies["sessionid"] = "canary-session"

    web.post(
        "/v1/echo/1?access_token=canary-query&status=400",
        {"db_password": "canary-password", "nested": [{"api_key": "canary-key"}]},
        content_type=JSON,
        headers={"Authorization": "Bearer canary-token", "X-Api-Key": "canary-header", "X-Hub-Signature-256": "canary"},
    )

    assert len(log_rows()) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT api_logs::text FROM api_logs")
        [(dump,)] = cursor.fetchall()
    assert "canary" not in dump
    assert "Bearer [redacted]" in dump


# --- errors -----------------------------------------------------------------------------------------------------------


def test_the_class_of_an_uncaught_exception_is_stored_without_its_text(log_rows: StoredRows, web: Client) -> None:
    response = web.get("/v1/fail")

    [row] = log_rows()
    assert response.status_code == row.status_code == 500
    assert row.error == "LookupError"
    assert "private" not in row.response_body


def test_the_class_behind_a_problem_of_5xx_is_stored(log_rows: StoredRows, web: Client) -> None:
    web.get("/v1/away")

    [row] = log_rows()
    assert (row.status_code, row.error) == (503, "OperationalError")


def test_an_address_that_does_not_exist_is_logged_without_route(log_rows: StoredRows, web: Client) -> None:
    web.get("/v1/nowhere")

    [row] = log_rows()
    assert (row.status_code, row.route, row.path) == (404, "", "/v1/nowhere")


def test_a_broken_table_never_reaches_the_request(log_rows: StoredRows, web: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE api_logs RENAME TO api_logs_gone")
    try:
        responses = [web.get("/v1/ignore-body") for _ in range(5)]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE api_logs_gone RENAME TO api_logs")

    assert [response.status_code for response in responses] == [400] * 5
    assert len(log_rows()) == 5
