"""Who sent a request, judged on its raw bytes. The result is a value, never an exception, whatever was sent."""

from __future__ import annotations

from django.db import models

from inbox.incoming import IncomingRequest
from inbox.models import Source


class Verification(models.TextChoices):
    """The two that accept a request, then the reasons of a refusal."""

    VERIFIED = "verified"
    NOT_CONFIGURED = "not_configured"
    UNSUPPORTED = "unsupported"

    @property
    def accepted(self) -> bool:
        return self in (Verification.VERIFIED, Verification.NOT_CONFIGURED)


def verify(source: Source, request: IncomingRequest) -> Verification:
    """Fails closed: a scheme that cannot be checked here lets nothing in."""
    return Verification.NOT_CONFIGURED if source.is_open else Verification.UNSUPPORTED
