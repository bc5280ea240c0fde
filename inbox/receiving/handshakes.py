"""Answers to the questions by which providers make sure that an address is meant for them. Stored, but nothing starts.

Only what is asked is repeated, as plain text of a few characters: whoever knows the address may ask.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpResponse
from django.utils import timezone

from automation_lab.core.signing import constant_time_equal
from inbox.incoming import IncomingRequest
from inbox.models import Source
from inbox.secrets import signing_secrets, verify_tokens
from inbox.verification.context import Secret, usable
from inbox.verification.results import Verdict, Verification

FLAG = "handshake"
MAX_TOKEN_CHARACTERS = 512
# No braces, quotes or equals signs: X signs the answer like a webhook, so a webhook must not fit into a question.
_SAFE = re.compile(r"[A-Za-z0-9._~-]{1,512}", re.ASCII)
_ORIGIN = re.compile(r"[A-Za-z0-9.:-]{1,253}", re.ASCII)


@dataclass(frozen=True)
class Handshake:
    body: str = ""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> HttpResponse:
        headers = {"X-Content-Type-Options": "nosniff", **self.headers}
        return HttpResponse(self.body, status=self.status, content_type=self.content_type, headers=headers)


def find_handshake(source: Source, request: IncomingRequest, verdict: Verdict) -> Handshake | None:
    """The answer if `request` is a handshake and not a webhook. Those that providers sign count only when verified."""
    if verdict.result == Verification.ADDRESS_NOT_ALLOWED:
        return None
    if request.method == "HEAD":
        return Handshake()
    if request.method == "OPTIONS":
        return _options(source, request)
    if request.method == "GET":
        answer = UNSIGNED.get(source.scheme)
        return answer(source, request) if answer else None
    signed = SIGNED.get(source.scheme)
    body = request.parsed.value
    if signed is None or verdict.result != Verification.VERIFIED or not isinstance(body, dict):
        return None
    return signed(source, body, verdict)


def _options(source: Source, request: IncomingRequest) -> Handshake:
    """Source: CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery", section 4."""
    headers = {"Allow": ", ".join(source.allowed_methods)}
    origin = request.header("WebHook-Request-Origin")
    if _ORIGIN.fullmatch(origin):
        headers["WebHook-Allowed-Origin"] = origin
    return Handshake(status=204, headers=headers)


def _echo(challenge: Any) -> Handshake:
    if isinstance(challenge, str) and _SAFE.fullmatch(challenge):
        return Handshake(challenge)
    return Handshake("A challenge has 1 to 512 letters, digits and ._~- here.", status=400)


def _as_json(value: Any) -> Handshake:
    return Handshake(json.dumps(value), content_type="application/json")


# --- asked by GET, without a signature --------------------------------------------------------------------------------


def _meta(source: Source, request: IncomingRequest) -> Handshake | None:
    given = request.query("hub.verify_token").encode("utf-8", "surrogatepass")
    tokens = usable(verify_tokens(source), timezone.now())
    known = [constant_time_equal(given, token.value.encode("utf-8", "surrogatepass")) for token in tokens]
    if request.query("hub.mode") != "subscribe" or not any(known):
        return None
    return _echo(request.query("hub.challenge"))


def _x(source: Source, request: IncomingRequest) -> Handshake | None:
    token, secrets = request.query("crc_token"), _usable_secrets(source)
    if not token or not secrets:
        return None
    if not _SAFE.fullmatch(token):
        return _echo(token)
    return _as_json({"response_token": f"sha256={base64.b64encode(_hmac(secrets[0], token)).decode()}"})


def _echo_of(name: str) -> Callable[[Source, IncomingRequest], Handshake | None]:
    def answer(source: Source, request: IncomingRequest) -> Handshake | None:
        challenge = request.query(name)
        return _echo(challenge) if challenge else None

    return answer


UNSIGNED: dict[str, Callable[[Source, IncomingRequest], Handshake | None]] = {
    "meta": _meta,
    "x": _x,
    "dropbox": _echo_of("challenge"),
    "onfleet": _echo_of("check"),
}


# --- signed -----------------------------------------------------------------------------------------------------------


def _slack(source: Source, body: dict[str, Any], verdict: Verdict) -> Handshake | None:
    return _echo(body.get("challenge")) if body.get("type") == "url_verification" else None


def _zoom(source: Source, body: dict[str, Any], verdict: Verdict) -> Handshake | None:
    payload = body.get("payload")
    if body.get("event") != "endpoint.url_validation" or not isinstance(payload, dict):
        return None
    token = payload.get("plainToken")
    if not isinstance(token, str) or not 1 <= len(token) <= MAX_TOKEN_CHARACTERS:
        return Handshake(f"A plainToken is a text of 1 to {MAX_TOKEN_CHARACTERS} characters.", status=400)
    secret = next((secret for secret in _usable_secrets(source) if secret.id == verdict.secret_id), None)
    if secret is None:
        return None
    return _as_json({"plainToken": token, "encryptedToken": _hmac(secret, token).hex()})


def _discord(source: Source, body: dict[str, Any], verdict: Verdict) -> Handshake | None:
    """PING is type 1 of an interaction and type 0 of a webhook event, whose events are type 1."""
    if body.get("type") == 1 and "event" not in body:
        return _as_json({"type": 1})
    return Handshake(status=204) if body.get("type") == 0 and "event" not in body else None


def _xero(source: Source, body: dict[str, Any], verdict: Verdict) -> Handshake | None:
    """Intent to receive: no events, and a wrong signature has to be refused."""
    return Handshake() if body.get("events") == [] else None


def _sns(source: Source, body: dict[str, Any], verdict: Verdict) -> Handshake | None:
    """Confirmed by a person or the API, see subscriptions.py."""
    return Handshake() if body.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation") else None


SIGNED: dict[str, Callable[[Source, dict[str, Any], Verdict], Handshake | None]] = {
    "slack": _slack,
    "zoom": _zoom,
    "discord": _discord,
    "xero": _xero,
    "sns": _sns,
}


def _usable_secrets(source: Source) -> tuple[Secret, ...]:
    return usable(signing_secrets(source), timezone.now())


def _hmac(secret: Secret, text: str) -> bytes:
    return hmac.digest(secret.value.encode("utf-8", "surrogatepass"), text.encode("utf-8", "surrogatepass"), "sha256")
