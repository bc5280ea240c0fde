"""The demo's webhooks: accepted, sent twice, refused."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.db.models import F

from automation_lab.demo import senders
from automation_lab.demo.chance import Chance, later
from automation_lab.demo.definitions import Made
from inbox.models import Webhook

REFUSED_SHARE = 0.04
REPEATED_SHARE = 0.06
REFUSALS = {
    "github": ("mismatch", "missing_header"),
    "stripe": ("mismatch", "missing_header", "stale"),
    "shop": ("mismatch", "missing_header", "stale"),
    "status-page": ("mismatch", "missing_header"),
}
WRONG_SECRET = "whsec_d3Jvbmctd3Jvbmctd3Jvbmctd3JvbmcA"  # noqa: S105 - of somebody who does not have the right one
STALE = timedelta(minutes=20)
ADDRESSES = {
    "github": "192.0.2.17",
    "stripe": "192.0.2.80",
    "shop": "198.51.100.4",
    "status-page": "198.51.100.9",
    "newsletter": "203.0.113.5",
}


def create(made: Made, chance: Chance, events: int) -> list[Webhook]:
    """About `events` webhooks in the order of their arrival, saved."""
    weights = [event.weight for event in senders.EVENTS]
    webhooks: list[Webhook] = []
    for at in sorted(chance.instant() for _ in range(events)):
        event = chance.choices(senders.EVENTS, weights)[0]
        webhooks += _arrivals(event, chance, at, made.signing_secrets[event.source])
    webhooks.sort(key=lambda webhook: webhook.received_at)
    Webhook.objects.bulk_create(webhooks, batch_size=500)
    _link_duplicates(webhooks)
    Webhook.objects.filter(pk__in=[webhook.pk for webhook in webhooks]).update(
        created_at=F("received_at"), updated_at=F("received_at")
    )
    return webhooks


def _arrivals(event: senders.Event, chance: Chance, at: datetime, secret: str) -> list[Webhook]:
    """One event: refused, accepted, or accepted and sent again a little later because the sender saw no answer."""
    reasons = REFUSALS.get(event.source, ())
    if reasons and chance.happens(REFUSED_SHARE):
        return [_refused(event, chance, at, secret, chance.choice(reasons))]
    body = event.body(chance, at)
    sent = senders.send(event, body, chance, at, secret)
    first = _webhook(event, body, sent, chance, at)
    first.verification = "verified" if reasons else "not_configured"
    first.dedupe_key = sent.delivery_id
    if not sent.delivery_id or not chance.happens(REPEATED_SHARE):
        return [first]
    again_at = later(at, chance.randint(5_000, 90_000))
    if again_at > chance.now:
        return [first]
    again = _webhook(event, body, sent, chance, again_at)
    again.verification, again.is_duplicate, again.dedupe_key = first.verification, True, first.dedupe_key
    first.duplicate_count = 1
    return [first, again]


def _webhook(event: senders.Event, body: senders.Body, sent: senders.Sent, chance: Chance, at: datetime) -> Webhook:
    return Webhook(
        source=event.source,
        event_type=event.type,
        method="POST",
        path=f"/v1/webhooks/inbox/{event.source}",
        headers=sent.headers,
        body=body,
        raw_body=sent.raw_body,
        content_type="application/json",
        size_bytes=len(sent.raw_body),
        sha256=hashlib.sha256(sent.raw_body).hexdigest(),
        remote_addr=ADDRESSES[event.source],
        delivery_id=sent.delivery_id,
        received_at=at,
        correlation_id=chance.hex(32),
    )


def _refused(event: senders.Event, chance: Chance, at: datetime, secret: str, reason: str) -> Webhook:
    """Somebody who does not have the secret, or sends what another one has signed long ago."""
    signed_at = at - STALE if reason == "stale" else at
    body = event.body(chance, signed_at)
    sent = senders.send(event, body, chance, signed_at, WRONG_SECRET if reason == "mismatch" else secret)
    webhook = _webhook(event, body, sent, chance, at)
    webhook.status, webhook.verification = Webhook.Status.REJECTED, reason
    webhook.remote_addr = f"203.0.113.{chance.randint(20, 250)}"
    if reason == "missing_header":
        kept = ("Host", "Content-Type", "Content-Length")
        webhook.headers = [["User-Agent", "curl/8.5.0"], *(pair for pair in webhook.headers if pair[0] in kept)]
        webhook.delivery_id = webhook.delivery_id if event.source == "stripe" else ""
    return webhook


def _link_duplicates(webhooks: list[Webhook]) -> None:
    firsts = {
        (webhook.source, webhook.delivery_id): webhook
        for webhook in webhooks
        if webhook.duplicate_count and not webhook.is_duplicate
    }
    repeated = [webhook for webhook in webhooks if webhook.is_duplicate]
    for webhook in repeated:
        webhook.duplicate_of = firsts[webhook.source, webhook.delivery_id]
    Webhook.objects.bulk_update(repeated, ["duplicate_of"], batch_size=500)
