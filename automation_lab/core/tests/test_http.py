"""The outbound client: look-ups, pinning, the request it sends, deadlines and cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time

import httpcore
import pytest

from automation_lab.core import http
from automation_lab.core.cancellation import Cancellation
from automation_lab.core.http import HttpClient, HttpError, transport
from automation_lab.core.outbound import Blocked, OutboundPolicy, check_url, parse_allow
from automation_lab.core.tests.servers import OK, StubServer, response


class FakeNetwork:
    """A resolver with scripted answers and a connector that reaches nothing."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.lookups = 0
        self.connects = []

    def resolve(self, host, port):
        self.lookups += 1
        return self.answers[min(self.lookups, len(self.answers)) - 1]

    async def connect(self, address, port, seconds):
        self.connects.append(address)
        raise httpcore.ConnectError("nothing listens here")


def failure(client, url="http://name.example/", method="GET", **options):
    with pytest.raises(HttpError) as caught:
        client.request(method, url, **options)
    return caught.value


def guarded(network):
    return HttpClient(OutboundPolicy(), resolver=network.resolve, connector=network.connect)


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def start(answer=OK, **options):
            server = StubServer(answer, **options)
            stack.callback(server.close)
            return server

        yield start


def opened(*servers, names=(), **options):
    """A client that may reach exactly these servers, by address and by `names`."""
    entries = [f"{host}:{server.port}" for server in servers for host in ("127.0.0.1", *names)]
    return HttpClient(OutboundPolicy(allow=parse_allow(",".join(entries))), **options)


# Cases 98 to 106: what a resolver can answer.


@pytest.mark.parametrize(
    ("number", "answer", "rule"),
    [
        (98, ["127.0.0.1"], "address.private"),
        (99, ["8.8.8.8", "10.0.0.1"], "address.private"),
        (102, ["::ffff:10.0.0.1"], "address.embedded"),
        (103, [f"8.8.{number}.8" for number in range(200)], "dns.answers"),
        (105, [], "dns.empty"),
    ],
    ids=lambda value: f"case-{value}" if isinstance(value, int) else "",
)
def test_a_name_with_a_denied_answer_is_refused_whole(number, answer, rule):
    network = FakeNetwork(answer)

    error = failure(guarded(network))

    assert (error.code, error.rule) == ("authorization.ssrf", rule)
    assert str(error) == f"destination not allowed ({rule})"
    assert network.connects == []


def test_case_100_a_second_answer_is_never_asked_for():
    network = FakeNetwork(["93.184.216.34"], ["127.0.0.1"])

    error = failure(guarded(network))

    assert error.code == "communication.connect"
    assert network.lookups == 1
    assert network.connects == ["93.184.216.34"]


def test_case_101_a_name_that_is_an_alias_of_localhost_is_refused(monkeypatch):
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "localhost", ("127.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answer)
    network = FakeNetwork()

    error = failure(HttpClient(OutboundPolicy(), connector=network.connect))

    assert error.rule == "address.private"
    assert network.connects == []


def test_case_104_a_resolver_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(transport, "RESOLVE_SECONDS", 0.2)
    release = threading.Event()
    network = FakeNetwork()
    client = HttpClient(
        OutboundPolicy(), resolver=lambda host, port: release.wait(10) and ["8.8.8.8"], connector=network.connect
    )
    started = time.monotonic()

    error = failure(client)
    release.set()

    assert (error.code, error.retryable, error.request_sent) == ("communication.dns", True, False)
    assert time.monotonic() - started < 5
    assert network.connects == []


def test_case_106_an_answer_that_changed_since_saving_is_judged_again():
    network = FakeNetwork(["10.0.0.1"])
    check_url("http://name.example/", OutboundPolicy())

    error = failure(guarded(network))

    assert error.rule == "address.private"
    assert network.connects == []


def test_an_unknown_name_is_a_retryable_look_up_error():
    def unknown(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    error = failure(HttpClient(OutboundPolicy(), resolver=unknown))

    assert (error.code, error.retryable, error.request_sent) == ("communication.dns", True, False)


def test_at_most_four_addresses_are_tried_and_both_families_among_them():
    network = FakeNetwork([*(f"2606:4700::{number}" for number in range(1, 7)), "93.184.216.34"])

    error = failure(guarded(network))

    assert error.code == "communication.connect"
    assert network.connects == ["2606:4700::1", "93.184.216.34", "2606:4700::2", "2606:4700::3"]


def test_a_connection_that_ends_somewhere_else_is_refused(serve):
    server = serve()

    async def misdirected(address, port, seconds):
        return await transport.system_connector("127.0.0.1", server.port, seconds)

    error = failure(HttpClient(OutboundPolicy(), resolver=lambda *_: ["93.184.216.34"], connector=misdirected))

    assert (error.rule, error.request_sent) == ("connect.peer", False)
    assert server.requests == []


def test_an_address_that_does_not_answer_leaves_time_for_the_next(serve):
    server = serve()
    refused = socket.create_server(("127.0.0.1", 0))
    refused.close()

    async def second_works(address, port, seconds):
        if address == "127.0.0.2":
            raise httpcore.ConnectTimeout
        return await transport.system_connector(address, port, seconds)

    client = opened(
        server, names=["stub.example"], resolver=lambda *_: ["127.0.0.2", "127.0.0.1"], connector=second_works
    )

    assert client.request("GET", f"http://stub.example:{server.port}/").address == "127.0.0.1"


# The request as it is sent.


def test_a_request_goes_out_as_given(serve):
    server = serve(response(201, [("Content-Type", "application/json"), ("X-A", "1"), ("X-A", "2")], b'{"a": [1]}'))

    answer = opened(server).request(
        "post",
        f"{server.url}/caf\u00e9?a=1#part",
        headers=[("X-Trace", "t-1"), ("Content-Type", "text/plain")],
        query={"b": "x y", "flag": True, "none": None, "many": [1, 2]},
        content=b"body",
    )

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /caf%C3%A9?a=1&b=x+y&flag=true&many=1&many=2 HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}".encode() in lines
    assert b"User-Agent: AutomationLab/1" in lines
    assert b"Accept-Encoding: gzip, deflate" in lines
    assert b"X-Trace: t-1" in lines
    assert b"Content-Length: 4" in lines
    assert body == b"body"
    assert (answer.status_code, answer.parsed_body, answer.address) == (201, {"a": [1]}, "127.0.0.1")
    assert [pair for pair in answer.headers if pair[0] == "X-A"] == [("X-A", "1"), ("X-A", "2")]


def test_headers_of_the_connection_are_not_the_callers(serve):
    server = serve()

    opened(server).request(
        "GET",
        server.url,
        headers={"Transfer-Encoding": "chunked", "Content-Length": "9", "Connection": "upgrade", "User-Agent": "mine"},
    )

    sent = server.requests[0].lower()
    assert b"transfer-encoding" not in sent
    assert b"content-length" not in sent
    assert b"upgrade" not in sent
    assert b"user-agent: mine" in sent
    assert b"automationlab" not in sent


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "line break"),
        ({"headers": {"X-A": "1\x002"}}, "line break"),
        ({"headers": {"X A": "1"}}, "header name"),
        ({"headers": {"X-A": 1}}, "must be text"),
        ({"headers": {"": "1"}}, "header name"),
        ({"headers": {"Host": "other.example"}}, "Host"),
        ({"query": {"a": "\ud800"}}, "surrogate"),
        ({"query": {"a": "x" * 9000}}, "8192"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 301}, "timeout_seconds"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_redirects": 6}, "max_redirects"),
        ({"method": "CONNECT"}, "method"),
        ({"method": "GET /x HTTP/1.1\r\n"}, "method"),
    ],
)
def test_a_request_that_cannot_be_sent_safely_is_refused_with_the_reason(options, said):
    network = FakeNetwork(["93.184.216.34"])

    error = failure(guarded(network), **options)

    assert (error.code, error.retryable) == ("configuration.request", False)
    assert said in str(error)
    assert network.connects == []


def test_case_125_proxies_of_the_environment_are_not_used(serve, monkeypatch):
    server, proxy = serve(), serve()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert opened(server).request("GET", server.url).status_code == 200
    assert proxy.connections == 0


def test_no_cookie_and_no_connection_is_kept_between_requests(serve):
    server = serve(response(200, [("Set-Cookie", "sid=1")]))
    client = opened(server)

    client.request("GET", server.url)
    client.request("GET", server.url)

    assert server.connections == 2
    assert b"cookie" not in server.requests[1].lower()


# Deadlines and cancellation.


def drip(connection, request):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(50):
        connection.sendall(b".")
        time.sleep(0.1)


def silence(connection, request):
    connection.recv(1)


@pytest.mark.parametrize(
    ("answer", "code"), [(drip, "timeout.total"), (silence, "timeout.read")], ids=["case-116", "silent"]
)
def test_the_deadline_covers_the_whole_answer(serve, answer, code):
    server = serve(answer)
    started = time.monotonic()

    error = failure(opened(server), server.url, timeout_seconds=1)

    assert (error.code, error.retryable, error.request_sent) == (code, True, True)
    assert 0.9 < time.monotonic() - started < 4


def test_the_deadline_covers_connecting():
    async def never(address, port, seconds):
        await asyncio.sleep(30)

    client = HttpClient(OutboundPolicy(), resolver=lambda *_: ["93.184.216.34"], connector=never)

    error = failure(client, timeout_seconds=0.2)

    assert (error.code, error.request_sent) == ("timeout.connect", False)


@pytest.mark.parametrize(
    "beginning", [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n.", b""], ids=["drip", "silence"]
)
def test_cancelling_ends_a_running_request_at_once(serve, beginning):
    cancel, cancelled_at = Cancellation(), []

    def cancel_amid_the_answer(connection, request):
        connection.sendall(beginning)
        time.sleep(0.1)  # the beginning arrives, as a rule
        cancelled_at.append(time.monotonic())
        cancel.cancel("stopped by hand")
        silence(connection, request)

    server = serve(cancel_amid_the_answer)

    error = failure(opened(server), server.url, cancel=cancel)

    assert (error.code, error.retryable, error.request_sent) == ("cancelled", False, True)
    assert time.monotonic() - cancelled_at[0] < 3
    assert cancel.reason == "stopped by hand"


def test_a_cancelled_request_is_not_begun():
    network = FakeNetwork(["93.184.216.34"])
    cancel = Cancellation()
    cancel.cancel("too late")

    error = failure(guarded(network), cancel=cancel)

    assert (error.code, error.request_sent) == ("cancelled", False)
    assert network.lookups == 0


def test_a_cancellation_after_the_answer_does_nothing(serve):
    server = serve()
    cancel = Cancellation()
    client = opened(server)

    assert client.request("GET", server.url, cancel=cancel).status_code == 200
    cancel.cancel("over")
    assert client.request("GET", server.url).status_code == 200


def test_a_task_goes_on_after_a_cancelled_request(serve):
    server = serve(drip)
    client, cancel = opened(server), Cancellation()

    async def requests():
        asyncio.get_running_loop().call_later(0.2, cancel.cancel, "stopped")
        with pytest.raises(HttpError):
            await client.request_async("GET", server.url, cancel=cancel)
        await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    assert http._loop.run(requests()) == 0


def test_a_cancellation_that_comes_as_the_request_ends_does_not_hit_its_task():
    cancel = Cancellation()

    async def cancel_and_fail(address, port, seconds):
        cancel.cancel("at the last moment")
        raise httpcore.ConnectError

    client = HttpClient(OutboundPolicy(), resolver=lambda *_: ["93.184.216.34"], connector=cancel_and_fail)

    async def request_and_go_on():
        with pytest.raises(HttpError) as caught:
            await client.request_async("GET", "http://93.184.216.34/", cancel=cancel)
        await asyncio.sleep(0.05)
        return caught.value.code

    assert http._loop.run(request_and_go_on()) == "communication.connect"


def test_cancellation_callbacks_run_once_and_can_be_removed():
    cancel, calls = Cancellation(), []
    removed = calls.append
    cancel.add_callback(lambda: calls.append("kept"))
    keep_out = lambda: removed("removed")  # noqa: E731  # the same object is needed twice
    cancel.add_callback(keep_out)
    cancel.remove_callback(keep_out)

    cancel.cancel("first")
    cancel.cancel("second")
    cancel.add_callback(lambda: calls.append("late"))

    assert calls == ["kept", "late"]
    assert (cancel.cancelled, cancel.reason) == (True, "first")


def test_requests_overlap(serve):
    all_there = threading.Barrier(5, timeout=30)

    def answer(connection, request):
        all_there.wait()
        connection.sendall(OK)

    server = serve(answer)
    client = opened(server)

    futures = [client.submit("GET", server.url) for _ in range(5)]

    assert [future.result().status_code for future in futures] == [200] * 5


def test_waiting_inside_the_loop_thread_is_refused(serve):
    server = serve()
    client = opened(server)

    async def inside():
        return client.request("GET", server.url)

    with pytest.raises(RuntimeError, match="await the coroutine"):
        http._loop.run(inside())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own(serve):
    server = serve()
    client = opened(server)
    client.request("GET", server.url)

    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if client.request("GET", server.url, timeout_seconds=30).status_code == 200 else 2
        finally:
            os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_backend_connects_to_its_target_only():
    network = FakeNetwork(["93.184.216.34"])
    target = check_url("http://name.example/", OutboundPolicy())
    backend = transport.PinnedBackend(target, OutboundPolicy(), transport.Progress(), network.resolve, network.connect)

    with pytest.raises(Blocked) as caught:
        asyncio.run(backend.connect_tcp("other.example", 80))

    assert caught.value.rule == "connect.target"
    assert network.lookups == 0


def test_another_httpx_is_refused_at_import(monkeypatch):
    monkeypatch.setattr(transport.httpx, "__version__", "0.29.0")

    with pytest.raises(ImportError, match=r"install httpx 0\.28"):
        transport._check_httpx()


def test_a_refused_connection_is_retryable_and_nothing_was_sent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = HttpClient(OutboundPolicy(allow=parse_allow(f"127.0.0.1:{port}")))

    error = failure(client, f"http://127.0.0.1:{port}/", method="POST", content=b"x")

    assert (error.code, error.retryable, error.request_sent) == ("communication.connect", True, False)
