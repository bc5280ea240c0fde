"""HMAC signatures: the pieces for verifying, and Standard Webhooks signing for what is sent.

Source: standardwebhooks.com, specification, sections "Webhook metadata" and "Signature scheme".
"""

from __future__ import annotations

import base64
import hmac
import re

from automation_lab.core.exceptions import Invalid

WHSEC = "whsec_"
# The specification asks for 24 to 64 bytes, yet a secret of its own test suite has 23: 128 bits are enough to sign with.
SHORTEST_SECRET_BYTES = 16
LONGEST_SECRET_BYTES = 64
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_MESSAGE_ID = re.compile(r"[!-\-/-~]{1,255}")  # visible ASCII without the dot, which separates the signed parts


def sign_standard_webhook(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that sign `body`; `timestamp` in seconds since 1970. Raises Invalid."""
    if not _MESSAGE_ID.fullmatch(message_id):
        raise Invalid(
            "A message id has 1 to 255 visible ASCII characters and no dot.", field="message_id", code="message_id"
        )
    if not isinstance(timestamp, int) or timestamp < 0:
        raise Invalid("A timestamp is a whole number of seconds since 1970.", field="timestamp", code="timestamp")
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(decode_standard_secret(secret), signed, "sha256")).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def decode_standard_secret(secret: str) -> bytes:
    """The key in `secret`: base64 of either alphabet, with or without `whsec_` and padding. Raises Invalid."""
    text = secret.strip().removeprefix(WHSEC)
    if not text:
        raise _unusable_secret("The signing secret is empty.")
    digits = text.rstrip("=")
    if not _BASE64.fullmatch(text) or len(digits) % 4 == 1:
        raise _unusable_secret("The signing secret is not base64.")
    key = base64.b64decode(digits.translate(str.maketrans("-_", "+/")) + "=" * (-len(digits) % 4))
    if not SHORTEST_SECRET_BYTES <= len(key) <= LONGEST_SECRET_BYTES:
        raise _unusable_secret(f"The signing secret has {len(key)} bytes.")
    return key


def _unusable_secret(reason: str) -> Invalid:
    return Invalid(
        f'{reason} Give 24 to {LONGEST_SECRET_BYTES} random bytes in base64, as in "{WHSEC}…".',
        field="secret",
        code="signing_secret",
    )


def constant_time_equal(given: bytes, expected: bytes) -> bool:
    """Compares without telling by its duration where they differ. Bytes, since text beyond ASCII would raise."""
    return hmac.compare_digest(given, expected)
