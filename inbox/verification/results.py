"""What a check of a sender comes to. A value, never an exception, whatever was sent."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import models


class Verification(models.TextChoices):
    """Those that accept a request, then the reasons of a refusal."""

    VERIFIED = "verified"
    NOT_CONFIGURED = "not_configured"
    UNSIGNED = "unsigned", "Unsigned handshake"
    MISMATCH = "mismatch", "Signature does not match"
    STALE = "stale", "Signed too long ago"
    FUTURE = "future", "Signed in the future"
    MISSING_HEADER = "missing_header"
    MALFORMED_HEADER = "malformed_header"
    MISSING_FIELD = "missing_field", "Signed field missing in the body"
    NO_SECRET = "no_secret"  # noqa: S105 - the lack of one
    NO_PUBLIC_URL = "no_public_url", "Public address not set"
    UNKNOWN_SENDER = "unknown_sender", "Signed for somebody else"
    UNTRUSTED_CERTIFICATE = "untrusted_certificate"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    UNSUPPORTED = "unsupported", "Unsupported algorithm"

    @property
    def accepted(self) -> bool:
        return self in _ACCEPTED


_ACCEPTED = (Verification.VERIFIED, Verification.NOT_CONFIGURED, Verification.UNSIGNED)
# How far a check came: of several ways to sign, the one that came furthest says what is wrong.
_PROGRESS = (
    Verification.NO_SECRET,
    Verification.MISSING_HEADER,
    Verification.MISSING_FIELD,
    Verification.UNSUPPORTED,
    Verification.MALFORMED_HEADER,
    Verification.UNTRUSTED_CERTIFICATE,
    Verification.NO_PUBLIC_URL,
    Verification.MISMATCH,
    Verification.UNKNOWN_SENDER,
    Verification.FUTURE,
    Verification.STALE,
    Verification.VERIFIED,
)


@dataclass(frozen=True)
class Verdict:
    """The result, and the id of the secret that matched, if one did. A body that is `whole` cannot have broken off."""

    result: Verification
    secret_id: str = ""
    whole: bool = False

    @property
    def accepted(self) -> bool:
        return self.result.accepted

    @property
    def progress(self) -> int:
        return _PROGRESS.index(self.result)
