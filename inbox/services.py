"""Every write of the inbox but receiving: changing and removing webhooks, and the sources they come from."""

from __future__ import annotations

import secrets as random
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypedDict

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction
from django.utils import timezone

from automation_lab.core.crypto import encrypt
from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.uniqueness import refused_if_taken
from inbox.models import RateWindow, Source, Webhook
from inbox.receiving import sources
from inbox.receiving.limits import source_key
from inbox.secrets import SIGNATURE, USES, VERIFY_TOKEN, secret_binding, signing_secrets
from inbox.verification.configuration import secret_fault

MAX_SECRETS = 10
MAX_SECRET_CHARACTERS = 4096
SHOWN_FROM_CHARACTERS = 12  # of a shorter secret, the last four characters would give away too much
WITH_VERIFY_TOKEN = ("meta",)

# --- webhooks ---------------------------------------------------------------------------------------------------------


def update_webhook(*, webhook: Webhook, status: str | None = None, notes: str | None = None) -> Webhook:
    """What a person may change. Raises Conflict for the status of a rejected webhook: it was never accepted."""
    changed = []
    if status is not None and status != webhook.status:
        _set_status(webhook, status)
        changed += ["status", "processed_at"]
    if notes is not None:
        webhook.notes = notes
        changed += ["notes"]
    webhook.save(update_fields=[*changed, "updated_at"])
    return webhook


def _set_status(webhook: Webhook, status: str) -> None:
    if webhook.status == Webhook.Status.REJECTED:
        raise Conflict("A rejected webhook was never accepted, so its status cannot be changed.", field="status")
    if status == Webhook.Status.REJECTED:
        raise Invalid("Only received, processed and failed are set by hand.", field="status")
    webhook.status = status
    webhook.processed_at = None if status == Webhook.Status.RECEIVED else timezone.now()


def delete_webhook(*, webhook: Webhook) -> None:
    """Its repetitions stay, linked to nothing."""
    webhook.delete()


def lock_webhook(*, webhook_id: int) -> bool:
    """Hold the webhook until the transaction ends; False if it is gone.

    To be called before counting what `settle_webhook` is given: two executions that finish at the same time would
    otherwise each count the other as still running.
    """
    return Webhook.objects.select_for_update(no_key=True).filter(pk=webhook_id).values_list("pk").exists()


def settle_webhook(*, webhook_id: int, running: int, bad: int, total: int, error_message: str = "") -> None:
    """Set the status from the executions that the webhook started: `running` not finished, `bad` ended without success."""
    status = Webhook.Status.PROCESSED
    if running or not total:
        status = Webhook.Status.RECEIVED
    elif bad:
        status = Webhook.Status.FAILED
    now = timezone.now()
    Webhook.objects.filter(pk=webhook_id).exclude(status=Webhook.Status.REJECTED).update(
        status=status,
        processed_at=None if status == Webhook.Status.RECEIVED else now,
        error_message=error_message if status == Webhook.Status.FAILED else "",
        updated_at=now,
    )


# --- sources ----------------------------------------------------------------------------------------------------------


class SecretInput(TypedDict, total=False):
    """A new secret has a `value`; with the `id` of one that the source has, that one is kept, with other dates."""

    id: str
    value: str
    use: str
    starts_at: datetime | None
    expires_at: datetime | None


@transaction.atomic
def create_source(*, name: str, secrets: Sequence[SecretInput] = (), **fields: Any) -> Source:
    """A new sender. Raises Invalid with every fault, Conflict if the name was taken a moment ago."""
    source = Source(name=name, **fields)
    _take_secrets(source, secrets)
    with refused_if_taken(Conflict(f"A source named {name} exists already.", field="name")):
        source.save(force_insert=True)
    _forget_after_commit(source)
    return source


@transaction.atomic
def update_source(*, source: Source, secrets: Sequence[SecretInput] | None = None, **changes: Any) -> Source:
    """Change what is given; `secrets` replaces all of them. The name stays: addresses and webhooks hold it."""
    for name, value in changes.items():
        setattr(source, name, value)
    _take_secrets(source, secrets)
    if secrets is not None:
        changes["secrets"] = source.secrets
    source.save(update_fields=[*changes, "open_confirmed", "updated_at"])
    _forget_after_commit(source)
    return source


@transaction.atomic
def delete_source(*, source: Source) -> None:
    """Its webhooks stay."""
    source.delete()
    RateWindow.objects.filter(key=source_key(source.name)).delete()
    _forget_after_commit(source)


def _forget_after_commit(source: Source) -> None:
    name = source.name
    transaction.on_commit(lambda: sources.forget(name))


def _take_secrets(source: Source, secrets: Sequence[SecretInput] | None) -> None:
    """Check `source` and put the secrets into it; raises Invalid. A source that is opened anew is confirmed anew."""
    _check(source)
    if secrets is not None:
        source.secrets = _encrypt_secrets(source, secrets)
    for secret in signing_secrets(source):
        if fault := secret_fault(source.scheme, source.scheme_settings, secret.value):
            raise Invalid(fault, field="secrets", code="unusable_secret")
    source.open_confirmed = source.open_confirmed and source.is_open


def _check(source: Source) -> None:
    try:
        source.full_clean()
    except ValidationError as exc:
        errors = [
            {
                "field": "" if field == NON_FIELD_ERRORS else field,
                "code": error.code or "invalid",
                "detail": " ".join(error.messages),
            }
            for field, found in exc.error_dict.items()
            for error in found
        ]
        raise Invalid("The source is not valid.", errors=errors) from exc


def _encrypt_secrets(source: Source, secrets: Sequence[SecretInput]) -> list[dict[str, Any]]:
    if len(secrets) > MAX_SECRETS:
        raise Invalid(f"A source has at most {MAX_SECRETS} secrets.", field="secrets")
    kept = [secret["id"] for secret in secrets if secret.get("id")]
    if len(kept) != len(set(kept)):
        raise Invalid("Each id is given once.", field="secrets", code="repeated_secret")
    present = {secret.get("id"): secret for secret in source.secrets}
    return [_encrypt_secret(source, secret, present) for secret in secrets]


def _encrypt_secret(source: Source, secret: SecretInput, present: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    starts_at, expires_at = secret.get("starts_at"), secret.get("expires_at")
    if starts_at and expires_at and expires_at <= starts_at:
        raise Invalid("A secret expires after it starts.", field="secrets")
    dates = {"starts_at": starts_at and starts_at.isoformat(), "expires_at": expires_at and expires_at.isoformat()}
    if secret.get("id"):
        return {**_present_secret(secret, present), **dates}
    return {"id": random.token_hex(4), **_sealed(source, secret), **dates}


def _present_secret(secret: SecretInput, present: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if "value" in secret:
        raise Invalid("Give a secret either its id, to keep it, or a new value.", field="secrets")
    try:
        return present[secret["id"]]
    except KeyError:
        raise Invalid("The source has no secret of this id.", field="secrets", code="unknown_secret") from None


def _sealed(source: Source, secret: SecretInput) -> dict[str, Any]:
    value, use = secret.get("value", ""), secret.get("use", SIGNATURE)
    if not value.strip() or len(value) > MAX_SECRET_CHARACTERS:
        raise Invalid(f"A secret has 1 to {MAX_SECRET_CHARACTERS} characters, not only spaces.", field="secrets")
    if use not in USES or (use == VERIFY_TOKEN and source.scheme not in WITH_VERIFY_TOKEN):
        raise Invalid(
            f"The use is {SIGNATURE}, or {VERIFY_TOKEN} with the scheme {' or '.join(WITH_VERIFY_TOKEN)}.",
            field="secrets",
        )
    return {
        "use": use,
        "ciphertext": encrypt(value, bind=secret_binding(source.name)),
        "last4": value[-4:] if len(value) >= SHOWN_FROM_CHARACTERS else "",
        "set_at": timezone.now().isoformat(),
    }
