"""An HTTP client that sends exactly the bytes it is given, also those that no library would send."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 15


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(port: int, method: str, path: str, *, headers: tuple[str, ...] = (), body: bytes = b"") -> Answer:
    """A well-formed request; Content-Length is added unless `headers` frame the body themselves."""
    framed = any(header.lower().startswith(("content-length:", "transfer-encoding:")) for header in headers)
    length = () if framed or not body else (f"Content-Length: {len(body)}",)
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, *length])
    return exchange(port, head.encode("latin-1") + b"\r\n\r\n" + body)


def exchange(port: int, data: bytes, *, hang_up: bool = False) -> Answer:
    """Send `data`, then read one answer. `hang_up` ends the sending side, as a client that breaks off does."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as client:
        # A server that refuses early may close before it has read everything; its answer counts all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(data)
            if hang_up:
                client.shutdown(socket.SHUT_WR)
        return _read_answer(client)


def chunked(body: bytes, size: int = 65_536) -> bytes:
    """`body` as a chunked message body."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _read_answer(client: socket.socket) -> Answer:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65_536):
            received += part
            head, separator, body = received.partition(b"\r\n\r\n")
            if separator and len(body) >= _length(head):
                break
    head, _, body = received.partition(b"\r\n\r\n")
    if not head:
        return Answer(0, {}, b"")  # closed without a word
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body)


def _length(head: bytes) -> float:
    """How long the answer's body is; endless, so until the connection closes, if it does not say."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return float("inf")
