"""The wire under core/http.py: one look-up, all answers judged, a pinned connection, a bounded head.

Only `httpx.AsyncHTTPTransport` is used of httpx, not its client: the client would follow its own cookie, redirect and
proxy rules and logs full URLs.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any

import certifi
import httpcore
import httpx

from automation_lab.core.http.message import HttpError
from automation_lab.core.outbound import OutboundPolicy, check_addresses
from automation_lab.core.outbound.syntax import Blocked, IPAddress, Target

RESOLVE_SECONDS = 3.0
CONNECT_SECONDS = 5.0
MAX_CONNECT_ATTEMPTS = 4
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADER_FIELDS = 100
MAX_INTERIM_RESPONSES = 8
MAX_WAITING_LOOKUPS = 256

Resolver = Callable[[str, int], Sequence[str]]
"""(host, port) -> addresses; may block and raise OSError."""
Connector = Callable[[str, int, float], Awaitable[httpcore.AsyncNetworkStream]]
"""(address, port, seconds) -> an open stream; raises httpcore.ConnectError or ConnectTimeout."""


def _check_httpx() -> None:
    """The transport below replaces the private `_pool` of httpx 0.28: with another httpx the rules might be passed by."""
    sends = httpx.AsyncHTTPTransport.handle_async_request.__code__.co_names
    if not httpx.__version__.startswith("0.28.") or "_pool" not in sends:
        raise ImportError(f"httpx {httpx.__version__} is not supported: install httpx 0.28 (see requirements.txt).")


_check_httpx()


@dataclass
class Progress:
    """How far one call has come: decides what a failure means."""

    sent: bool = False
    answered: bool = False
    connected: bool = False
    closed_by_peer: bool = False
    address: str = ""


class PinnedTransport(httpx.AsyncHTTPTransport):
    """One connection for one request to one judged target; never reused, HTTP/1.1, no proxy, no environment."""

    def __init__(self, target: Target, backend: PinnedBackend, ssl_context: ssl.SSLContext | None) -> None:
        # Not calling the base: it would make a pool of its own and load certificates for each call.
        origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
        self._pool = httpcore.AsyncHTTPConnection(  # type: ignore[assignment]  # a connection does all that is asked
            origin, ssl_context=ssl_context, http1=True, http2=False, retries=0, network_backend=backend
        )


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to the judged addresses of `target` and to nothing else."""

    def __init__(
        self, target: Target, policy: OutboundPolicy, progress: Progress, resolver: Resolver, connector: Connector
    ) -> None:
        self._target = target
        self._policy = policy
        self._progress = progress
        self._resolver = resolver
        self._connector = connector

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if (host, port) != (self._target.host, self._target.port):
            raise Blocked("connect.target", "destination not allowed")
        addresses = check_addresses(self._target, await self._addresses(), self._policy)
        stream = await self._connect(_alternate(addresses)[:MAX_CONNECT_ATTEMPTS], timeout or CONNECT_SECONDS)
        self._progress.connected = True
        return GuardedStream(stream, self._progress)

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        raise Blocked("connect.unix", "destination not allowed")

    async def _addresses(self) -> Sequence[str | IPAddress]:
        if self._target.address is not None:
            return [self._target.address]
        return await look_up(self._resolver, self._target.host, self._target.port)

    async def _connect(self, addresses: Sequence[IPAddress], seconds: float) -> httpcore.AsyncNetworkStream:
        """The first address that answers; each gets an equal share of the time that is left."""
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        failure: Exception = httpcore.ConnectTimeout()
        for index, address in enumerate(addresses):
            share = max((deadline - now()) / (len(addresses) - index), 0.05)
            try:
                stream = await self._connector(str(address), self._target.port, share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
                continue
            await self._check_peer(stream, address)
            return stream
        raise failure

    async def _check_peer(self, stream: httpcore.AsyncNetworkStream, address: IPAddress) -> None:
        try:
            peer = stream.get_extra_info("server_addr")
        except OSError:
            await stream.aclose()
            raise httpcore.ConnectError("The connection was closed at once.") from None
        if not peer or ip_address(peer[0]) != address:
            await stream.aclose()
            raise Blocked("connect.peer", "destination not allowed")
        self._progress.address = str(address)


class GuardedStream(httpcore.AsyncNetworkStream):
    """Notes what went over the wire and bounds what is read before the head of the answer is complete."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress
        self._head = InterimCounter()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._progress.answered:
            max_bytes = min(max_bytes, self._head.room())
        data = await self._stream.read(max_bytes, timeout)
        self._progress.closed_by_peer = not data
        if not self._progress.answered:
            self._head.feed(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._progress.sent = True
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            secured = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except (httpcore.ConnectError, OSError) as exc:
            raise _tls_error(exc) from exc
        except asyncio.CancelledError:
            # httpcore closes after errors only; a deadline in the handshake would leave the socket open.
            await self._stream.aclose()
            raise
        return GuardedStream(secured, self._progress)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _tls_error(exc: BaseException) -> HttpError:
    causes = (exc, exc.__cause__, exc.__context__)
    refusal = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if refusal is None:
        return HttpError("The target did not complete the TLS handshake.", code="communication.tls", retryable=True)
    return HttpError(f"The target's certificate is not valid: {refusal.verify_message}.", code="communication.tls")


class InterimCounter:
    """Bounds the head of an answer: its bytes, and the interim (1xx) responses before it, which h11 reads endlessly."""

    def __init__(self) -> None:
        self._bytes = 0
        self._interim = 0
        self._pending: bytes | None = b""

    def room(self) -> int:
        if self._bytes >= MAX_HEAD_BYTES:
            raise HttpError(
                f"The headers of the answer are longer than {MAX_HEAD_BYTES} bytes.",
                code="runtime.too_large",
                request_sent=True,
            )
        return MAX_HEAD_BYTES - self._bytes

    def feed(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._pending is not None:
            self._pending = self._skip_interim(self._pending + data)

    def _skip_interim(self, data: bytes) -> bytes | None:
        """What is left to look at, or None once the final head has begun."""
        while len(data) > len(b"HTTP/1.1 1"):
            if data[:7] != b"HTTP/1." or data[8:10] != b" 1":
                return None
            _, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                break
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                raise HttpError(
                    f"The target sent more than {MAX_INTERIM_RESPONSES} interim responses.",
                    code="communication.protocol",
                    retryable=True,
                    request_sent=True,
                )
            data = rest
        return data


def _alternate(addresses: Sequence[IPAddress]) -> list[IPAddress]:
    """The families by turns, in the given order: a network without working IPv6 must not use up all attempts."""
    first = addresses[0].version
    same = [address for address in addresses if address.version == first]
    other = [address for address in addresses if address.version != first]
    return [address for address in chain.from_iterable(zip_longest(same, other)) if address is not None]


_lookups = threading.BoundedSemaphore(MAX_WAITING_LOOKUPS)


async def look_up(resolver: Resolver, host: str, port: int) -> Sequence[str]:
    """Ask `resolver` once. Raises HttpError when the name is unknown or the answer takes too long."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[str]] = loop.create_future()
    if not _lookups.acquire(blocking=False):
        raise _dns_error("Too many name look-ups are waiting for an answer.")
    # A thread of its own: a hung look-up cannot be cancelled and would keep a pool, and the exit, waiting.
    threading.Thread(target=_resolve, args=(resolver, host, port, loop, answer), name="look-up", daemon=True).start()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            return await answer
    except TimeoutError:
        raise _dns_error(f"The host name was not resolved within {RESOLVE_SECONDS:g} s.") from None
    except (OSError, UnicodeError):
        raise _dns_error("The host name could not be resolved.") from None


def _resolve(
    resolver: Resolver, host: str, port: int, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Sequence[str]]
) -> None:
    try:
        settle = functools.partial(_settle, answer, resolver(host, port), None)
    except (OSError, UnicodeError) as exc:
        settle = functools.partial(_settle, answer, (), exc)
    finally:
        _lookups.release()
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


def _settle(answer: asyncio.Future[Sequence[str]], addresses: Sequence[str], failure: Exception | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(addresses)
    else:
        answer.set_exception(failure)


def _dns_error(message: str) -> HttpError:
    return HttpError(message, code="communication.dns", retryable=True)


def system_resolver(host: str, port: int) -> list[str]:
    """What the machine's resolver says."""
    return [str(sockaddr[0]) for *_, sockaddr in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


async def system_connector(address: str, port: int, seconds: float) -> httpcore.AsyncNetworkStream:
    """A TCP connection to `address`, which is never a name."""
    return await httpcore.AnyIOBackend().connect_tcp(address, port, timeout=seconds)


@functools.cache
def shared_ssl_context(verify: bool) -> ssl.SSLContext:
    """One context for all calls: loading the certificates takes longer than most requests."""
    context = ssl.create_default_context()
    # Beside the system's certificates, which a bare machine or container may lack.
    context.load_verify_locations(certifi.where())
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
