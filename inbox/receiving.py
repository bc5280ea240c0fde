"""Storing what was received: one transaction per request, in which the other apps react."""

from __future__ import annotations

import hashlib

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from inbox import presets
from inbox.incoming import IncomingRequest, clean_text, limit_headers
from inbox.models import Source, Webhook
from inbox.signals import webhook_received
from inbox.verification import judge
from inbox.verification.results import Verdict

MAX_NAME_CHARACTERS = 255

_DATABASE_GIVES = ("id", "received_at")
_FIELDS = [field for field in Webhook._meta.concrete_fields if field.name not in _DATABASE_GIVES]
_INSERT = f"""
    INSERT INTO {Webhook._meta.db_table} ({", ".join(str(field.column) for field in _FIELDS)})
    VALUES ({", ".join("%s" for _ in _FIELDS)})
    ON CONFLICT DO NOTHING
    RETURNING id, received_at
"""  # noqa: S608 - the names of our own model


def receive_webhook(*, request: IncomingRequest, source: Source, verdict: Verdict | None = None) -> Webhook:
    """Store `request` and let the other apps react to it, all or nothing.

    A delivery id that `source` has sent before makes a duplicate, linked to the first, which starts nothing; so does a
    request whose sender is not accepted, kept as `rejected`. Raises CertificateUnavailable.
    """
    webhook = _build_webhook(request, source, verdict or judge.verify(source, request))
    with transaction.atomic():
        while not _insert(webhook):
            _link_to_first(webhook)
        if webhook.status == Webhook.Status.RECEIVED and not webhook.is_duplicate:
            webhook_received.send(sender=Webhook, webhook=webhook)
    return webhook


def _build_webhook(request: IncomingRequest, source: Source, verdict: Verdict) -> Webhook:
    flags = {*request.flags, *request.parsed.flags}
    delivery_id = _delivery_id(presets.find_delivery_id(request, source), flags)
    if request.chunked and not isinstance(request.parsed.value, dict | list):
        # Half an object never parses; of anything else, the sender may have to send the whole under the same id.
        flags.add("maybe_incomplete")
        delivery_id = ""
    return Webhook(
        source=source.name,
        event_type=_event_type(presets.find_event_type(request, source), flags),
        status=Webhook.Status.RECEIVED if verdict.accepted else Webhook.Status.REJECTED,
        method=request.method,
        path=request.path,
        query_params=request.query_params,
        query_string=request.query_string,
        headers=limit_headers(request.headers, flags),
        body=request.parsed.value,
        raw_body=request.raw_body,
        content_type=_cut(request.content_type, "content_type_cut", flags),
        size_bytes=len(request.raw_body),
        sha256=hashlib.sha256(request.raw_body).hexdigest(),
        remote_addr=request.remote_addr,
        delivery_id=delivery_id,
        verification=verdict.result,
        matched_secret=verdict.secret_id,
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
