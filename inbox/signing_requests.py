"""Signs requests as a sender would: for replays with a fresh signature and for `send --sign`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from automation_lab.core import crypto
from automation_lab.core.exceptions import Invalid
from automation_lab.core.signing import sign_standard_webhook
from inbox.models import Source
from inbox.secrets import secret_binding

_MESSAGE_ID = re.compile(r"[!-\-/-~]{1,255}")
# Of an earlier signature by either name of the standard; the new one has its own names.
SIGNATURE_HEADERS = ("svix-id", "svix-timestamp", "svix-signature")


@dataclass(frozen=True)
class Unsigned:
    """What is going to be sent, and the id and the time that the signature is to name."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    message_id: str
    now_seconds: int


def sign(request: Unsigned, *, scheme: str, settings: dict[str, Any], secret: str) -> dict[str, str]:
    """The headers that sign `request` by `scheme`. Raises Invalid when it cannot be signed here."""
    if scheme != "standard_webhooks":
        raise Invalid(f"Requests of the scheme {scheme} cannot be signed here.", field="signing")
    return sign_standard_webhook(secret, request.message_id, request.now_seconds, request.body)


def message_id(text: str) -> str:
    """`text` if it can be the id of a signed message, else an empty string."""
    return text if _MESSAGE_ID.fullmatch(text) else ""


def current_secret(source: Source) -> str:
    """The source's first secret in plain text, or an empty string. Raises DecryptionError."""
    secret = next(iter(source.secrets), None)
    return crypto.decrypt(secret["ciphertext"], bind=secret_binding(source.name)) if secret else ""
