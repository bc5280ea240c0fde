"""Keeps what anybody can fill bounded: refused requests and unsigned handshakes, the newest of each source."""

from __future__ import annotations

import random

from django.db import connection, transaction
from django.db.models import Q

from inbox.models import Source, Webhook
from inbox.verification.results import Verification

MAX_KEPT = 200
MAX_KEPT_BYTES = 20 * 1024 * 1024
# Pruned at about every so many of them, so at most that many (and that share of the bytes) are kept too long.
EVERY = 20
LOCK_CLASS = 1_919_249_761  # "reja" in ASCII

IS_BOUNDED = Q(status=Webhook.Status.REJECTED) | Q(verification=Verification.UNSIGNED)

_BEYOND = f"""
    SELECT id FROM (
        SELECT id, row_number() OVER newest_first AS number, sum(size_bytes) OVER newest_first AS bytes
        FROM {Webhook._meta.db_table}
        WHERE source = %s AND (status = 'rejected' OR verification = 'unsigned')
        WINDOW newest_first AS (ORDER BY id DESC)
    ) AS kept
    WHERE number > %s OR (bytes > %s AND number > 1)
"""  # noqa: S608 - the name of our own table


def is_bounded(webhook: Webhook) -> bool:
    return webhook.status == Webhook.Status.REJECTED or webhook.verification == Verification.UNSIGNED


def bound_now_and_then(webhook: Webhook, source: Source) -> int:
    """To be called after each bounded webhook; most calls do nothing."""
    large = webhook.size_bytes > MAX_KEPT_BYTES // EVERY
    if not large and random.random() >= 1 / EVERY:  # noqa: S311 - spreads work
        return 0
    return bound(source.name)


@transaction.atomic
def bound(source_name: str) -> int:
    """Delete what is beyond the bounds; of several at once, one does it. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", [LOCK_CLASS, source_name])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(_BEYOND, [source_name, MAX_KEPT, MAX_KEPT_BYTES])
        beyond = [row[0] for row in cursor.fetchall()]
    if beyond:
        Webhook.objects.filter(pk__in=beyond).only("pk").delete()
    return len(beyond)
