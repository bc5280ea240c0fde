"""A command that sends a correctly signed test to a source. It holds a signature for a few minutes, never the secret."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from automation_lab.core import curl
from automation_lab.core.exceptions import Invalid
from inbox.console import words
from inbox.models import Source
from inbox.replaying.signing_requests import Signer, Unsigned, current_secret, sign
from inbox.verification.engine import Check, Scheme
from inbox.verification.schemes import checks_of

SAMPLE = b'{"hello": "world"}'
PLACEHOLDER = "YOUR-SECRET"


@dataclass(frozen=True)
class QuickTest:
    command: str
    note: str


def quick_test(source: Source, address: str) -> QuickTest:
    """Raises Invalid when nothing can be signed here, as for providers that sign with a key of their own."""
    headers = {"Content-Type": "application/json"}
    checks = checks_of(source.scheme, source.scheme_settings)
    if not checks:
        return QuickTest(_command(address, headers, SAMPLE), "Nobody is checked, so nothing is signed.")
    if source.scheme == "basic":
        note = f"The sender shows the secret itself: put it, user:password, in the place of {PLACEHOLDER}."
        return QuickTest(_command(address, headers, SAMPLE, user=PLACEHOLDER), note)
    if bearer := _bearer(checks):
        note = f"The sender shows the secret itself: put it in the place of {PLACEHOLDER}."
        return QuickTest(_command(address, {**headers, **bearer}, SAMPLE), note)
    secret = current_secret(source)
    if not secret:
        raise Invalid("The source has no secret that is valid now: set one first.")
    request = Unsigned(
        method="POST",
        url=address if settings.PUBLIC_URL else "",
        headers=list(headers.items()),
        body=SAMPLE,
        message_id=f"test_{secrets.token_hex(8)}",
        now_seconds=int(timezone.now().timestamp()),
        named_url=source.scheme_settings.get("url", ""),
    )
    signed = sign(request, Signer(secret=secret), scheme=source.scheme, settings=source.scheme_settings)
    if any(secret in value for value in signed.headers.values()):
        raise Invalid("This scheme would show the secret, so no command is made.")
    url = address + signed.url.removeprefix(request.url)
    return QuickTest(_command(url, {**headers, **signed.headers}, signed.body), _validity(source, checks))


def _bearer(checks: tuple[Check, ...]) -> dict[str, str]:
    """The header of a scheme whose sender shows the secret, with a placeholder in it."""
    check = next((check for check in checks if isinstance(check, Scheme) and check.algorithm == "equal"), None)
    return {check.header: f"{check.prefix}{PLACEHOLDER}"} if check else {}


def _validity(source: Source, checks: tuple[Check, ...]) -> str:
    if not any(check.judges_time for check in checks):
        return "The signature belongs to exactly this body, and stays valid."
    tolerance = source.scheme_settings.get("tolerance_seconds") or 300
    return f"The signature belongs to exactly this body, and is valid for {words.span(tolerance)}."


def _command(url: str, headers: dict[str, str], body: bytes, *, user: str = "") -> str:
    return curl.command("POST", url, list(headers.items()), text=body.decode("utf-8", "replace"), user=user)
