"""The one outbound HTTP client: every destination judged, one deadline over everything, a bounded answer.

Synchronous outside, one event loop per process inside, so that calls have a real deadline, can be cancelled and overlap.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack
from urllib.parse import urlencode

import httpx

from automation_lab.core.cancellation import Cancellation
from automation_lab.core.http.decoding import BadEncoding, BoundedBody, TooLarge
from automation_lab.core.http.loop_thread import LoopThread
from automation_lab.core.http.message import (
    USER_AGENT,
    Headers,
    HttpError,
    HttpResponse,
    check_method,
    configuration_error,
    decode_headers,
    encode_headers,
)
from automation_lab.core.http.redirects import MAX_REDIRECTS, SECRET_HEADERS, STATUSES, Outgoing, redirected
from automation_lab.core.http.transport import (
    CONNECT_SECONDS,
    MAX_HEAD_BYTES,
    MAX_HEADER_FIELDS,
    Connector,
    PinnedBackend,
    PinnedTransport,
    Progress,
    Resolver,
    shared_ssl_context,
    system_connector,
    system_resolver,
)
from automation_lab.core.outbound import DESTINATION_NOT_ALLOWED, OutboundPolicy, check_url, policy_from_settings
from automation_lab.core.outbound.syntax import Blocked, Target

__all__ = ["SECRET_HEADERS", "Cancellation", "HttpClient", "HttpError", "HttpResponse", "RequestOptions"]

DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_TIMEOUT_SECONDS = 300.0
DEFAULT_MAX_BYTES = 5 * 1024 * 1024
MAX_TARGET_CHARACTERS = 8192

Query = Mapping[str, Any] | Sequence[tuple[str, Any]]

_loop = LoopThread("outbound-http")


class RequestOptions(TypedDict, total=False):
    """The keyword arguments of `HttpClient.request_async`, where their defaults stand."""

    headers: Headers | None
    query: Query | None
    content: bytes | None
    timeout_seconds: float
    max_bytes: int
    follow_redirects: bool
    max_redirects: int
    verify_tls: bool
    cancel: Cancellation | None
    secret_headers: frozenset[str]


@dataclass(frozen=True)
class _Limits:
    policy: OutboundPolicy
    max_bytes: int
    redirects: int
    verify_tls: bool
    secret_headers: frozenset[str]


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    location: str


class HttpClient:
    """Sends single requests under the outbound rules. Cheap to make, safe to share between threads.

    Without `policy` the installation's settings are read for each call. `resolver` and `connector` stand in for the
    network in tests; `ssl_context` replaces the verifying one.
    """

    def __init__(
        self,
        policy: OutboundPolicy | None = None,
        *,
        resolver: Resolver = system_resolver,
        connector: Connector = system_connector,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._connector = connector
        self._verifying_context = ssl_context

    def request(self, method: str, url: str, **options: Unpack[RequestOptions]) -> HttpResponse:
        """Send one request and wait for its complete answer, whatever its status. Raises HttpError."""
        return _loop.run(self.request_async(method, url, **options))

    def submit(self, method: str, url: str, **options: Unpack[RequestOptions]) -> Future[HttpResponse]:
        """Start a request beside others; `result()` raises HttpError."""
        return _loop.submit(self.request_async(method, url, **options))

    async def request_async(
        self,
        method: str,
        url: str,
        *,
        headers: Headers | None = None,
        query: Query | None = None,
        content: bytes | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_bytes: int = DEFAULT_MAX_BYTES,
        follow_redirects: bool = False,
        max_redirects: int = MAX_REDIRECTS,
        verify_tls: bool = True,
        cancel: Cancellation | None = None,
        secret_headers: frozenset[str] = SECRET_HEADERS,
    ) -> HttpResponse:
        """Send one request from a coroutine. `max_bytes` counts the decoded body; `timeout_seconds` covers it all."""
        _check_ranges(timeout_seconds, max_bytes, max_redirects)
        outgoing = Outgoing(check_method(method), url, _encode_query(query), encode_headers(headers), content)
        policy = self._policy or policy_from_settings()
        limits = _Limits(policy, max_bytes, max_redirects if follow_redirects else 0, verify_tls, secret_headers)
        progress = Progress()
        if cancel is not None and cancel.cancelled:
            raise _cancelled(progress)
        with _translated_errors(progress, timeout_seconds), _stopped_by(cancel, progress):
            async with asyncio.timeout(timeout_seconds):
                return await self._follow(outgoing, limits, progress, follow_redirects)

    async def _follow(
        self, outgoing: Outgoing, limits: _Limits, progress: Progress, follow_redirects: bool
    ) -> HttpResponse:
        started = time.monotonic()
        for redirects in range(limits.redirects + 1):
            target = _target(outgoing, limits.policy)
            answer = await self._send(outgoing, target, limits, progress, follow_redirects)
            if not answer.location:
                elapsed_ms = round((time.monotonic() - started) * 1000)
                return HttpResponse(
                    status_code=answer.status,
                    headers=answer.headers,
                    body=answer.body,
                    elapsed_ms=elapsed_ms,
                    url=target.url,
                    address=progress.address,
                    redirects=redirects,
                )
            outgoing = redirected(outgoing, target, answer.status, answer.location, limits.secret_headers)
        raise HttpError(f"More than {limits.redirects} redirects.", code="runtime.redirects", request_sent=True)

    async def _send(
        self, outgoing: Outgoing, target: Target, limits: _Limits, progress: Progress, follow_redirects: bool
    ) -> _Answer:
        """One request on one connection; the body of a redirect that is followed is not read."""
        progress.connected = progress.answered = progress.closed_by_peer = False
        backend = PinnedBackend(target, limits.policy, progress, self._resolver, self._connector)
        transport = PinnedTransport(target, backend, self._ssl_context(target, limits.verify_tls))
        try:
            response = await transport.handle_async_request(_wire_request(outgoing, target))
            progress.answered = True
            headers = _checked_headers(response)
            location = response.headers.get("location", "") if response.status_code in STATUSES else ""
            if location and follow_redirects:
                return _Answer(response.status_code, headers, b"", location)
            body = await _read_body(response, outgoing.method, limits.max_bytes)
            return _Answer(response.status_code, headers, body, "")
        finally:
            await transport.aclose()

    def _ssl_context(self, target: Target, verify: bool) -> ssl.SSLContext | None:
        if target.scheme != "https":
            return None
        if verify and self._verifying_context is not None:
            return self._verifying_context
        return shared_ssl_context(verify)


def _check_ranges(timeout_seconds: float, max_bytes: int, max_redirects: int) -> None:
    if not 0 < timeout_seconds <= MAX_TIMEOUT_SECONDS:
        raise configuration_error(f"timeout_seconds must be above 0 and at most {MAX_TIMEOUT_SECONDS:g}.")
    if max_bytes < 1:
        raise configuration_error("max_bytes must be at least 1.")
    if not 0 <= max_redirects <= MAX_REDIRECTS:
        raise configuration_error(f"max_redirects must be from 0 to {MAX_REDIRECTS}.")


def _encode_query(query: Query | None) -> str:
    """The query string; None values are left out, lists repeat their name, true and false are written as in JSON."""
    pairs = query.items() if isinstance(query, Mapping) else query or ()
    flat = [(name, each) for name, value in pairs for each in (value if isinstance(value, list | tuple) else [value])]
    written = [(name, str(value).lower() if isinstance(value, bool) else value) for name, value in flat]
    try:
        return urlencode([(name, value) for name, value in written if value is not None])
    except UnicodeEncodeError:
        raise configuration_error("The query holds half of a surrogate pair, which no URL can carry.") from None


def _target(outgoing: Outgoing, policy: OutboundPolicy) -> Target:
    target = check_url(outgoing.url, policy)
    if outgoing.query:
        target = replace(target, path=f"{target.path}{'&' if '?' in target.path else '?'}{outgoing.query}")
    if len(target.path) > MAX_TARGET_CHARACTERS:
        raise configuration_error(f"Path and query are longer than {MAX_TARGET_CHARACTERS} characters.")
    return target


def _wire_request(outgoing: Outgoing, target: Target) -> httpx.Request:
    content = outgoing.content or b""
    own: list[tuple[bytes, bytes]] = [(b"Host", target.authority.encode("ascii"))]
    if not any(name.lower() == b"user-agent" for name, _ in outgoing.headers):
        own.append((b"User-Agent", USER_AGENT.encode("ascii")))
    if not any(name.lower() == b"accept" for name, _ in outgoing.headers):
        own.append((b"Accept", b"*/*"))
    own.append((b"Accept-Encoding", b"gzip, deflate"))
    own.append((b"Connection", b"close"))
    if content or outgoing.method in {"POST", "PUT", "PATCH"}:
        own.append((b"Content-Length", str(len(content)).encode("ascii")))
    return httpx.Request(
        outgoing.method,
        f"{target.scheme}://{target.authority}/",
        headers=[*own, *outgoing.headers],
        stream=httpx.ByteStream(content),
        # The request target goes out as it was judged, not as a second parser would write it.
        extensions={"target": target.path.encode("ascii"), "timeout": {"connect": CONNECT_SECONDS}},
    )


def _checked_headers(response: httpx.Response) -> tuple[tuple[str, str], ...]:
    raw = response.headers.raw
    if len(raw) > MAX_HEADER_FIELDS or sum(len(name) + len(value) + 4 for name, value in raw) > MAX_HEAD_BYTES:
        raise HttpError(
            f"The answer has more than {MAX_HEADER_FIELDS} header fields or {MAX_HEAD_BYTES} bytes of them.",
            code="runtime.too_large",
            request_sent=True,
        )
    return decode_headers(raw)


async def _read_body(response: httpx.Response, method: str, max_bytes: int) -> bytes:
    encoding = response.headers.get("content-encoding", "")
    declared = response.headers.get("content-length", "")
    if method != "HEAD" and not encoding and declared.isdecimal() and int(declared) > max_bytes:
        raise TooLarge(max_bytes)
    body = BoundedBody(encoding, max_bytes)
    async for chunk in response.aiter_raw():
        body.feed(chunk)
    return body.finish()


@contextlib.contextmanager
def _stopped_by(cancel: Cancellation | None, progress: Progress) -> Iterator[None]:
    """Let `cancel` interrupt the running task, from any thread, for as long as the block runs."""
    task = asyncio.current_task()
    if cancel is None or task is None:
        yield
        return
    loop, active = asyncio.get_running_loop(), True

    def stop() -> None:
        # In the loop's thread: a request that is over must not cancel what its task does next.
        if active:
            task.cancel()

    def interrupt() -> None:
        loop.call_soon_threadsafe(stop)

    cancel.add_callback(interrupt)
    try:
        yield
    except asyncio.CancelledError:
        if not cancel.cancelled:
            raise
        task.uncancel()
        raise _cancelled(progress) from None
    finally:
        active = False
        cancel.remove_callback(interrupt)


def _cancelled(progress: Progress) -> HttpError:
    return HttpError("The request was cancelled.", code="cancelled", request_sent=progress.sent)


@contextlib.contextmanager
def _translated_errors(progress: Progress, timeout_seconds: float) -> Iterator[None]:
    """Whatever goes wrong leaves as one HttpError that says how far the request came."""
    try:
        yield
    except HttpError as exc:
        exc.request_sent = exc.request_sent or progress.sent
        raise
    except Blocked as exc:
        raise _blocked(exc, progress) from exc
    except TooLarge as exc:
        raise HttpError(
            f"The answer is {exc}, the most that is read.", code="runtime.too_large", request_sent=True
        ) from exc
    except (httpx.HTTPError, BadEncoding, OSError) as exc:
        raise _failure(exc, progress, timeout_seconds) from exc


def _blocked(blocked: Blocked, progress: Progress) -> HttpError:
    text = f"{DESTINATION_NOT_ALLOWED} ({blocked.rule})"
    if blocked.message != DESTINATION_NOT_ALLOWED:
        text = f"{text}: {blocked.message}"
    return HttpError(text, code=blocked.code, request_sent=progress.sent, rule=blocked.rule)


def _failure(exc: Exception, progress: Progress, timeout_seconds: float) -> HttpError:
    code, message = _classify(exc, progress, timeout_seconds)
    retryable = code != "configuration.request"
    return HttpError(message, code=code, retryable=retryable, request_sent=progress.sent)


def _classify(exc: Exception, progress: Progress, timeout_seconds: float) -> tuple[str, str]:
    if isinstance(exc, TimeoutError):
        return _deadline(progress, timeout_seconds)
    if isinstance(exc, httpx.ConnectTimeout):
        return "timeout.connect", f"No connection within {CONNECT_SECONDS:g} s."
    if isinstance(exc, httpx.ConnectError):
        return "communication.connect", "The target refused the connection or could not be reached."
    if isinstance(exc, BadEncoding):
        return "communication.protocol", "The body is not what its Content-Encoding says, or it is incomplete."
    if isinstance(exc, httpx.LocalProtocolError):
        return "configuration.request", "The request cannot be written as HTTP; check its headers."
    if isinstance(exc, httpx.RemoteProtocolError) and not progress.closed_by_peer:
        return "communication.protocol", "The answer is not valid HTTP."
    return "communication.reset", "The target closed the connection before the answer was complete."


def _deadline(progress: Progress, timeout_seconds: float) -> tuple[str, str]:
    if not progress.connected:
        return "timeout.connect", f"No connection within {timeout_seconds:g} s."
    if not progress.answered:
        return "timeout.read", f"No answer within {timeout_seconds:g} s."
    return "timeout.total", f"The answer was not complete within {timeout_seconds:g} s."
