"""The secrets of the sources in plain text: for checking and masking, and only in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

from automation_lab.core import crypto
from inbox.models import Source
from inbox.verification.context import Secret

SIGNATURE, VERIFY_TOKEN = "signature", "verify_token"
USES = (SIGNATURE, VERIFY_TOKEN)


def secret_binding(source_name: str) -> str:
    """What the secrets of this source are bound to when they are encrypted."""
    return f"source:{source_name}"


def live_values() -> list[str]:
    """Every secret of every source; one that cannot be decrypted cannot be used either, so it is left out."""
    values = []
    for name, secrets in Source.objects.exclude(secrets=[]).values_list("name", "secrets"):
        for secret in secrets:
            try:
                values.append(crypto.decrypt(secret["ciphertext"], bind=secret_binding(name)))
            except crypto.DecryptionError:
                continue
    return values


def signing_secrets(source: Source) -> tuple[Secret, ...]:
    """What `source` signs with; those that cannot be decrypted are left out."""
    return tuple(_secrets_for(source, SIGNATURE))


def verify_tokens(source: Source) -> tuple[Secret, ...]:
    """What the provider of `source` has to repeat in its handshake; these sign nothing."""
    return tuple(_secrets_for(source, VERIFY_TOKEN))


def _secrets_for(source: Source, use: str) -> Iterator[Secret]:
    for secret in source.secrets:
        if secret.get("use", SIGNATURE) != use:
            continue
        try:
            value = _decrypt(secret["ciphertext"], secret_binding(source.name))
        except crypto.DecryptionError:
            continue
        starts_at, expires_at = (_instant(secret.get(name)) for name in ("starts_at", "expires_at"))
        yield Secret(id=secret.get("id", ""), value=value, starts_at=starts_at, expires_at=expires_at)


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@lru_cache(maxsize=1024)
def _decrypt(ciphertext: str, bind: str) -> str:
    """Remembered, as every request of a source needs it."""
    return crypto.decrypt(ciphertext, bind=bind)
