from __future__ import annotations

import json

import pytest
from django.db import IntegrityError

from automation_lab.core.api.problems import describe, flatten
from workflows.models import Workflow

pytestmark = [pytest.mark.django_db, pytest.mark.urls("automation_lab.core.tests.api_urls")]


def post(api, raw: bytes, content_type: str = "application/json", **extra):
    return api.generic("POST", "/v1/echo", raw, content_type=content_type, **extra)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("invalid", 400, "url"),
        ("django", 400, "invalid"),
        ("refused", 403, "refused"),
        ("not_found", 404, "not_found"),
        ("conflict", 409, "conflict"),
        ("throttled", 429, "throttled"),
        ("database", 503, "database_unavailable"),
    ],
)
def test_every_error_is_a_problem_document(api, kind, status, code):
    answer = api.post(f"/v1/echo?raise={kind}", {})

    body = answer.json()
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["Cache-Control"] == "no-store"
    assert body["status"] == status
    assert body["type"] == f"urn:automation-lab:problem:{code}"
    assert body["instance"] == "/v1/echo"
    assert body["title"]
    assert "secret" not in answer.content.decode()


def test_a_field_error_keeps_its_path(api):
    error = api.post("/v1/echo?raise=invalid", {}).json()["errors"][0]

    assert error == {"field": "config.url", "code": "url", "detail": "No."}


def test_errors_worth_a_repeat_say_when(api):
    assert api.post("/v1/echo?raise=throttled", {})["Retry-After"] == "7"
    assert api.post("/v1/echo?raise=database", {})["Retry-After"] == "5"


def test_nested_errors_have_paths(api):
    answer = api.patch("/v1/echo", {"points": [{"x": 1}, {"x": "2", "y": 3}]})

    assert answer.status_code == 400
    assert sorted(error["field"] for error in answer.json()["errors"]) == ["points[1].x", "points[1].y"]


def test_flatten_knows_lists_and_general_errors():
    nested = {"a": {"b": [{}, {"c": ["bad"]}]}, "non_field_errors": ["worse"], "list": {0: ["first"]}}

    assert [(item["field"], item["detail"]) for item in flatten(nested)] == [
        ("a.b[1].c", "bad"),
        ("", "worse"),
        ("list[0]", "first"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"a": 1} x',
        b'{"a": NaN}',
        b'{"a": 1e400}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\x00"}',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 1_000 + b"1" + b"}" * 1_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        b" ",
    ],
)
def test_json_that_is_not_exact_is_a_400(api, raw):
    assert post(api, raw).status_code == 400


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "//;;=", "x", ""],
)
def test_a_body_of_another_type_is_a_415(api, content_type):
    answer = post(api, b"a=1", content_type)

    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=nope", "APPLICATION/JSON;charset=utf-8"]
)
def test_json_is_utf_8_whatever_the_charset_says(api, content_type):
    # Django's client encodes by the charset, so the bytes go in by hand.
    answer = api.generic("POST", "/v1/echo", b"", CONTENT_TYPE=content_type)

    assert answer.json()["data"] == {}


def test_a_compressed_body_is_a_415(api):
    assert post(api, b"\x1f\x8b", HTTP_CONTENT_ENCODING="gzip").status_code == 415
    assert post(api, b"{}", HTTP_CONTENT_ENCODING="identity").status_code == 200


def test_a_body_over_two_mebibytes_is_a_413(api):
    at_limit = json.dumps({"a": "x" * (2 * 1024 * 1024 - 9)}).encode()

    assert len(at_limit) == 2 * 1024 * 1024
    assert post(api, at_limit).status_code == 200
    assert post(api, at_limit + b" ").status_code == 413


def test_a_chunked_body_is_read(api):
    answer = post(api, b"", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="", **chunks(b'{"a": 1}'))

    assert answer.json() == {"data": {"a": 1}, "has_content": True}


def test_a_chunked_body_with_a_length_or_without_an_end_is_refused(api):
    both = post(api, b"", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="8", **chunks(b'{"a": 1}'))
    endless = post(api, b"", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="")

    assert both.status_code == 400
    assert endless.status_code == 411


def chunks(body: bytes) -> dict[str, object]:
    import io

    return {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}


def test_an_action_needs_no_body_and_an_object_does(api):
    assert api.post("/v1/echo").json() == {"data": {}, "has_content": False}
    refused = api.post("/v1/things")
    assert refused.status_code == 400
    assert refused.json()["type"].endswith("empty_body")


@pytest.mark.parametrize("body", ["[]", '"text"', "1", "null", "true"])
def test_an_object_is_an_object(api, body):
    assert api.generic("POST", "/v1/things", body, content_type="application/json").status_code == 400


def test_unknown_methods_and_formats(api):
    assert api.put("/v1/things").status_code == 405
    assert api.generic("FOO", "/v1/things").status_code == 405
    assert api.get("/v1/things", HTTP_ACCEPT="text/csv").status_code == 406
    assert api.get("/v1/things?format=yaml").status_code == 404


def test_a_method_or_format_that_is_not_there_is_refused_with_those_that_are(api):
    method = api.put("/v1/things").json()
    format_ = api.get("/v1/things", HTTP_ACCEPT="text/csv").json()

    assert method["detail"] == "PUT is not possible here; GET, POST, HEAD, OPTIONS are."
    assert format_["detail"] == "The Accept header asks for none of application/json, text/html."


def test_a_request_without_a_token_is_told_what_to_send(anonymous_api):
    answer = anonymous_api.get("/v1/things")

    assert answer.status_code == 401
    assert answer.json()["detail"] == "Send Authorization: Bearer <token>, or sign in to the console."


def test_addresses_without_a_view_are_problems_below_v1_and_pages_elsewhere(api):
    assert api.get("/v1/nothing").json()["type"] == "urn:automation-lab:problem:not_found"
    assert "/docs" in api.get("/v1/").json()["detail"]
    page = api.get("/nothing")
    assert page.status_code == 404
    assert b"<h1>Not Found</h1>" in page.content


def test_an_error_of_ours_is_a_500_problem_that_says_nothing_more(api, caplog):
    api.raise_request_exception = False

    answer = api.post("/v1/echo?raise=bug", {})

    assert answer.status_code == 500
    assert answer["Content-Type"] == "application/problem+json"
    assert "secret" not in answer.content.decode()
    assert "RuntimeError" in caplog.text


def test_a_bad_host_is_a_400_problem(api, settings):
    settings.ALLOWED_HOSTS = ["lab.example"]

    answer = api.get("/v1/things", HTTP_HOST="evil.example")

    assert answer.status_code == 400
    assert "ALLOWED_HOSTS" in answer.json()["detail"]


def test_a_taken_name_is_a_400_and_a_race_for_it_a_409(api, monkeypatch):
    Workflow.objects.create(name="one")

    taken = api.post("/v1/things", {"name": "one"})

    assert taken.status_code == 400
    assert taken.json()["errors"][0]["code"] == "unique"
    assert describe(IntegrityError("duplicate key"))[0] == 409


def test_a_missing_instance_is_escaped():
    from automation_lab.core.api.problems import problem

    assert problem(status=404, detail="x", code="x", path="/v1/ä b")["instance"] == "/v1/%C3%A4%20b"
