"""Storing what was received: one transaction per request, in which the other apps react."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from automation_lab.core.prepared import prepared_cursor
from inbox import presets
from inbox.incoming import IncomingRequest, clean_text, limit_headers
from inbox.models import Source, Webhook
from inbox.receiving import dedupe, rejected
from inbox.receiving.handshakes import FLAG, Handshake, find_handshake
from inbox.receiving.sources import SourceChanged
from inbox.signals import webhook_received
from inbox.terms import body_terms
from inbox.verification import judge
from inbox.verification.results import Verdict, Verification

MAX_NAME_CHARACTERS = 255

_DATABASE_GIVES = ("id", "received_at")
_FIELDS = [field for field in Webhook._meta.concrete_fields if field.name not in _DATABASE_GIVES]
_INSERT = f"""
    INSERT INTO {Webhook._meta.db_table} ({", ".join(str(field.column) for field in _FIELDS)})
    VALUES ({", ".join("%s" for _ in _FIELDS)})
    ON CONFLICT DO NOTHING
    RETURNING id, received_at, (
        SELECT updated_at FROM {Source._meta.db_table} WHERE name = {Webhook._meta.db_table}.source
    )
"""  # noqa: S608 - the names of our own model


def receive_webhook(
    *, request: IncomingRequest, source: Source, verdict: Verdict | None = None, handshake: Handshake | None = None
) -> Webhook:
    """Store `request` and let the other apps react to it, all or nothing.

    What `source` has sent before makes a duplicate, linked to the first, which starts nothing; neither does a request
    whose sender is not accepted, kept as `rejected`, nor a handshake. Raises CertificateUnavailable, and SourceChanged
    if `source` is no longer as it is in the database.
    """
    verdict = verdict or judge.verify(source, request)
    if handshake and not verdict.accepted:
        verdict = Verdict(Verification.UNSIGNED)
    webhook = _build_webhook(request, source, verdict)
    with transaction.atomic():
        if handshake:
            webhook.flags = sorted({*webhook.flags, FLAG})
        elif verdict.accepted:
            dedupe.assign_key(webhook, source, request)
        while not _insert(webhook, source):
            dedupe.link_to_first(webhook)
        if _is_news(webhook):
            offers: list[tuple[Any, Any]] = webhook_received.send(sender=Webhook, webhook=webhook)
            webhook.answer = next((offer for _, offer in offers if offer is not None), None)
    if rejected.is_bounded(webhook):
        rejected.bound_now_and_then(webhook, source)
    return webhook


@transaction.atomic
def accept_rejected(*, webhook: Webhook, request: IncomingRequest, source: Source, verdict: Verdict) -> Webhook:
    """Take a refused webhook in as if it came now, once: whoever comes second finds it accepted.

    A handshake starts nothing now either, and its sender has long had its answer.
    """
    webhook = Webhook.objects.select_for_update().get(pk=webhook.pk)
    if webhook.status != Webhook.Status.REJECTED:
        return webhook
    webhook.status, webhook.updated_at = Webhook.Status.RECEIVED, timezone.now()
    webhook.verification, webhook.matched_secret = verdict.result, verdict.secret_id
    if verdict.whole:
        webhook.flags = [flag for flag in webhook.flags if flag != dedupe.MAYBE_INCOMPLETE]
    if find_handshake(source, request, verdict):
        webhook.flags = sorted({*webhook.flags, FLAG})
    else:
        dedupe.assign_key(webhook, source, request)
    while not _update(webhook):
        dedupe.link_to_first(webhook)
    if _is_news(webhook):
        webhook_received.send(sender=Webhook, webhook=webhook)
    return webhook


def _is_news(webhook: Webhook) -> bool:
    return webhook.status == Webhook.Status.RECEIVED and not webhook.is_duplicate and FLAG not in webhook.flags


def _build_webhook(request: IncomingRequest, source: Source, verdict: Verdict) -> Webhook:
    flags = {*request.flags, *request.parsed.flags}
    delivery_id = _delivery_id(presets.find_delivery_id(request, source), flags)
    if request.chunked and not verdict.whole and not isinstance(request.parsed.value, dict | list):
        # Half an object never parses; anything else may have been longer.
        flags.add(dedupe.MAYBE_INCOMPLETE)
    terms, all_terms = body_terms(request.parsed.value)
    if not all_terms:
        flags.add("partly_searchable")
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
        body_terms=terms,
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


def _insert(webhook: Webhook, source: Source) -> bool:
    """Insert `webhook` unless its delivery id is taken; of two that race for one id, the later waits for the first."""
    values = [field.get_db_prep_save(field.pre_save(webhook, add=True), connection) for field in _FIELDS]
    with prepared_cursor() as cursor:
        cursor.execute(_INSERT, values)
        row = cursor.fetchone()
    if row is None:
        return False
    webhook.pk, webhook.received_at, source_updated_at = row
    if source_updated_at != source.updated_at:  # both None for a name without a source
        raise SourceChanged(source)
    webhook._state.adding = False
    return True


def _update(webhook: Webhook) -> bool:
    """Save `webhook` as accepted unless its key is taken."""
    try:
        with transaction.atomic():
            webhook.save(
                update_fields=[
                    "status",
                    "verification",
                    "matched_secret",
                    "dedupe_key",
                    "is_duplicate",
                    "duplicate_of",
                    "flags",
                    "updated_at",
                ]
            )
    except IntegrityError:
        return False
    return True
