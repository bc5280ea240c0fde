"""What senders really send, byte by byte, to the real server: stored exactly or refused, and nothing breaks the lists."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from automation_lab import tokens
from automation_lab.tests.raw_http import chunked, exchange, request
from automation_lab.tests.servers import granian_server
from inbox.models import Webhook

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

LIMIT = settings.INBOX_MAX_BODY_BYTES
PATH = "/v1/webhooks/inbox/github"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
MAYBE_INCOMPLETE = ("maybe_incomplete", "not_json")
ALL_BYTES = bytes(range(256))
MULTIPART = (
    b'--xx\r\nContent-Disposition: form-data; name="f"; filename="../../a.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\n" + ALL_BYTES + b"\r\n--xx--\r\n"
)


@dataclass(frozen=True)
class Case:
    """One request. `flags` are those of the stored webhook, `stored` its body when it differs from what is sent."""

    name: str
    body: bytes = b""
    headers: tuple[str, ...] = (JSON,)
    status: int = 201
    flags: tuple[str, ...] = ()
    stored: bytes | None = None
    hang_up: bool = False


CASES = [
    Case("plain JSON", b'{"a": [1, 2.5, true, null, "\xc3\xa9"]}'),
    Case("empty", flags=("empty",)),
    Case("length 0", headers=("Content-Length: 0",), flags=("empty",)),
    Case("every byte", ALL_BYTES, ("Content-Type: application/octet-stream",), flags=("not_json",)),
    Case("every byte without a type", ALL_BYTES[1:], (), flags=("invalid_utf8",)),
    Case("NUL in JSON", b'{"a\\u0000": "\\u0000"}', flags=("nul_replaced",)),
    Case("raw NUL in JSON", b'{"a": "\0"}', flags=("not_json",)),
    Case("lone surrogate in JSON", b'{"a": "\\ud800"}', flags=("surrogate_replaced",)),
    Case("duplicate keys", b'{"a": 1, "a": 2}', flags=("duplicate_keys",)),
    Case("NaN", b'{"a": NaN}', flags=("non_finite",)),
    Case("1e400", b'{"a": 1e400}', flags=("non_finite",)),
    Case("5,000 digits", b'{"a": ' + b"9" * 5000 + b"}", flags=("big_integer",)),
    Case("4,000 digits", b'{"a": ' + b"9" * 4000 + b"}"),
    Case("100,000 deep", b"[" * 100_000 + b"]" * 100_000, flags=("too_deep",)),
    Case("UTF-8 with BOM", b'\xef\xbb\xbf{"a": 1}', flags=("utf8_bom",)),
    Case("UTF-16", '{"a": 1}'.encode("utf-16"), flags=("utf16",)),
    Case("invalid UTF-8", b'{"a": "\xff"}', flags=("invalid_utf8",)),
    Case("form", b"a=1&a=2&b=%00", ("Content-Type: application/x-www-form-urlencoded",), flags=("not_json",)),
    Case("multipart with a file", MULTIPART, ("Content-Type: multipart/form-data; boundary=xx",), flags=("not_json",)),
    Case("HTML", b"<script>alert(1)</script>", ("Content-Type: text/html",), flags=("not_json",)),
    Case("gzip", gzip.compress(b"{}", mtime=0), (JSON, "Content-Encoding: gzip"), flags=("invalid_utf8",)),
    Case("unknown charset", b'{"a": 1}', ("Content-Type: application/json; charset=nope",)),
    Case("Latin-1 header", b"{}", (JSON, "X-Note: caf\xe9")),
    Case("long content type", b"{}", ("Content-Type: " + "x" * 300,), flags=("content_type_cut",)),
    Case("small chunked", chunked(b'{"a": 1}', 3), (JSON, CHUNKED), stored=b'{"a": 1}'),
    Case("900 kB chunked", chunked(b"x" * 900_000), (CHUNKED,), stored=b"x" * 900_000, flags=MAYBE_INCOMPLETE),
    Case("at the limit", b"x" * LIMIT, (), flags=("not_json",)),
    Case("at the limit, chunked", chunked(b"x" * LIMIT), (CHUNKED,), stored=b"x" * LIMIT, flags=MAYBE_INCOMPLETE),
    Case("one byte over the limit", b"x" * (LIMIT + 1), (), status=413),
    Case("one byte over the limit, chunked", chunked(b"x" * (LIMIT + 1)), (CHUNKED,), status=413),
    Case("understated length", b'{"a": 1}, and more', (JSON, "Content-Length: 8"), stored=b'{"a": 1}'),
    Case("overstated length", b'{"a": 1}', (JSON, "Content-Length: 20"), status=400, hang_up=True),
    Case("broken off before a chunk", b"14\r\n", (JSON, CHUNKED), status=400, hang_up=True),
    Case("broken off in a chunk", b'14\r\n{"a": 1', (JSON, CHUNKED), stored=b'{"a": 1', flags=MAYBE_INCOMPLETE, hang_up=True),
    Case("length and chunked", chunked(b'{"a": 1}'), (JSON, "Content-Length: 5", CHUNKED), stored=b'{"a": 1}'),
    Case("malformed chunk", b'zz\r\n{"a": 1}\r\n0\r\n\r\n', (JSON, CHUNKED), status=400),
    Case("negative length", b"{}", (JSON, "Content-Length: -2"), status=400),
    Case("200 headers", b"{}", (JSON, *(f"X-Filler-{number}: v" for number in range(200))), status=431),
    Case("90 headers of 400 characters", b"{}", tuple(f"X-{n}: " + "v" * 400 for n in range(90)), flags=("headers_truncated",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), granian_server() as running:
        yield running


@pytest.fixture
def readers():
    """The headers of an API client and of a person with a browser."""
    user = User.objects.create_superuser("pat")
    _, token = tokens.create_token(user=user, name="tests", expires_at=None)
    browser = Client()
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return (
        (f"Authorization: Bearer {token}",),
        ("Accept: text/html", f"Cookie: sessionid={browser.cookies['sessionid'].value}"),
    )


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_request_is_stored_exactly_or_refused_and_the_lists_still_open(server, readers, case):
    framed = any(header.startswith(("Content-Length", "Transfer-Encoding")) for header in case.headers)
    length = () if framed or not case.body else (f"Content-Length: {len(case.body)}",)
    head = "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: localhost", "Connection: close", *case.headers, *length])

    answer = exchange(server.port, head.encode("latin-1") + b"\r\n\r\n" + case.body, hang_up=case.hang_up)

    assert answer.status == case.status, (answer, server.log)
    if case.status != 201:
        assert not Webhook.objects.exists()
    else:
        webhook = Webhook.objects.get()
        assert answer.json() == {"id": webhook.pk, "status": "received", "duplicate": False}
        assert bytes(webhook.raw_body) == (case.body if case.stored is None else case.stored)
        assert webhook.flags == sorted(case.flags)
        assert_readable(server, readers, webhook)
    assert [request(server.port, "GET", "/v1/webhooks/inbox", headers=reader).status for reader in readers] == [
        200,
        200,
    ]


def assert_readable(server, readers, webhook):
    api, browser = readers
    detail = f"/v1/webhooks/inbox/{webhook.pk}"
    raw = request(server.port, "GET", f"{detail}/raw", headers=api)
    assert (raw.status, raw.body) == (200, bytes(webhook.raw_body))
    assert raw.headers["content-type"] == (webhook.content_type or "application/octet-stream")
    assert request(server.port, "GET", detail, headers=api).json()["body"] == webhook.body
    assert request(server.port, "GET", detail, headers=browser).status == 200, server.log


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("POST /v1/webhooks/inbox/github/%FF", 201),
        ("POST /v1/webhooks/inbox/github/%00", 201),
        ("POST /v1/webhooks/inbox/github/%0A", 201),
        ("POST /v1/webhooks/inbox/github/%ED%A0%80", 201),
        ("POST /v1/webhooks/inbox/github/../../../admin/", 201),
        ("POST /v1/webhooks/inbox/github?x=%00&x=%ff", 201),
        ("POST /v1/webhooks/inbox/github?" + "a&" * 5000, 201),
        ("POST http://elsewhere.example/v1/webhooks/inbox/github", 201),
        ("OPTIONS /v1/webhooks/inbox/github", 204),
        ("HEAD /v1/webhooks/inbox/github", 200),
        ("FOO /v1/webhooks/inbox/github", 405),
        ("POST /v1/webhooks/inbox/github%0A", 404),
        ("POST /v1/webhooks/inbox/", 404),
        ("POST /v1/webhooks/inbox/github/\xff", 400),
        ("POST /v1/webhooks/inbox/github/" + "a" * 70_000, 414),
    ],
)
def test_odd_request_lines_are_received_or_refused(server, readers, line, status):
    method, path = line.split(" ", 1)

    assert request(server.port, method, path).status == status, server.log

    assert request(server.port, "GET", "/v1/webhooks/inbox", headers=readers[0]).json()["count"] == (status < 300)
