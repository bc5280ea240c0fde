"""Every write of the inbox: receiving, changing and removing webhooks, and the sources they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypedDict

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from automation_lab.core.crypto import encrypt
from automation_lab.core.exceptions import Conflict, Invalid
from automation_lab.core.safe_json import parse_webhook_body
from inbox import presets, sources
from inbox.incoming import IncomingRequest, clean_text, limit_headers
from inbox.models import Source, Webhook
from inbox.secrets import secret_binding
from inbox.signals import webhook_received
from inbox.verification import verify

MAX_NAME_CHARACTERS = 255
MAX_SECRETS = 10
MAX_SECRET_CHARACTERS = 4096
SHOWN_FROM_CHARACTERS = 12  # of a shorter secret, the last four characters would give away too much

# --- receiving --------------------------------------------------------------------------------------------------------

_DATABASE_GIVES = ("id", "received_at")
_FIELDS = [field for field in Webhook._meta.concrete_fields if field.name not in _DATABASE_GIVES]
_INSERT = f"""
    INSERT INTO {Webhook._meta.db_table} ({", ".join(str(field.column) for field in _FIELDS)})
    VALUES ({", ".join("%s" for _ in _FIELDS)})
    ON CONFLICT DO NOTHING
    RETURNING id, received_at
"""  # noqa: S608 - the names of our own model


def receive_webhook(*, request: IncomingRequest, source: Source) -> Webhook:
    """Store `request` and let the other apps react to it, all or nothing.

    A delivery id that `source` has sent before makes a duplicate, linked to the first, which starts nothing; so does a
    request whose sender is not accepted, kept as `rejected`.
    """
    webhook = _build_webhook(request, source)
    with transaction.atomic():
        while not _insert(webhook):
            _link_to_first(webhook)
        if webhook.status == Webhook.Status.RECEIVED and not webhook.is_duplicate:
            webhook_received.send(sender=Webhook, webhook=webhook)
    return webhook


def _build_webhook(request: IncomingRequest, source: Source) -> Webhook:
    verification = verify(source, request)
    parsed = parse_webhook_body(request.raw_body, request.content_type)
    flags = {*request.flags, *parsed.flags}
    delivery_id = _delivery_id(presets.find_delivery_id(request, parsed.value, source.scheme), flags)
    if request.chunked and not isinstance(parsed.value, dict | list):
        # Half an object never parses; of anything else, the sender may have to send the whole under the same id.
        flags.add("maybe_incomplete")
        delivery_id = ""
    return Webhook(
        source=source.name,
        event_type=_event_type(presets.find_event_type(request, parsed.value, source.scheme), flags),
        status=Webhook.Status.RECEIVED if verification.accepted else Webhook.Status.REJECTED,
        method=request.method,
        path=request.path,
        query_params=request.query_params,
        headers=limit_headers(request.headers, flags),
        body=parsed.value,
        raw_body=request.raw_body,
        content_type=_cut(request.content_type, "content_type_cut", flags),
        size_bytes=len(request.raw_body),
        sha256=hashlib.sha256(request.raw_body).hexdigest(),
        remote_addr=request.remote_addr,
        delivery_id=delivery_id,
        verification=verification,
        flags=sorted(flags),
        correlation_id=request.correlation_id,
    )


def _event_type(text: str, flags: set[str]) -> str:
    return _cut(clean_text(text, flags), "event_type_cut", flags)


def _delivery_id(text: str, flags: set[str]) -> str:
    """Ids that do not fit are replaced by their hash: cutting could make two of them equal."""
    if len(text) > MAX_NAME_CHARACTERS:
        flags.add("delivery_id_hashed")
        return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return clean_text(text, flags)


def _cut(text: str, flag: str, flags: set[str]) -> str:
    if len(text) > MAX_NAME_CHARACTERS:
        flags.add(flag)
    return text[:MAX_NAME_CHARACTERS]


def _insert(webhook: Webhook) -> bool:
    """Insert `webhook` unless its delivery id is taken; of two that race for one id, the later waits for the first."""
    values = [field.get_db_prep_save(field.pre_save(webhook, add=True), connection) for field in _FIELDS]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        row = cursor.fetchone()
    if row is None:
        return False
    webhook.pk, webhook.received_at = row
    webhook._state.adding = False
    return True


def _link_to_first(webhook: Webhook) -> None:
    """Make `webhook` a duplicate of the one that holds its delivery id, unless that one is deleted at this moment."""
    holders = Webhook.objects.holding(source=webhook.source, delivery_id=webhook.delivery_id)
    first_id = holders.values_list("pk", flat=True).first()
    # The update also keeps the first where it is until this transaction ends.
    again = {"duplicate_count": F("duplicate_count") + 1, "updated_at": timezone.now()}
    if first_id is not None and holders.filter(pk=first_id).update(**again):
        webhook.is_duplicate, webhook.duplicate_of_id = True, first_id


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
    value: str
    starts_at: datetime | None
    expires_at: datetime | None


@transaction.atomic
def create_source(*, name: str, secrets: Sequence[SecretInput] = (), **fields: Any) -> Source:
    """A new sender. Raises Invalid with every fault, Conflict if the name was taken a moment ago."""
    source = Source(name=name, **fields)
    _check(source)
    source.secrets = _encrypt_secrets(source, secrets)
    try:
        with transaction.atomic():
            source.save(force_insert=True)
    except IntegrityError as exc:
        raise Conflict(f"A source named {name} exists already.", field="name") from exc
    _forget_after_commit(source)
    return source


@transaction.atomic
def update_source(*, source: Source, secrets: Sequence[SecretInput] | None = None, **changes: Any) -> Source:
    """Change what is given; `secrets` replaces all of them. The name stays: addresses and webhooks hold it."""
    for name, value in changes.items():
        setattr(source, name, value)
    _check(source)
    if secrets is not None:
        source.secrets = _encrypt_secrets(source, secrets)
        changes["secrets"] = source.secrets
    source.save(update_fields=[*changes, "updated_at"])
    _forget_after_commit(source)
    return source


@transaction.atomic
def delete_source(*, source: Source) -> None:
    """Its webhooks stay."""
    source.delete()
    _forget_after_commit(source)


def _forget_after_commit(source: Source) -> None:
    name = source.name
    transaction.on_commit(lambda: sources.forget(name))


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
    return [_encrypt_secret(source, secret) for secret in secrets]


def _encrypt_secret(source: Source, secret: SecretInput) -> dict[str, Any]:
    value, starts_at, expires_at = secret["value"], secret.get("starts_at"), secret.get("expires_at")
    if not value or len(value) > MAX_SECRET_CHARACTERS:
        raise Invalid(f"A secret has 1 to {MAX_SECRET_CHARACTERS} characters.", field="secrets")
    if starts_at and expires_at and expires_at <= starts_at:
        raise Invalid("A secret expires after it starts.", field="secrets")
    return {
        "ciphertext": encrypt(value, bind=secret_binding(source.name)),
        "starts_at": starts_at and starts_at.isoformat(),
        "expires_at": expires_at and expires_at.isoformat(),
        "last4": value[-4:] if len(value) >= SHOWN_FROM_CHARACTERS else "",
    }
