"""Old webhooks, by the installation's setting and by each source's own, old replays, and what the limits no longer need."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum, Window

from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.pruning import BATCH, delete_in_batches, ended_before
from automation_lab.core.registry import PrunableTable
from inbox.models import PAYLOAD_REMOVED, Forward, RateWindow, Replay, Source, Webhook
from inbox.querysets import SOURCE_KEY
from inbox.receiving import limits, rejected

WINDOW_KEPT = timedelta(days=2)  # the longest period is a day

_TABLE = Webhook._meta.db_table
_REMOVE_PAYLOADS = f"""
    UPDATE {_TABLE} SET
        raw_body = '', body = NULL, body_terms = '{{}}',
        flags = array_append(flags, %s), updated_at = clock_timestamp()
    WHERE id IN (
        SELECT id FROM {_TABLE} WHERE source = %s AND received_at < %s AND size_bytes > 0 AND NOT flags @> ARRAY[%s]::varchar[]
        ORDER BY id LIMIT %s
    )
"""  # noqa: S608 - the name of our own table


def prune_webhooks(*, now: datetime, days: int, dry_run: bool) -> int:
    """Webhooks received more than `days` ago, with their forwards, but those of sources with days of their own."""
    own = Source.objects.filter(retention__has_key="days").values("name")
    old = _idle().filter(received_at__lt=now - timedelta(days=days)).exclude(source__in=own)
    return delete_in_batches(old, dry_run=dry_run)


def prune_sources(*, now: datetime, days: int, dry_run: bool) -> int:
    """Webhooks beyond the age, number or bytes that their source sets, and refused ones beyond their bounds."""
    deleted = 0
    for source in Source.objects.exclude(retention={}).only("name", "retention"):
        deleted += delete_in_batches(_beyond(source, now), dry_run=dry_run)
    if not dry_run:
        deleted += sum(rejected.bound(name) for name in Source.objects.values_list("name", flat=True))
    return deleted


def remove_payloads(*, now: datetime, days: int, dry_run: bool) -> int:
    """Bodies of webhooks whose source keeps them for fewer days than the rest; how many."""
    sources = Source.objects.filter(retention__has_key="payload_days").only("name", "retention")
    return sum(_remove_payloads(source, now, dry_run=dry_run) for source in sources)


def prune_forwards(*, now: datetime, days: int, dry_run: bool) -> int:
    """Forwards that ended more than `days` ago, with their attempts; those of a replay that goes on stay with it."""
    forwards = Forward.objects.exclude(replay__status__in=LIVE_STATUSES)
    return delete_in_batches(ended_before(forwards, now - timedelta(days=days)), dry_run=dry_run)


def prune_replays(*, now: datetime, days: int, dry_run: bool) -> int:
    """Replays that ended more than `days` ago, but those whose forwards are going on or have ended since."""
    instant = now - timedelta(days=days)
    kept = Forward.objects.filter(Q(finished_at__isnull=True) | Q(finished_at__gte=instant), replay=OuterRef("pk"))
    return delete_in_batches(ended_before(Replay.objects.exclude(Exists(kept)), instant), dry_run=dry_run)


def prune_rate_windows(*, now: datetime, days: int, dry_run: bool) -> int:
    """Counts that are over; those of a source stay as long as the source, as they tell how many it refused."""
    sources = [limits.source_key(name) for name in Source.objects.values_list("name", flat=True)]
    gone = Q(key__startswith=SOURCE_KEY) & ~Q(key__in=sources)
    over = Q(window_at__lt=now - WINDOW_KEPT) & ~Q(key__startswith=SOURCE_KEY)
    return delete_in_batches(RateWindow.objects.filter(gone | over), dry_run=dry_run)


def _idle() -> QuerySet[Webhook]:
    """Not those whose forwards are going on."""
    return Webhook.objects.exclude(pk__in=Forward.objects.filter(status__in=LIVE_STATUSES).values("webhook_id"))


def _beyond(source: Source, now: datetime) -> QuerySet[Webhook]:
    rule, beyond = source.retention, Q(pk__in=[])
    if "days" in rule:
        beyond |= Q(received_at__lt=now - timedelta(days=rule["days"]))
    if "count" in rule or "bytes" in rule:
        beyond |= ~rejected.IS_BOUNDED & Q(pk__lte=_last_beyond_room(source))
    return _idle().filter(beyond, source=source.name)


def _last_beyond_room(source: Source) -> int:
    """The newest webhook beyond the number or bytes of `source`, 0 if all fit.

    Refused ones take no room here, as they have bounds of their own: else anybody could push the others out.
    """
    newest_first = Webhook.objects.filter(source=source.name).exclude(rejected.IS_BOUNDED).order_by("-id")
    added_up = newest_first.annotate(bytes=Window(Sum("size_bytes"), order_by=F("id").desc()))
    found = [0]
    if "count" in source.retention:
        found += newest_first.values_list("pk", flat=True)[source.retention["count"] :][:1]
    if "bytes" in source.retention:
        found += added_up.filter(bytes__gt=source.retention["bytes"]).values_list("pk", flat=True)[:1]
    return max(found)


def _remove_payloads(source: Source, now: datetime, *, dry_run: bool) -> int:
    before = now - timedelta(days=source.retention["payload_days"])
    if dry_run:
        rows = Webhook.objects.filter(source=source.name, received_at__lt=before, size_bytes__gt=0)
        return rows.exclude(flags__contains=[PAYLOAD_REMOVED]).count()
    removed = 0
    while batch := _remove_batch(source.name, before):
        removed += batch
    return removed


def _remove_batch(source_name: str, before: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE_PAYLOADS, [PAYLOAD_REMOVED, source_name, before, PAYLOAD_REMOVED, BATCH])
        return cursor.rowcount


WEBHOOKS = PrunableTable("RETENTION_WEBHOOKS_DAYS", prune_webhooks)
BY_SOURCE = PrunableTable("", prune_sources)
PAYLOADS = PrunableTable("", remove_payloads)
FORWARDS = PrunableTable("RETENTION_EXECUTIONS_DAYS", prune_forwards)
REPLAYS = PrunableTable("RETENTION_EXECUTIONS_DAYS", prune_replays)
RATE_WINDOWS = PrunableTable("", prune_rate_windows)
