"""The signing secrets of the sources in plain text: for masking, and only in memory."""

from __future__ import annotations

from automation_lab.core import crypto
from inbox.models import Source


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
