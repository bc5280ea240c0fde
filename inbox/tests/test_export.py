from __future__ import annotations

import base64
import csv
import io
import json
import os
import subprocess
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from automation_lab.core.tests.servers import StubServer, response
from inbox import export
from inbox.models import Webhook
from inbox.serializers import LIST_FIELDS
from inbox.streaming import portions
from inbox.tests.factories import WebhookFactory

pytestmark = pytest.mark.django_db
EXPORT = "/v1/webhooks/inbox/export"


def exported(api, query=""):
    response = api.get(f"{EXPORT}?{query}")
    assert response.status_code == 200, response.content
    return response["Content-Type"], b"".join(response.streaming_content).decode()


def test_the_json_export_is_one_list_newest_first(api):
    ids = [webhook.pk for webhook in WebhookFactory.create_batch(3)]

    content_type, text = exported(api)

    rows = json.loads(text)
    assert content_type == "application/json; charset=utf-8"
    assert [row["id"] for row in rows] == ids[::-1]
    assert set(rows[0]) == set(LIST_FIELDS)


def test_an_empty_export_is_an_empty_list(api):
    assert json.loads(exported(api)[1]) == []


def test_bodies_come_when_they_are_asked_for_with_credentials_masked(api):
    headers = [["Authorization", "Basic dTpw"], ["X-Hub-Signature-256", "sha256=ab"]]
    WebhookFactory(raw_body=b'{"a": "\xc3\xbc"}', headers=headers)
    WebhookFactory(raw_body=b"\xff\x00")

    binary, text = (json.loads(line) for line in exported(api, "format=ndjson&include_bodies=true")[1].splitlines())

    assert (binary["raw_body"], binary["raw_body_encoding"]) == (base64.b64encode(b"\xff\x00").decode(), "base64")
    assert (text["raw_body"], text["raw_body_encoding"]) == ('{"a": "ü"}', "utf-8")
    assert text["headers"] == [["Authorization", "Basic [redacted]"], ["X-Hub-Signature-256", "sha256=ab"]]


def test_no_cell_of_the_csv_export_is_a_formula(api):
    WebhookFactory(event_type="=cmd|' /C calc'!A0", delivery_id="+1", notes="-1", source="github")

    content_type, text = exported(api, "format=csv&include_bodies=true")

    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert content_type == "text/csv; charset=utf-8"
    assert list(row) == export.fields(with_bodies=True)
    assert (row["event_type"][0], row["delivery_id"], row["notes"]) == ("'", "'+1", "'-1")
    assert (row["flags"], row["duplicate_of"]) == ("[]", "")


def test_the_export_takes_the_filters_of_the_list(api):
    wanted = WebhookFactory(source="gitlab", body={"a": 1}, raw_body=b'{"a": 1}')
    WebhookFactory(source="gitlab", body={"a": 2})
    WebhookFactory(body={"a": 1})

    assert [row["id"] for row in json.loads(exported(api, "source=gitlab&body.a=1&q=a")[1])] == [wanted.pk]


def test_a_range_of_time_is_exported_in_the_order_of_time(api, monkeypatch):
    monkeypatch.setattr(export, "PAGE_ROWS", 2)
    now = timezone.now()
    ages = [3, 1, 2, 2, 9]
    ids = [WebhookFactory(received_at=now - timedelta(hours=age)).pk for age in ages]
    since = (now - timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%SZ")

    rows = json.loads(exported(api, f"received_after={since}")[1])

    assert [row["id"] for row in rows] == [ids[1], ids[3], ids[2], ids[0]]


@pytest.mark.parametrize(
    "query", ["format=xml", "include_bodies=perhaps", "ordering=id", "page=2", "sorce=x", "size=1"]
)
def test_an_export_that_cannot_be_made_is_refused(api, query):
    assert api.get(f"{EXPORT}?{query}").status_code == 400


def test_the_list_does_not_take_what_only_the_export_takes(api):
    assert api.get("/v1/webhooks/inbox?include_bodies=true").status_code == 400


def test_nobody_exports_without_signing_in(anonymous_api):
    assert anonymous_api.get(EXPORT).status_code == 401


# --- memory -----------------------------------------------------------------------------------------------------------


def test_an_export_reads_page_after_page_and_each_row_once(api, monkeypatch):
    monkeypatch.setattr(export, "PAGE_ROWS", 10)
    ids = [webhook.pk for webhook in WebhookFactory.create_batch(25)]

    with CaptureQueriesContext(connection) as queries:
        content = api.get(f"{EXPORT}?format=ndjson").streaming_content
        before = len(queries)
        first = next(content)
        after_first = len(queries)
        rest = b"".join(content)

    assert after_first - before == 2  # keys, rows
    assert len(queries) - before == 6
    assert [json.loads(line)["id"] for line in (first + rest).splitlines()] == ids[::-1]


def test_large_bodies_are_read_a_few_at_a_time(api, monkeypatch):
    monkeypatch.setattr(portions, "MOST_BYTES", 25)
    for size in (10, 10, 10, 100, 10):
        WebhookFactory(raw_body=b"x" * size)

    pages = export.pages(Webhook.objects.all(), by_time=False, with_bodies=True)

    assert [[row["size_bytes"] for row in page] for page in pages] == [[10], [100], [10, 10], [10]]


def test_rows_that_come_meanwhile_shift_nothing(api, monkeypatch):
    monkeypatch.setattr(export, "PAGE_ROWS", 2)
    ids = [webhook.pk for webhook in WebhookFactory.create_batch(4)]
    pages = export.pages(Webhook.objects.all(), by_time=False, with_bodies=False)

    first = next(pages)
    WebhookFactory()
    Webhook.objects.filter(pk=ids[1]).delete()
    rest = [row["id"] for page in pages for row in page]

    assert [row["id"] for row in first] + rest == [ids[3], ids[2], ids[0]]


# --- curl -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not any(os.access(f"{path}/curl", os.X_OK) for path in os.get_exec_path()), reason="needs curl")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"a": "it\'s $HOME `id` \\n"}',
        b"@/etc/passwd",
        b"line\r\nline\n",
        b"\x00\xff binary",
        b"nul \x00",
        b"x" * 150_000,
        "ü".encode(),
    ],
    ids=["empty", "quotes", "file", "lines", "binary", "nul", "long", "text"],
)
def test_a_curl_command_sends_the_same_request(api, settings, body):
    server = StubServer(response(200))
    settings.PUBLIC_URL = server.url
    WebhookFactory(
        method="PUT",
        path="/v1/webhooks/inbox/github/a b",
        query_string="a=%20b&c=%27",
        headers=[["X-A", "it's; $(id)"], ["X-Empty", ""], ["Host", "old"], ["Content-Length", "1"]],
        raw_body=body,
    )

    script = exported(api, "format=curl")[1]
    subprocess.run(["/bin/sh"], input=script.encode(), check=True, capture_output=True, timeout=20)
    server.close()

    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /v1/webhooks/inbox/github/a%20b?a=%20b&c=%27 HTTP/1.1\r\n")
    assert b"\r\nX-A: it's; $(id)\r\nX-Empty:\r\n" in head + b"\r\n"
    assert b"application/x-www-form-urlencoded" not in head
    assert sent == body


@pytest.mark.parametrize(
    ("public_url", "origin"), [("", "http://lab.example.com:8131"), ("https://hooks.example.com", None)]
)
def test_the_commands_go_to_the_lab_that_was_asked(api, settings, public_url, origin):
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS = public_url, ["lab.example.com"]
    WebhookFactory(path="/v1/webhooks/inbox/github")

    exported = api.get(f"{EXPORT}?format=curl", headers={"host": "lab.example.com:8131"})

    script = b"".join(exported.streaming_content).decode()
    assert f" {origin or public_url}/v1/webhooks/inbox/github" in script
