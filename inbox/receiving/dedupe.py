"""What makes a webhook a repetition, by the rule of its source. The unique constraint on `dedupe_key` decides."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from django.db import connection
from django.db.models import F
from django.utils import timezone

from automation_lab.core import clock
from inbox import presets
from inbox.incoming import IncomingRequest
from inbox.models import WITH_ONE_TIME_TOKEN, Source, Webhook

MAX_KEY_CHARACTERS = 255
MAYBE_INCOMPLETE = "maybe_incomplete"  # a flag: the body may have broken off on its way
LOCK_CLASS = 1_684_366_453  # "dedu" in ASCII


def assign_key(webhook: Webhook, source: Source, request: IncomingRequest) -> None:
    """Give `webhook` the key under which it counts as received, or link it to the first with the same body.

    Never an empty text as a key: what cannot be told apart is no repetition. To be called inside the transaction that
    stores the webhook.
    """
    by = source.dedupe["by"]
    webhook.dedupe_key = ""
    if MAYBE_INCOMPLETE in webhook.flags and source.scheme not in WITH_ONE_TIME_TOKEN:
        return  # the sender may have to send the whole under the same id
    if by == "delivery_id":
        webhook.dedupe_key = webhook.delivery_id
    elif by == "json_path":
        webhook.dedupe_key = _value_key(presets.find_at(_place(source.dedupe["path"]), request))
    elif by == "body_hash" and webhook.size_bytes:
        _claim_body(webhook, source.dedupe["window_seconds"])


def link_to_first(webhook: Webhook) -> None:
    """Make `webhook` a duplicate of the one that holds its key, unless that one is deleted at this moment."""
    holders = Webhook.objects.holding(source=webhook.source, dedupe_key=webhook.dedupe_key)
    first = holders.values_list("pk", "sha256").first()
    if first is not None:
        _link(webhook, *first)


def _link(webhook: Webhook, first_id: int, first_sha256: str) -> bool:
    # The update also keeps the first where it is until this transaction ends.
    again = {"duplicate_count": F("duplicate_count") + 1, "updated_at": timezone.now()}
    if not Webhook.objects.filter(pk=first_id).exclude(status=Webhook.Status.REJECTED).update(**again):
        return False
    webhook.is_duplicate, webhook.duplicate_of_id = True, first_id
    if first_sha256 != webhook.sha256:
        webhook.flags = sorted({*webhook.flags, "conflict"})
    return True


def _place(path: str) -> str:
    """`body.order.id` as the place that presets read."""
    return f"body:{path.removeprefix('body.')}"


def _value_key(value: str) -> str:
    """Values that do not fit are replaced by their hash: cutting could make two of them equal."""
    if not value:
        return ""
    key = f"path:{value}"
    if len(key) <= MAX_KEY_CHARACTERS and key.isprintable():
        return key
    return "path:sha256:" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _claim_body(webhook: Webhook, window_seconds: int) -> None:
    """The window counts from the first. The key names a bucket of time as long as the window, so the unique constraint
    covers only part of it: the lock lets one body of a source be looked up at a time, the bucket before included.
    """
    with connection.cursor() as cursor:
        lock = f"{webhook.source} {webhook.sha256}"
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [LOCK_CLASS, lock])
    now = clock.database_now()  # after the lock: who waited for it sees what the one before has stored
    bucket = int(now.timestamp() // window_seconds)
    keys = [f"body:{webhook.sha256}:{window_seconds}:{number}" for number in (bucket, bucket - 1)]
    webhook.dedupe_key = keys[0]
    held = Webhook.objects.filter(source=webhook.source, dedupe_key__in=keys, is_duplicate=False)
    recent = held.exclude(status=Webhook.Status.REJECTED).filter(
        received_at__gt=now - timedelta(seconds=window_seconds)
    )
    first_id = recent.order_by("-id").values_list("pk", flat=True).first()
    if first_id is not None:
        _link(webhook, first_id, webhook.sha256)
