"""Redirects against real servers: every hop judged anew, nothing secret carried away."""

from __future__ import annotations

import contextlib

import pytest

from automation_lab.core.http import HttpClient, HttpError
from automation_lab.core.outbound import OutboundPolicy, parse_allow
from automation_lab.core.tests.servers import OK, Authority, StubServer, redirect


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def start(answer=OK, **options):
            server = StubServer(answer, **options)
            stack.callback(server.close)
            return server

        yield start


def opened(*servers, **options):
    return HttpClient(
        OutboundPolicy(allow=parse_allow(",".join(f"127.0.0.1:{server.port}" for server in servers))), **options
    )


def follow(client, server, method="GET", path="/", **options):
    return client.request(method, f"{server.url}{path}", follow_redirects=True, **options)


def failure(client, server, method="GET", **options):
    with pytest.raises(HttpError) as caught:
        follow(client, server, method, **options)
    return caught.value


def request_lines(server):
    return [request.split(b"\r\n")[0] for request in server.requests]


def by_path(answers):
    def answer(connection, request):
        connection.sendall(answers[request.split(b" ")[1].decode()])

    return answer


def test_a_redirect_is_an_answer_like_any_other_unless_following_is_asked_for(serve):
    server = serve(redirect(302, "/next"))

    answer = opened(server).request("GET", server.url)

    assert (answer.status_code, answer.header("location"), answer.redirects) == (302, "/next", 0)
    assert len(server.requests) == 1


def test_a_redirect_on_the_same_origin_keeps_the_secrets(serve):
    server = serve(by_path({"/": redirect(302, "/next?a=1"), "/next?a=1": OK}))

    answer = follow(opened(server), server, headers={"Authorization": "Bearer t"})

    assert (answer.status_code, answer.redirects, answer.url) == (200, 1, f"{server.url}/next?a=1")
    assert b"Authorization: Bearer t" in server.requests[1]


@pytest.mark.parametrize(
    ("number", "location", "rule"),
    [
        (107, "http://169.254.169.254/", "metadata"),
        (112, "//127.0.0.1/", "address.private"),
        (114, "file:///etc/passwd", "url.scheme"),
        (None, "http://user:pw@example.com/", "url.userinfo"),
        (None, "http://example.com:22/", "port.forbidden"),
        (None, "/a\\b", "url.characters"),
        (None, "/a\tb", "url.characters"),
    ],
    ids=lambda value: f"case-{value}" if isinstance(value, int) else "",
)
def test_a_redirect_to_a_denied_place_is_refused(serve, number, location, rule):
    server = serve(redirect(302, location))

    error = failure(opened(server), server)

    assert (error.code, error.rule) == ("authorization.ssrf", rule)
    assert error.request_sent, "the first hop was sent"
    assert len(server.requests) == 1


def test_case_108_a_body_is_never_repeated_at_another_origin(serve):
    other = serve()
    server = serve(redirect(307, f"{other.url}/"))

    error = failure(opened(server, other), server, "POST", content=b"body", headers={"Authorization": "Bearer t"})

    assert (error.code, error.retryable, error.request_sent) == ("runtime.redirects", False, True)
    assert other.connections == 0


def test_a_307_on_the_same_origin_repeats_method_and_body(serve):
    server = serve(by_path({"/": redirect(307, "/next"), "/next": OK}))

    follow(opened(server), server, "POST", content=b"body")

    assert request_lines(server)[1] == b"POST /next HTTP/1.1"
    assert server.requests[1].endswith(b"\r\n\r\nbody")


def test_secrets_do_not_leave_their_origin(serve):
    other = serve()
    server = serve(redirect(302, f"{other.url}/"))
    headers = {
        "Authorization": "Bearer t",
        "Cookie": "a=1",
        "Proxy-Authorization": "Basic x",
        "X-Api-Key": "k",
        "X-Hub-Signature-256": "s",
        "X-Tenant": "named by the caller",
        "X-Trace": "t-1",
    }

    follow(opened(server, other), server, headers=headers, secret_headers=frozenset({"X-Tenant"}))

    sent = other.requests[0].lower()
    assert b"x-trace: t-1" in sent
    for name in ("authorization", "cookie", "x-api-key", "x-hub-signature", "x-tenant"):
        assert name.encode() not in sent


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_becomes_a_get_without_its_body(serve, status):
    server = serve(by_path({"/": redirect(status, "/next"), "/next": OK}))

    follow(opened(server), server, "POST", content=b"body", headers={"Content-Type": "text/plain"})

    assert request_lines(server)[1] == b"GET /next HTTP/1.1"
    assert server.requests[1].endswith(b"\r\n\r\n")
    assert b"content-" not in server.requests[1].lower()


def test_case_109_https_never_leads_to_http(serve, tmp_path):
    authority = Authority()
    plain = serve()
    server = serve(redirect(302, f"{plain.url}/"), ssl_context=authority.server_context(tmp_path, ["127.0.0.1"]))

    error = failure(opened(server, plain, ssl_context=authority.trusting_context()), server)

    assert error.code == "runtime.redirects"
    assert plain.connections == 0


def test_case_110_a_loop_ends(serve):
    server = serve(redirect(302, "/"))

    assert failure(opened(server), server).code == "runtime.redirects"
    assert len(server.requests) == 6


def hops(count):
    answers = {f"/{number}": redirect(302, f"/{number - 1}") for number in range(1, count + 1)}
    return by_path({**answers, "/0": OK})


def test_case_111_five_hops_are_followed_and_the_sixth_is_not(serve):
    server = serve(hops(6))
    client = opened(server)

    assert follow(client, server, path="/5").redirects == 5
    with pytest.raises(HttpError, match="More than 5 redirects"):
        follow(client, server, path="/6")


def test_case_113_a_location_with_a_line_break_is_refused(serve):
    server = serve(b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1/\rX-A: b\r\nContent-Length: 0\r\n\r\n")

    error = failure(opened(server), server)

    assert error.code in {"communication.protocol", "authorization.ssrf"}
    assert len(server.requests) == 1


def test_a_location_that_is_no_url_is_refused(serve):
    server = serve(redirect(302, "http://[zz/"))

    assert failure(opened(server), server).code in {"runtime.redirects", "authorization.ssrf"}
