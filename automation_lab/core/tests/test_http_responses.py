"""What targets can answer, against real servers: bounded, decoded, never trusted."""

from __future__ import annotations

import base64
import contextlib
import gzip
import time
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from automation_lab.core.http import HttpClient, HttpError, HttpResponse
from automation_lab.core.http.decoding import BoundedBody, TooLarge
from automation_lab.core.outbound import OutboundPolicy, parse_allow
from automation_lab.core.tests.servers import OK, Authority, StubServer, response

MEBIBYTE = 1024 * 1024


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def start(answer=OK, **options):
            server = StubServer(answer, **options)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="module")
def authority():
    return Authority()


def opened(server, host="127.0.0.1", **options):
    return HttpClient(OutboundPolicy(allow=parse_allow(f"{host}:{server.port}")), **options)


def get(server, **options):
    return opened(server).request("GET", server.url, **options)


def failure(server, **options):
    with pytest.raises(HttpError) as caught:
        get(server, **options)
    return caught.value


def made(body=b"", **headers):
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpResponse(status_code=200, headers=pairs, body=body, elapsed_ms=1, url="", address="")


def test_case_115_a_page_that_refreshes_is_not_followed(serve):
    page = b'<meta http-equiv="refresh" content="0;url=http://169.254.169.254/">'
    server = serve(response(200, [("Content-Type", "text/html")], page))

    assert get(server, follow_redirects=True).body == page
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"hello " * 1000)),
        ("x-gzip", gzip.compress(b"hello " * 1000)),
        ("gzip", gzip.compress(b"hello " * 400) + gzip.compress(b"hello " * 600)),
        ("deflate", zlib.compress(b"hello " * 1000)),
        ("deflate", zlib.compress(b"hello " * 1000, wbits=-15)),
        ("identity", b"hello " * 1000),
    ],
    ids=["gzip", "x-gzip", "two gzip members", "deflate", "bare deflate", "identity"],
)
def test_an_encoded_body_is_decoded(serve, encoding, body):
    server = serve(response(200, [("Content-Encoding", encoding)], body))

    assert get(server).body == b"hello " * 1000


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_case_117_a_bomb_is_stopped_at_the_limit(serve, encoding):
    packed = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(packed.compress(b"\0" * MEBIBYTE) for _ in range(200)) + packed.flush()
    server = serve(response(200, [("Content-Encoding", encoding)], bomb))

    error = failure(server)

    assert (error.code, error.retryable, error.request_sent) == ("runtime.too_large", False, True)


def test_decoding_never_holds_more_than_one_byte_above_the_limit():
    body = BoundedBody("gzip", 1000)

    with pytest.raises(TooLarge):
        body.feed(gzip.compress(b"\0" * 50 * MEBIBYTE))

    assert len(body._body) == 1001


def test_compressed_bytes_that_hold_nothing_are_bounded_too():
    body = BoundedBody("gzip", 1000)

    with pytest.raises(TooLarge):
        for _ in range(10_000):
            body.feed(gzip.compress(b""))


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"hello " * 1000)[:-9]], ids=["wrong", "cut off"])
def test_a_body_that_is_not_what_its_encoding_says_is_an_error(serve, body):
    server = serve(response(200, [("Content-Encoding", "gzip")], body))

    assert failure(server).code == "communication.protocol"


def test_an_encoding_that_was_not_asked_for_is_left_as_it_is(serve):
    server = serve(response(200, [("Content-Encoding", "br")], b"\x8b\x00\x80"))

    assert get(server).body == b"\x8b\x00\x80"


def endless_headers(connection, request):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(1_000_000):
        connection.sendall(f"X-{number}: {'a' * 100}\r\n".encode())


def test_case_118_headers_without_an_end_are_cut_off(serve):
    server = serve(endless_headers)

    assert failure(server).code == "runtime.too_large"


def test_more_than_a_hundred_header_fields_are_refused(serve):
    server = serve(response(200, [(f"X-{number}", "a") for number in range(100)]))

    assert failure(server).code == "runtime.too_large"


def test_case_119_a_flood_of_interim_responses_is_cut_off(serve):
    server = serve(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + OK)

    assert failure(server).code == "communication.protocol"


def test_a_few_interim_responses_are_skipped(serve):
    server = serve(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + OK)

    assert get(server).body == b"ok"


def test_case_120_a_body_shorter_than_declared_is_an_error(serve):
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")

    error = failure(server)

    assert (error.code, error.retryable, error.request_sent) == ("communication.reset", True, True)


def test_case_120_nothing_is_read_past_the_declared_length(serve):
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    assert get(server).body == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ],
    ids=["case-121", "two lengths", "negative length", "not HTTP", "switches"],
)
def test_an_answer_that_is_not_valid_http_is_an_error(serve, answer):
    server = serve(answer)

    error = failure(server)

    assert (error.code, error.request_sent) == ("communication.protocol", True)


def test_a_connection_closed_without_an_answer_may_have_had_an_effect(serve):
    server = serve(b"")

    error = failure(server)

    assert (error.code, error.retryable, error.request_sent) == ("communication.reset", True, True)


def huge_body(sent):
    def answer(connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(200):
            connection.sendall(b"a" * MEBIBYTE)
            sent.append(MEBIBYTE)

    return answer


def test_case_122_a_huge_body_is_not_read_to_its_end(serve):
    sent = []
    server = serve(huge_body(sent))

    error = failure(server)
    server.close()

    assert error.code == "runtime.too_large"
    assert sum(sent) < 40 * MEBIBYTE


def test_a_body_declared_too_long_is_refused_before_it_is_read(serve):
    def declare(connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n")
        connection.recv(1)

    started = time.monotonic()

    assert failure(serve(declare)).code == "runtime.too_large"
    assert time.monotonic() - started < 5


def test_the_limit_is_the_callers(serve):
    server = serve(response(200, [], b"a" * 11))

    assert get(server, max_bytes=11).body == b"a" * 11
    assert failure(server, max_bytes=10).code == "runtime.too_large"


def test_a_head_request_declares_a_length_and_has_no_body(serve):
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\nContent-Encoding: gzip\r\n\r\n")

    assert opened(server).request("HEAD", server.url).body == b""


# Reading a response.


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=x-unknown", "\u00fc".encode(), "\u00fc"),
        ("text/plain; charset=idna", "\u00fc".encode(), "\u00fc"),
        ("text/plain; charset=hex", b"6f", "6f"),
        ("text/plain; charset=iso-8859-1", b"\xfc", "\u00fc"),
        ('text/plain; charset="utf-16"', "\u00fc".encode("utf-16"), "\u00fc"),
        ("text/plain", b"\xff", "\ufffd"),
        ("", b"plain", "plain"),
    ],
)
def test_case_123_text_is_read_whatever_charset_is_named(content_type, body, text):
    assert made(body, content_type=content_type).text == text


@pytest.mark.parametrize(
    ("content_type", "body", "parsed"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/problem+json; charset=utf-8", b"[null]", [None]),
        ("application/json", b"NaN", "NaN"),
        ("application/json", b"{broken", "{broken"),
        ("application/json", b"", ""),
        ("text/plain", b'{"a": 1}', '{"a": 1}'),
        ("text/plain; charset=iso-8859-1", b"\xfc", "\u00fc"),
        ("text/plain; charset=x-unknown", b"abc", "abc"),
        ("application/octet-stream", b"\x00\xff", base64.b64encode(b"\x00\xff").decode()),
        ("image/png", b"\x89PNG\x00", base64.b64encode(b"\x89PNG\x00").decode()),
        ("text/plain", b"a\x00b", base64.b64encode(b"a\x00b").decode()),
    ],
)
def test_a_body_is_parsed_by_its_type(content_type, body, parsed):
    assert made(body, content_type=content_type).parsed_body == parsed


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), ("0", 0.0), ("999999", 3600.0), ("-5", None), ("soon", None), ("", None), ("1.5", None)],
)
def test_retry_after_in_seconds_is_capped(value, seconds):
    assert made(Retry_After=value).retry_after == seconds


def test_retry_after_may_be_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)

    assert 55 < made(Retry_After=later).retry_after <= 60
    assert made(Retry_After=past).retry_after == 0.0


def test_a_response_does_not_show_its_contents():
    shown = repr(made(b"secret-body", set_cookie="secret-cookie"))

    assert "secret" not in shown


# TLS.


def secured(serve, authority, folder, names, **options):
    return serve(OK, ssl_context=authority.server_context(folder, names, **options))


def test_a_valid_certificate_is_accepted_for_a_name_on_a_pinned_address(serve, authority, tmp_path):
    server = secured(serve, authority, tmp_path, ["stub.example"])
    client = opened(server, "stub.example", resolver=lambda *_: ["127.0.0.1"], ssl_context=authority.trusting_context())

    answer = client.request("GET", f"https://stub.example:{server.port}/")

    assert (answer.body, answer.address) == (b"ok", "127.0.0.1")
    assert f"Host: stub.example:{server.port}".encode() in server.requests[0]


@pytest.mark.parametrize(
    ("names", "options"),
    [(["127.0.0.1"], {"days": (-2, -1)}), (["other.example"], {})],
    ids=["case-124-expired", "case-124-wrong-name"],
)
def test_a_wrong_certificate_is_refused_before_anything_is_sent(serve, authority, tmp_path, names, options):
    server = secured(serve, authority, tmp_path, names, **options)
    client = opened(server, ssl_context=authority.trusting_context())

    with pytest.raises(HttpError) as caught:
        client.request("GET", server.url, headers={"Authorization": "Bearer t"})

    assert (caught.value.code, caught.value.retryable) == ("communication.tls", False)
    assert not caught.value.request_sent
    assert server.requests == []


def test_case_124_an_unknown_authority_is_refused_unless_checking_is_off(serve, authority, tmp_path):
    server = secured(serve, authority, tmp_path, ["other.example"])

    error = failure(server)

    assert (error.code, error.request_sent) == ("communication.tls", False)
    assert get(server, verify_tls=False).body == b"ok"


def test_a_target_that_speaks_no_tls_is_a_tls_error(serve):
    server = serve(b"220 mail.example ESMTP\r\n", speaks_first=True)

    with pytest.raises(HttpError) as caught:
        opened(server).request("GET", server.url.replace("http:", "https:"))

    assert (caught.value.code, caught.value.retryable, caught.value.request_sent) == ("communication.tls", True, False)


def test_the_deadline_also_ends_a_handshake_that_hangs(serve):
    def hang(connection, request):
        connection.recv(1)

    server = serve(hang)

    with pytest.raises(HttpError) as caught:
        opened(server).request("GET", server.url.replace("http:", "https:"), timeout_seconds=0.3)

    assert caught.value.code in {"timeout.connect", "timeout.read"}
