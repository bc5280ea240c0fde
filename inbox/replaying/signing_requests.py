"""Signs requests as a sender would: for replays with a fresh signature, and for `send --sign`.

The schemes are those that requests are verified by; this is their other half.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.utils import timezone

from automation_lab.core.exceptions import Invalid
from inbox.incoming import FORM
from inbox.models import Source
from inbox.secrets import signing_secrets
from inbox.verification.context import usable, with_query
from inbox.verification.engine import UNITS, Check, Scheme
from inbox.verification.keys import KEYS, UnusableKey
from inbox.verification.schemes import checks_of
from inbox.verification.signed_parts import ADYEN_FIELDS, AdyenCheck, FormCheck, MailgunCheck, text_at

_MESSAGE_ID = re.compile(r"[!-\-/-~]{1,255}")
# Of an earlier signature by either name of the standard; the new one has its own names.
SIGNATURE_HEADERS = ("svix-id", "svix-timestamp", "svix-signature")
ASYMMETRIC = ("ed25519", "ecdsa")


@dataclass(frozen=True)
class Unsigned:
    """What is going to be sent, and the id and the time that the signature is to name.

    `url` is as the receiver sees it, only its query if nobody can know the rest; `named_url` is what the receiver's
    settings say instead.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    message_id: str
    now_seconds: int
    named_url: str = ""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True)
class Signed:
    """Headers to be added. Some schemes sign inside the body, so it may be another one; some in the address."""

    headers: dict[str, str]
    body: bytes
    url: str


@dataclass(frozen=True)
class Signer:
    """`secret` as the source has it; the asymmetric schemes need the sender's `private_key`, in PEM, instead."""

    secret: str = field(default="", repr=False)
    private_key: bytes = field(default=b"", repr=False)


def sign(request: Unsigned, signer: Signer, *, scheme: str, settings: dict[str, Any]) -> Signed:
    """`request`, signed in the first way of `scheme` that is possible. Raises Invalid with the reason of the last."""
    refusal = Invalid(f"The scheme {scheme} signs nothing.", field="signing")
    for check in checks_of(scheme, settings):
        try:
            return _sign(check, request, signer)
        except Invalid as error:
            refusal = error
    raise refusal


def message_id(text: str) -> str:
    """`text` if it can be the id of a signed message, else an empty string."""
    return text if _MESSAGE_ID.fullmatch(text) else ""


def current_secret(source: Source) -> str:
    """The first secret of `source` that is valid now, in plain text, or an empty string."""
    return next((secret.value for secret in usable(signing_secrets(source), timezone.now())), "")


@singledispatch
def _sign(check: Check, request: Unsigned, signer: Signer) -> Signed:
    raise Invalid("Only the provider itself can sign by this scheme: it takes its certificate.", field="signing")


# --- schemes as data --------------------------------------------------------------------------------------------------


@_sign.register
def _(check: Scheme, request: Unsigned, signer: Signer) -> Signed:
    timestamp = str(request.now_seconds * UNITS[check.unit])
    kind, _, name = check.timestamp.partition(":")
    headers = {name: timestamp} if kind == "header" else {}
    if kind == "body":
        request = replace(request, body=_with_value(request.body, name.split("."), int(timestamp)))
    for part in check.parts[1::2]:
        if part.startswith("header:"):
            header = part.removeprefix("header:")
            headers[header] = request.header(header) or request.message_id
    message = b"".join(
        _part(part, request, timestamp, headers) if number % 2 else part.encode()
        for number, part in enumerate(check.parts)
    )
    text = _encoded(_signature(check, signer, message), check.encoding)
    stamped = [f"{name}={timestamp}"] if kind == "field" else []
    value = check.separator.join([*stamped, f"{check.field}={text}"]) if check.field else check.prefix + text
    return Signed({**headers, check.header: value}, request.body, request.url)


def _part(name: str, request: Unsigned, timestamp: str, headers: dict[str, str]) -> bytes:
    if name == "body":
        return request.body
    if name.startswith("header:"):
        return headers[name.removeprefix("header:")].encode()
    if name == "url":
        return _address(request, request.url).encode()
    return {"timestamp": timestamp, "method": request.method}[name].encode()


def _address(request: Unsigned, url: str) -> str:
    """What is signed as the address when `url` is called, as `public_url` has it on the other side."""
    if not request.named_url and not request.url.partition("?")[0]:
        raise Invalid(
            "This scheme signs the address, too, and the lab's own is not known: set PUBLIC_URL, or the signed address "
            "in the settings of the source.",
            field="signing",
        )
    return with_query(request.named_url, urlsplit(url).query) or url


def _signature(check: Scheme, signer: Signer, message: bytes) -> bytes:
    if check.algorithm in ASYMMETRIC:
        return _asymmetric(check.algorithm, signer, message)
    key = _key(check, signer)
    if check.algorithm == "equal":
        return key
    if check.algorithm == "plain-sha256":
        return hashlib.sha256(key + message).digest()
    return hmac.digest(key, message, check.algorithm)


def _asymmetric(algorithm: str, signer: Signer, message: bytes) -> bytes:
    if not signer.private_key:
        raise Invalid("This scheme signs with the sender's private key, which is not here: give one.", field="signing")
    try:
        key = load_pem_private_key(signer.private_key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("The private key is not one in PEM without a password.", field="signing") from error
    if algorithm == "ed25519" and isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    if algorithm == "ecdsa" and isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    raise Invalid(f"This scheme signs with a key for {algorithm}.", field="signing")


def _key(check: Check, signer: Signer) -> bytes:
    if not signer.secret:
        raise Invalid("There is no secret to sign with.", field="signing")
    try:
        return KEYS[check.key](signer.secret)
    except UnusableKey as error:
        raise Invalid(str(error), field="signing") from error


def _encoded(signature: bytes, encoding: str) -> str:
    encode: dict[str, Callable[[bytes], str]] = {"hex": bytes.hex, "base64": _base64, "text": bytes.decode}
    return encode[encoding](signature)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


# --- the others -------------------------------------------------------------------------------------------------------


@_sign.register
def _(check: FormCheck, request: Unsigned, signer: Signer) -> Signed:
    url, content = request.url, b""
    if request.header("Content-Type").partition(";")[0].strip().lower() == FORM:
        fields = parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
        ordered = sorted(set(fields)) if check.distinct_values else sorted(fields, key=lambda each: each[0])
        content = b"".join(name.encode() + value.encode() for name, value in ordered)
    elif request.body:
        url = _with_hash(url, request.body)
    signature = hmac.digest(_key(check, signer), _address(request, url).encode() + content, "sha1")
    return Signed({check.header: _base64(signature)}, request.body, url)


@_sign.register
def _(check: MailgunCheck, request: Unsigned, signer: Signer) -> Signed:
    timestamp, token = str(request.now_seconds), secrets.token_hex(25)
    signature = hmac.digest(_key(check, signer), f"{timestamp}{token}".encode(), "sha256").hex()
    parts = {"timestamp": timestamp, "token": token, "signature": signature}
    return Signed({}, _with_value(request.body, ["signature"], parts), request.url)


@_sign.register
def _(check: AdyenCheck, request: Unsigned, signer: Signer) -> Signed:
    body, key = _json_object(request.body), _key(check, signer)
    items = [entry.get("NotificationRequestItem") for entry in body.get("notificationItems") or [{}]]
    for item in items:
        if not isinstance(item, dict):
            raise Invalid("This scheme signs items: the body needs notificationItems.", field="signing")
        message = ":".join(text_at(item, *path) for path in ADYEN_FIELDS)
        signature = _base64(hmac.digest(key, message.encode(), "sha256"))
        item["additionalData"] = {**(item.get("additionalData") or {}), "hmacSignature": signature}
    return Signed({}, orjson.dumps(body), request.url)


def _with_hash(url: str, body: bytes) -> str:
    """Twilio covers a body that is no form by its hash in the address."""
    digest = hashlib.sha256(body).hexdigest()
    if ("bodySHA256", digest) in parse_qsl(urlsplit(url).query):
        return url
    return f"{url}{'&' if '?' in url else '?'}bodySHA256={digest}"


def _with_value(body: bytes, path: Sequence[str], value: Any) -> bytes:
    """The JSON object `body` with `value` at `path`; unchanged bytes if it is there already."""
    whole = _json_object(body)
    inner = whole
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    if inner.get(path[-1]) == value:
        return body
    inner[path[-1]] = value
    return orjson.dumps(whole)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise Invalid("This scheme signs inside the body, which must be a JSON object.", field="signing")
    return value
