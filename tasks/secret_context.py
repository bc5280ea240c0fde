"""Secrets as expressions see them: looked up by name when they are used, tagged, bound to their hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from automation_lab.core import clock, crypto
from automation_lab.core.expressions import SecretValue
from automation_lab.core.redaction.masks import live_secrets
from tasks.models import Secret
from tasks.secrets import bind_of


class SecretsContext(Mapping[str, Any]):
    """`secrets.NAME` for one rendering. Asks the database for the names used only; notes their use."""

    def __init__(self) -> None:
        self._values: dict[str, SecretValue] = {}

    def __getitem__(self, name: str) -> SecretValue:
        if name not in self._values:
            self._values[name] = self._load(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(Secret.objects.values_list("name", flat=True))

    def __len__(self) -> int:
        return Secret.objects.count()

    def _load(self, name: str) -> SecretValue:
        secret = Secret.objects.filter(name=name).first()
        if secret is None:
            raise KeyError(name)
        return SecretValue(reveal_secret(secret))


def reveal_secret(secret: Secret) -> str:
    """The plain value, for the one who sends it; its use is noted. Raises crypto.DecryptionError."""
    value = crypto.decrypt(secret.ciphertext, bind=bind_of(secret.name))
    live_secrets.remember(value)
    Secret.objects.filter(pk=secret.pk).update(last_used_at=clock.process_now())
    return value


def allowed_hosts(names: Iterable[str]) -> dict[str, list[str]]:
    """The hosts that each of `names` may be sent to; an empty list: any."""
    wanted = list(names)
    return dict(Secret.objects.filter(name__in=wanted).values_list("name", "allowed_hosts")) if wanted else {}


def live_values() -> list[str]:
    """Every secret's plain value, for masking. One that cannot be decrypted cannot be sent either, so it is left out."""
    values = []
    for name, ciphertext in Secret.objects.values_list("name", "ciphertext"):
        try:
            values.append(crypto.decrypt(ciphertext, bind=bind_of(name)))
        except crypto.DecryptionError:
            continue
    return values
