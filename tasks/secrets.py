"""Secrets: values that configurations name as `secrets.NAME`. Written here, encrypted, and never given back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from django.db import transaction
from django.db.models import TextField
from django.db.models.functions import Cast
from django.views.decorators.debug import sensitive_variables

from automation_lab.core import clock, crypto, secret_uses
from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.registry import Rotation, SecretUser
from automation_lab.core.rotation import Counter, rotate_rows
from tasks.models import NotificationChannel, ScheduledTask, Secret

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MAX_VALUE_LENGTH = 16_384
MAX_HOSTS = 50
MOST_NAMED = 5
CHANNEL = "channel"
SHOWN_FROM_LENGTH = 12  # of a shorter value, the last four characters would give away too much


def bind_of(name: str) -> str:
    """What the ciphertext is bound to, so that it cannot be moved to another row."""
    return f"secret:{name}"


@sensitive_variables("value")
@transaction.atomic
def set_secret(
    *,
    name: str,
    value: str | None = None,
    description: str | None = None,
    allowed_hosts: Sequence[str] | None = None,
    only_new: bool = False,
) -> Secret:
    """Make the secret `name` or change the given parts of it; a new value takes effect at its next use.

    Raises Invalid, and Conflict if it is `only_new` and exists.
    """
    if not NAME.fullmatch(name):
        raise Invalid("A name is a letter, then letters, digits and _ (64 at most), as in secrets.NAME.", field="name")
    secret = Secret.objects.select_for_update().filter(name=name).first() or Secret(name=name)
    if only_new and secret.pk:
        raise Conflict("There is a secret of this name already.", field="name")
    if value is None and not secret.ciphertext:
        raise Invalid("A new secret needs a value.", field="value", code="required")
    if description is not None:
        secret.description = description
    if allowed_hosts is not None:
        secret.allowed_hosts = [clean_host(host) for host in dict.fromkeys(allowed_hosts)]
    if value is not None:
        _seal(secret, value)
    secret.save()
    return secret


@sensitive_variables("value")
def _seal(secret: Secret, value: str) -> None:
    if not 1 <= len(value) <= MAX_VALUE_LENGTH:
        raise Invalid(f"A value has 1 to {MAX_VALUE_LENGTH:,} characters.", field="value")
    if "\x00" in value:
        raise Invalid("A value contains no NUL character.", field="value")
    secret.ciphertext = crypto.encrypt(value, bind=bind_of(secret.name))
    secret.last4 = value[-4:] if len(value) >= SHOWN_FROM_LENGTH else ""
    secret.rotated_at = clock.database_now()


def clean_host(text: str) -> str:
    """A host as it is compared: lower case, no port, `*.example.com` for all below it. Raises Invalid."""
    host = text.strip().rstrip(".").lower()
    if HOST.fullmatch(host) and len(host) <= 253:
        return host
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        raise Invalid(
            f'"{text[:60]}" is no host; write "api.example.com" or "*.example.com", without scheme, port or path.',
            field="allowed_hosts",
        ) from None


@transaction.atomic
def delete_secret(*, secret: Secret, force: bool = False) -> None:
    """Delete it. Raises Conflict naming what uses it, unless `force`; a channel that signs with it keeps it in any case."""
    users = secret_uses.users_of(secret.name)
    keeping = [user for user in users if not force or user.kind == CHANNEL]
    if keeping:
        named = ", ".join(f"{user.kind} {user.name}" for user in keeping[:MOST_NAMED])
        more = f" and {len(keeping) - MOST_NAMED} more" if len(keeping) > MOST_NAMED else ""
        raise Conflict(f"The secret {secret.name} is used by {named}{more}: change that first.", code="secret_in_use")
    secret.delete()


def rotate(dry_run: bool) -> Rotation:
    """Encrypt every value with the first key."""

    def change(secret: Secret, counter: Counter) -> list[str]:
        before = secret.ciphertext
        secret.ciphertext = counter.rotated(before, bind=bind_of(secret.name))
        return ["ciphertext"] if secret.ciphertext != before else []

    return rotate_rows(Secret.objects.all(), change, dry_run=dry_run)


def uses_in_tasks() -> Iterator[tuple[str, SecretUser]]:
    """(secret, task) for every task whose config names one."""
    text = Cast("config", TextField())
    tasks = ScheduledTask.objects.annotate(text=text).filter(text__contains="secrets").order_by("name")
    for pk, name, config in tasks.values_list("pk", "name", "config"):
        for secret in sorted(secret_uses.names_in(config)):
            yield secret, SecretUser("task", pk, name)


def uses_in_channels() -> Iterator[tuple[str, SecretUser]]:
    """(secret, channel) for every channel that signs with one."""
    channels = NotificationChannel.objects.exclude(secret=None).order_by("name")
    for pk, name, secret in channels.values_list("pk", "name", "secret__name"):
        yield secret, SecretUser(CHANNEL, pk, name)
