"""The API log in the console."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.urls import reverse

from apilogs.models import ApiLog
from apilogs.tests.factories import ApiLogFactory

CANARY = "<script>alert('canary')</script>"

pytestmark = pytest.mark.django_db


def page(name, *args):
    return reverse(f"admin:apilogs_apilog_{name}", args=args)


def listed(console, **filters):
    return {log.path for log in console.get(page("changelist"), filters).context["cl"].result_list}


def test_what_a_caller_sent_is_escaped(console):
    log = ApiLogFactory(
        path=f"/v1/{CANARY}",
        username=CANARY,
        user_agent=CANARY,
        query_params=[["a", CANARY]],
        request_headers=[["X-A", CANARY]],
        request_body=CANARY,
        response_body=CANARY,
    )

    for url in (page("changelist"), page("change", log.pk)):
        html = console.get(url).content.decode()
        assert "<script>alert" not in html
        assert "&lt;script&gt;" in html


def test_json_is_shown_indented(console):
    log = ApiLogFactory(response_body='{"title":"Not Found"}')

    assert "{\n  &quot;title&quot;: &quot;Not Found&quot;\n}" in console.get(page("change", log.pk)).content.decode()


def test_a_body_that_was_not_kept_is_told_from_an_empty_one(console):
    log = ApiLogFactory(request_body=None, response_body="")

    html = console.get(page("change", log.pk)).content.decode()

    assert "not kept (API_LOG_BODIES)" in html
    assert ">empty<" in html


def test_a_body_that_is_never_kept_is_not_put_down_to_the_setting(console):
    log = ApiLogFactory(path="/v1/webhooks/inbox/github", request_body=None, response_body=None)

    html = console.get(page("change", log.pk)).content.decode()

    assert "API_LOG_BODIES" not in html
    assert html.count("never kept for this address") == 2


def test_the_command_leaves_credentials_out(console):
    log = ApiLogFactory(request_headers=[["Authorization", "Bearer [redacted]"], ["Accept", "application/json"]])

    html = console.get(page("change", log.pk)).content.decode()
    command = html[html.index("curl -X GET") :]

    assert "Accept: application/json" in command
    assert "Authorization" not in command


def test_the_command_has_the_whole_address(console):
    log = ApiLogFactory(path="/v1/a b", query_params=[["source", "x y"], ["token", "[redacted]"]])

    html = console.get(page("change", log.pk)).content.decode()

    assert "/v1/a%20b?source=x+y&amp;token=%5Bredacted%5D" in html


def test_the_list_is_filtered_by_status_class(console):
    for status in (200, 302, 404, 500):
        ApiLogFactory(path=f"/v1/{status}", status_code=status)

    assert listed(console, status="errors") == {"/v1/404", "/v1/500"}
    assert listed(console, status="4") == {"/v1/404"}
    assert listed(console, status="nonsense") == {"/v1/200", "/v1/302", "/v1/404", "/v1/500"}


def test_the_list_is_drilled_into_by_day(console):
    for day in (1, 2):
        ApiLogFactory(path=f"/v1/{day}", created_at=datetime(2025, 11, day, 12, tzinfo=UTC))

    html = console.get(page("changelist")).content.decode()
    days = listed(console, created_at__year=2025, created_at__month=11, created_at__day=2)

    assert "created_at__day=1" in html
    assert "created_at__day=2" in html
    assert days == {"/v1/2"}


def test_the_drill_down_offers_years_and_months_when_the_rows_span_them(console):
    for year, month in ((2024, 3), (2025, 1), (2025, 2)):
        ApiLogFactory(created_at=datetime(year, month, 3, tzinfo=UTC))

    years = console.get(page("changelist")).content.decode()
    months = console.get(page("changelist"), {"created_at__year": 2025}).content.decode()

    assert "created_at__year=2024" in years
    assert "January 2025" in months
    assert "February 2025" in months
    assert "March 2025" not in months


def test_rows_are_found_by_correlation_id_and_route(console):
    ApiLogFactory(path="/v1/a", correlation_id="c-1", route="/v1/a/{id}")
    ApiLogFactory(path="/v1/b", correlation_id="c-2", route="/v1/b/{id}")

    assert listed(console, q="c-1") == {"/v1/a"}
    assert listed(console, q="/v1/b/{id}") == {"/v1/b"}


def test_rows_are_found_by_how_the_path_begins_and_by_caller(console):
    ApiLogFactory(path="/v1/webhooks/inbox/shop", route="/v1/webhooks/inbox/{name}", username="")
    ApiLogFactory(path="/v1/tasks/7", route="/v1/tasks/{id}", username="ann")

    assert listed(console, q="/v1/webhooks") == {"/v1/webhooks/inbox/shop"}
    assert listed(console, q="/v1/tasks/7") == {"/v1/tasks/7"}
    assert listed(console, username="ann") == {"/v1/tasks/7"}
    assert listed(console, username="nobody") == set()


def test_a_row_can_be_deleted_and_not_changed(console):
    log = ApiLogFactory(path="/v1/a")

    refused = console.post(page("change", log.pk), {"path": "/hacked"})
    console.post(page("delete", log.pk), {"post": "yes"})

    assert refused.status_code == 403
    assert not ApiLog.objects.exists()


def test_several_rows_are_deleted_at_once(console):
    logs = ApiLogFactory.create_batch(3)
    data = {"action": "delete_selected", "_selected_action": [log.pk for log in logs[:2]], "post": "yes"}

    console.post(page("changelist"), data)

    assert list(ApiLog.objects.all()) == [logs[2]]
