"""Secrets as keys, and the algorithms that use them. Nothing here raises for what a sender sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from automation_lab.core.exceptions import Invalid
from automation_lab.core.signing import constant_time_equal, decode_standard_secret

HASHES = ("sha1", "sha256", "sha384", "sha512")
WHPK = "whpk_"
ED25519_BYTES = 32
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_AROUND_PEM = re.compile(r"-----[A-Z ]+-----|\s")


class UnusableKey(Exception):
    """The secret is not written as the scheme needs it; the message says how it should be."""


# --- reading ----------------------------------------------------------------------------------------------------------


def from_hex(text: str) -> bytes | None:
    return bytes.fromhex(text) if _HEX.fullmatch(text) else None


def from_base64(text: str) -> bytes | None:
    """Strictly: the standard alphabet, its padding, no bits left over; so each value is written in one way only."""
    raw = _lenient_base64(text)
    return raw if raw is not None and base64.b64encode(raw).decode() == text else None


def _lenient_base64(text: str) -> bytes | None:
    if not _BASE64.fullmatch(text):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def from_text(text: str) -> bytes | None:
    """The bytes that were sent: WSGI gives each of them as one character."""
    return text.encode("latin-1", "replace") if text else None


DECODERS: dict[str, Callable[[str], bytes | None]] = {"hex": from_hex, "base64": from_base64, "text": from_text}


# --- keys -------------------------------------------------------------------------------------------------------------


def _utf8_key(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _hex_key(value: str) -> bytes:
    key = from_hex(value.strip())
    if key is None:
        raise UnusableKey("The secret of this scheme is written in hexadecimal digits.")
    return key


def _base64_key(value: str) -> bytes:
    text = value.strip()
    key = _lenient_base64(text + "=" * (-len(text) % 4))
    if key is None:
        raise UnusableKey("The secret of this scheme is written in base64.")
    return key


def _whsec_key(value: str) -> bytes:
    if value.strip().startswith(WHPK):
        raise UnusableKey("A whpk_ key is a public key, for v1a signatures.")
    try:
        return decode_standard_secret(value)
    except Invalid as exc:
        raise UnusableKey(exc.message) from None


def _whpk_key(value: str) -> Ed25519PublicKey:
    text = value.strip()
    if not text.startswith(WHPK):
        raise UnusableKey("A public key for v1a signatures starts with whpk_.")
    return _ed25519(from_base64(text.removeprefix(WHPK)))


def _ed25519_hex_key(value: str) -> Ed25519PublicKey:
    return _ed25519(from_hex(value.strip()))


def _ed25519(raw: bytes | None) -> Ed25519PublicKey:
    if raw is None or len(raw) != ED25519_BYTES:
        raise UnusableKey("This scheme takes the sender's Ed25519 public key, which has 32 bytes.")
    return Ed25519PublicKey.from_public_bytes(raw)


def _ecdsa_key(value: str) -> ec.EllipticCurvePublicKey:
    """A public key in PEM, or only the base64 between its lines, as SendGrid shows it."""
    der = from_base64(_AROUND_PEM.sub("", value))
    try:
        key = serialization.load_der_public_key(der or b"")
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UnusableKey("This scheme takes the sender's ECDSA public key in base64 or PEM.")
    return key


KEYS: dict[str, Callable[[str], Any]] = {
    "utf-8": _utf8_key,
    "hex": _hex_key,
    "base64": _base64_key,
    "whsec": _whsec_key,
    "whpk": _whpk_key,
    "ed25519-hex": _ed25519_hex_key,
    "ecdsa": _ecdsa_key,
}


# --- algorithms -------------------------------------------------------------------------------------------------------


def _hmac_with(name: str) -> Callable[[Any, bytes, bytes], bool]:
    return lambda key, message, signature: constant_time_equal(signature, hmac.digest(key, message, name))


def _plain_sha256(key: bytes, message: bytes, signature: bytes) -> bool:
    return constant_time_equal(signature, hashlib.sha256(key + message).digest())


def _equal(key: bytes, message: bytes, signature: bytes) -> bool:
    return constant_time_equal(signature, key)


def _ed25519_verifies(key: Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _ecdsa_verifies(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def rsa_verifies(key: RSAPublicKey, message: bytes, signature: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    try:
        key.verify(signature, message, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


ALGORITHMS: dict[str, Callable[[Any, bytes, bytes], bool]] = {
    **{name: _hmac_with(name) for name in HASHES},
    "plain-sha256": _plain_sha256,
    "equal": _equal,
    "ed25519": _ed25519_verifies,
    "ecdsa": _ecdsa_verifies,
}
