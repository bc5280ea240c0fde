"""The API behind the real web server: bodies and headers that test clients do not send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User

from automation_lab import tokens
from automation_lab.tests.raw_http import Answer, chunked, exchange, request
from automation_lab.tests.servers import Server, database_environment, granian_server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

MEBIBYTE = 1024 * 1024


@pytest.fixture
def server(transactional_db) -> Iterator[Server]:
    with granian_server() as running:
        yield running


@pytest.fixture
def plain(server) -> str:
    user = User.objects.create_superuser("root")
    return tokens.create_token(user=user, name="wire", expires_at=None)[1]


def secret_body(name: str, size: int = 0) -> bytes:
    return json.dumps({"name": name, "value": "x", "description": "d" * size}).encode()


def test_bodies_on_the_wire(server, plain):
    """One server for all cases: starting it takes longer than they do."""

    def post(*headers: str, body: bytes, content_type: str = "application/json") -> Answer:
        allowed = (f"Authorization: Bearer {plain}", f"Content-Type: {content_type}")
        return request(server.port, "POST", "/v1/secrets", headers=(*allowed, *headers), body=body)

    transfer = "Transfer-Encoding: chunked"
    small, large = secret_body("BOTH"), secret_body("LARGE", 900_000)
    cases = {
        "plain": (post(body=secret_body("PLAIN")), {201}),
        "chunked small": (post(transfer, body=chunked(secret_body("SMALL"))), {201}),
        "chunked 900 kB": (post(transfer, body=chunked(large, 7_000)), {201}),
        "chunked empty": (post(transfer, body=chunked(b"")), {400}),
        "over 2 MiB": (post(body=secret_body("OVER", 2 * MEBIBYTE)), {413}),
        "over 2 MiB chunked": (post(transfer, body=chunked(secret_body("OVER", 2 * MEBIBYTE))), {413}),
        "over 6 MiB": (post(body=secret_body("OVER", 6 * MEBIBYTE)), {413}),
        "length then chunked": (post(f"Content-Length: {len(small)}", transfer, body=chunked(small)), {400, 201}),
        "chunked then length": (post(transfer, f"Content-Length: {len(small)}", body=chunked(small)), {400, 201}),
        "broken chunk": (post(transfer, body=b"zz\r\n{}\r\n0\r\n\r\n"), {0, 400}),
        "gzip": (post("Content-Encoding: gzip", body=small), {415}),
        "text": (post(body=small, content_type="text/plain"), {415}),
        "no type": (post(body=small, content_type=""), {415}),
        "a charset": (post(body=secret_body("CHARSET"), content_type="application/json; charset=nope"), {201}),
    }

    assert {name: answer.status for name, (answer, wanted) in cases.items() if answer.status not in wanted} == {}
    for name, (answer, _) in cases.items():
        if answer.status >= 400 and answer.body:
            assert answer.headers["content-type"].startswith("application/problem+json"), name
    assert request(server.port, "GET", "/healthz").status == 200


def test_a_body_that_ends_early_stores_nothing(server, plain):
    head = (
        f"POST /v1/secrets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {plain}\r\n"
        "Content-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    )

    answer = exchange(server.port, head.encode() + secret_body("HALF"), hang_up=True)

    assert answer.status in (0, 400)
    listed = request(server.port, "GET", "/v1/secrets", headers=(f"Authorization: Bearer {plain}",))
    assert listed.json()["count"] == 0


def test_strange_tokens_are_401_on_the_wire_too(server):
    head = b"GET /v1/secrets HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "

    for token in (b"t\xf6ken", b"\xff\xfe\x80", b"x" * 10_000, b"", b"a b", b"lab_\xc3\xa4"):
        answer = exchange(server.port, head + token + b"\r\n\r\n")
        assert answer.status == 401, token[:10]
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_without_a_database_the_answer_is_a_503_that_says_when_to_try_again(tmp_path):
    nowhere = {**database_environment(), "DATABASE_URL": f"postgresql://lab@/lab?host={tmp_path}"}

    kinds = ["Authorization: Bearer lab_0"], [f"Cookie: sessionid={'a' * 32}", "Accept: text/html"]
    with granian_server(nowhere) as server, ThreadPoolExecutor() as pool:  # both wait for the connection pool
        asked = [pool.submit(request, server.port, "GET", "/v1/secrets", headers=tuple(kind)) for kind in kinds]
        by_token, by_browser = [answer.result() for answer in asked]

    assert (by_token.status, by_browser.status) == (503, 503)
    assert by_token.headers["retry-after"] == by_browser.headers["retry-after"] == "5"
    assert by_token.json()["type"].endswith("database_unavailable")
    assert by_browser.headers["content-type"].startswith("text/html")
