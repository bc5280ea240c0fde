from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apilogs.rows import BODY_LIMIT_BYTES, COLUMNS, Entry, build_bodies, build_head, route_template
from apilogs.tests.factories import make_entry
from automation_lab.core import registry
from automation_lab.core.redaction.masks import live_secrets

LIVE_SECRET = "correct-horse-battery"


def build(entry: Entry) -> dict[str, object]:
    return dict(zip(COLUMNS, build_head(entry) + build_bodies(entry), strict=True))


@pytest.fixture
def live_secret() -> Iterator[str]:
    registry.secret_values.register("test of the API log", lambda: [LIVE_SECRET])
    live_secrets.refresh()
    yield LIVE_SECRET
    del registry.secret_values._entries["test of the API log"]
    live_secrets.refresh()


def test_headers_are_pairs_with_their_usual_names() -> None:
    row = build(make_entry(request_headers=[("HTTP_X_GITHUB_EVENT", "push"), ("CONTENT_TYPE", "text/plain")]))

    assert json.loads(row["request_headers"]) == [["X-Github-Event", "push"], ["Content-Type", "text/plain"]]


def test_credentials_in_headers_are_masked_by_name() -> None:
    request = [
        ("HTTP_AUTHORIZATION", "Bearer canary-1"),
        ("HTTP_COOKIE", "sessionid=canary-2"),
        ("HTTP_X_API_KEY", "canary-3"),
    ]
    row = build(make_entry(request_headers=request, response_headers=[("Set-Cookie", "sessionid=canary-4; Path=/")]))

    assert "canary" not in "".join(map(str, row.values()))
    assert ["Authorization", "Bearer [redacted]"] in json.loads(row["request_headers"])


def test_parameters_are_masked_by_name() -> None:
    row = build(make_entry(query="access_token=canary&page=2"))

    assert json.loads(row["query_params"]) == [["access_token", "[redacted]"], ["page", "2"]]


def test_a_live_secret_is_masked_wherever_it_turns_up(live_secret: str) -> None:
    body = json.dumps({"note": f"it is {live_secret}"}).encode()
    row = build(
        make_entry(
            path=f"/v1/x/{live_secret}",
            query=f"q={live_secret}&{live_secret}=1",
            request_headers=[("HTTP_USER_AGENT", live_secret), ("HTTP_X_NOTE", live_secret)],
            response_headers=[("Location", f"/v1/{live_secret}")],
            request_body=body,
            request_type="application/json",
            response_body=body,
        )
    )

    assert live_secret not in "".join(map(str, row.values()))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/callbacks/canary-token",
        "/v1//callbacks//canary-token",
        "/v1/callbacks/canary-token/x",
        "/approve/canary-token",
    ],
)
def test_the_token_in_a_callback_address_is_not_stored(path: str) -> None:
    assert "canary" not in build(make_entry(path=path))["path"]


def test_a_long_body_is_cut_with_a_note_of_its_length() -> None:
    row = build(make_entry(response_body=b"x" * 20_000, response_type="text/plain"))

    assert row["response_body"].startswith("x" * BODY_LIMIT_BYTES)
    assert "20,000 bytes" in row["response_body"]


def test_a_body_too_long_to_be_searched_for_secrets_is_not_kept() -> None:
    row = build(make_entry(request_body=b'{"password": "canary"}' + b" " * 300_000, request_type="application/json"))

    assert row["request_body"] == "[not kept, 300,022 bytes]"


def test_an_empty_body_differs_from_none() -> None:
    row = build(make_entry(request_body=b"", response_body=None))

    assert (row["request_body"], row["response_body"]) == ("", None)


@pytest.mark.parametrize(
    ("route", "template"),
    [
        ("v1/tasks/<int:pk>/executions", "/v1/tasks/{id}/executions"),
        ("v1/webhooks/inbox/<source:source>/<path:rest>", "/v1/webhooks/inbox/{source}/{rest}"),
        ("v1/^tasks/(?P<pk>[^/.]+)/runs/(?P<n>(a|b)+)$", "/v1/tasks/{id}/runs/{n}"),
        ("", ""),
    ],
)
def test_routes_become_templates(route: str, template: str) -> None:
    assert route_template(route).replace("^", "") == template


def test_what_does_not_fit_a_column_is_cut_or_left_out() -> None:
    row = build(make_entry(method="X" * 99, request_size=10**12, client_ip="unknown", path="/v1/" + "p" * 5000))

    assert (len(row["method"]), row["request_size"], row["client_ip"], len(row["path"])) == (16, 2**31 - 1, None, 2000)


@given(
    st.builds(
        make_entry,
        path=st.text(),
        query=st.text(),
        method=st.text(),
        username=st.text(),
        error=st.text(),
        request_headers=st.lists(st.tuples(st.text(), st.text(st.characters(exclude_categories=[])))),
        request_body=st.binary() | st.none(),
        request_type=st.text(),
    )
)
def test_any_request_becomes_a_row_that_postgresql_can_hold(entry: Entry) -> None:
    row = build(entry)

    text = "".join(value for value in row.values() if isinstance(value, str))
    assert "\0" not in text
    text.encode()  # no lone surrogates
    assert "\\u0000" not in row["request_headers"]
    json.loads(row["request_headers"])
