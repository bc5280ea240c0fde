"""Notification channels: where messages about failures go. The target is encrypted, as its URL is often a credential."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email, validate_slug
from django.db import transaction
from django.views.decorators.debug import sensitive_variables

from automation_lab.core import crypto
from automation_lab.core.exceptions import Invalid
from automation_lab.core.redaction.masks import live_secrets
from automation_lab.core.registry import Rotation
from automation_lab.core.rotation import Counter, rotate_rows
from tasks.models import NotificationChannel

Kind = NotificationChannel.Kind
MAX_TARGET_LENGTH = 2048
SHORTEST_MASKED_PATH = 16  # shorter ones, such as /webhook, would mask ordinary texts
CHANGEABLE = ("enabled", "secret", "throttle_seconds")


def bind_of(name: str) -> str:
    """What the ciphertext is bound to, so that it cannot be moved to another row."""
    return f"channel:{name}"


@sensitive_variables("target")
@transaction.atomic
def create_channel(*, name: str, kind: str, target: str, **fields: Any) -> NotificationChannel:
    """`fields`: enabled, secret, throttle_seconds. Raises Invalid."""
    try:
        validate_slug(name)
    except ValidationError as exc:
        raise Invalid("A name has letters, digits, - and _ only.", field="name") from exc
    channel = NotificationChannel(name=name, kind=kind)
    _change(channel, target=target, fields=fields)
    channel.save(force_insert=True)
    return channel


@sensitive_variables("target")
@transaction.atomic
def update_channel(
    *, channel: NotificationChannel, kind: str | None = None, target: str | None = None, **fields: Any
) -> NotificationChannel:
    """Change the given parts. Another kind needs its target again, as the old one would not fit. Raises Invalid."""
    channel = NotificationChannel.objects.select_for_update().get(pk=channel.pk)
    if kind is not None and kind != channel.kind:
        if target is None:
            raise Invalid("Another kind needs its target.", field="target", code="required")
        channel.kind = kind
    _change(channel, target=target, fields=fields)
    channel.save()
    return channel


@sensitive_variables("target")
def _change(channel: NotificationChannel, *, target: str | None, fields: dict[str, Any]) -> None:
    for name in CHANGEABLE:
        if name in fields:
            setattr(channel, name, fields[name])
    if channel.secret and channel.kind != Kind.WEBHOOK:
        raise Invalid("Only channels of kind webhook sign their messages with a secret.", field="secret")
    if target is not None:
        target = clean_target(channel.kind, target)
        _mask(channel.kind, target)
        channel.target_ciphertext = crypto.encrypt(target, bind=bind_of(channel.name))
        channel.target_hint = hint_of(channel.kind, target)
        channel.last_error = ""


@sensitive_variables()
def clean_target(kind: str, target: str) -> str:
    """An address for e-mail, an http(s) URL for everything else. Raises Invalid without repeating it."""
    target = target.strip()
    if len(target) > MAX_TARGET_LENGTH:
        raise Invalid(f"A target has at most {MAX_TARGET_LENGTH} characters.", field="target")
    if kind == Kind.EMAIL:
        try:
            validate_email(target)
        except ValidationError:
            raise Invalid("The target of an e-mail channel is one address.", field="target") from None
    elif not _is_url(target):
        raise Invalid(f"The target of a {kind} channel is a https:// or http:// URL.", field="target")
    return target


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:
        return False


def hint_of(kind: str, target: str) -> str:
    """What may be shown: the domain of an address, the host of a URL. The rest of either may be a secret."""
    if kind == Kind.EMAIL:
        return f"…@{target.rpartition('@')[2]}"[:100]
    parts = urlsplit(target)
    return f"{parts.scheme}://{parts.hostname}/…"[:100]


@sensitive_variables()
def target_of(channel: NotificationChannel) -> str:
    """The plain target, for the one who sends. Raises crypto.DecryptionError."""
    target = crypto.decrypt(channel.target_ciphertext, bind=bind_of(channel.name))
    _mask(channel.kind, target)
    return target


def rotate(dry_run: bool) -> Rotation:
    """Encrypt every target with the first key."""

    def change(channel: NotificationChannel, counter: Counter) -> list[str]:
        before = channel.target_ciphertext
        channel.target_ciphertext = counter.rotated(before, bind=bind_of(channel.name))
        return ["target_ciphertext"] if channel.target_ciphertext != before else []

    return rotate_rows(NotificationChannel.objects.all(), change, dry_run=dry_run)


@sensitive_variables()
def live_values() -> list[str]:
    """What masking must look for, of every channel."""
    values = []
    for channel in NotificationChannel.objects.all():
        with contextlib.suppress(crypto.DecryptionError):
            values += _credentials(channel.kind, crypto.decrypt(channel.target_ciphertext, bind=bind_of(channel.name)))
    return values


@sensitive_variables()
def _mask(kind: str, target: str) -> None:
    for value in _credentials(kind, target):
        live_secrets.remember(value)


@sensitive_variables()
def _credentials(kind: str, target: str) -> list[str]:
    """A URL is a credential, and so is its path; an address is none, and occurs in ordinary texts."""
    if kind == Kind.EMAIL:
        return []
    parts = urlsplit(target)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return [target, path] if len(path) >= SHORTEST_MASKED_PATH else [target]
