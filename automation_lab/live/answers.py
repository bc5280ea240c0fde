"""What the live port answers without a WebSocket: plain HTTP, and problems instead of a handshake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from automation_lab.core.api import problems
from automation_lab.core.api.authentication import CHALLENGE

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
NOWHERE = "There is nothing here: the live port has /live/tail (a WebSocket) and /healthz."


class Refusal(Exception):
    """A handshake that is answered by a problem document."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/healthz" and scope["method"] in ("GET", "HEAD"):
        await _send(send, "http.response", 200, b"text/plain", b"ok\n")
    elif scope["path"] == "/live/tail":
        refusal = Refusal(426, "upgrade_required", "/live/tail is a WebSocket: connect with ws:// or wss://.")
        await _refuse(send, "http.response", refusal, scope["path"])
    else:
        await _refuse(send, "http.response", Refusal(404, "not_found", NOWHERE), scope["path"])


async def unknown_socket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await refuse_socket(scope, send, Refusal(404, "not_found", NOWHERE))


async def refuse_socket(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answer a handshake that has been received and not accepted; a bare 403 if the server cannot do more."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await _refuse(send, "websocket.http.response", refusal, scope["path"])
    else:
        await send({"type": "websocket.close"})


async def _refuse(send: Send, kind: str, refusal: Refusal, path: str) -> None:
    body = problems.problem(status=refusal.status, code=refusal.code, detail=refusal.detail, path=path)
    await _send(send, kind, refusal.status, problems.CONTENT_TYPE.encode(), orjson.dumps(body))


async def _send(send: Send, kind: str, status: int, content_type: bytes, body: bytes) -> None:
    headers = [
        (b"content-type", content_type),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", CHALLENGE.encode()))
    if status == 426:
        headers.append((b"upgrade", b"websocket"))
    if status == 503:
        headers.append((b"retry-after", str(problems.DATABASE_RETRY_SECONDS).encode()))
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
