"""New webhooks in the order of their ids, for readers that remember how far they have come.

An id is handed out before its row is committed, so 302 may be visible before 301: a reader that went on to 302 would
never see 301. Hence nothing is given out above the *horizon*, the id below which no insert is going on any more. Every
insert holds a lock on the table from before its id is handed out until its end. So when all transactions that hold that
lock after the sequence was read have ended, every id that was handed out by then is committed or will never be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from automation_lab.core import stopping
from automation_lab.core.exceptions import Invalid
from inbox.models import Webhook
from inbox.querysets import WebhookQuerySet
from inbox.receiving.handshakes import FLAG as HANDSHAKE
from inbox.streaming.portions import fitting

POLL_SECONDS = 0.2
SETTLE_POLL_SECONDS = 0.005
PATIENCE_SECONDS = 0.5
SINCE_ROWS = 1_000
UNKNOWN_CURSOR = "unknown_cursor"

HANDED_OUT = f"SELECT last_value, is_called FROM {Webhook._meta.db_table}_id_seq"  # noqa: S608 - our own table
WRITERS = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = %s::regclass AND mode = 'RowExclusiveLock' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid IS DISTINCT FROM pg_backend_pid()
"""

_settled_until: dict[str, int] = {}
"""Database -> the highest horizon this process has seen: what is behind it stays readable while a writer hangs."""


@dataclass(frozen=True)
class Selection:
    """Which webhooks are wanted; an empty sequence means any. Without statuses, no refused requests and handshakes."""

    sources: Sequence[str] = ()
    event_types: Sequence[str] = ()
    statuses: Sequence[str] = ()

    def webhooks(self) -> WebhookQuerySet:
        found = Webhook.objects.all()
        if self.sources:
            found = found.filter(source__in=self.sources)
        if self.event_types:
            found = found.filter(event_type__in=self.event_types)
        if self.statuses:
            return found.filter(status__in=self.statuses)
        return found.exclude(status=Webhook.Status.REJECTED).exclude(flags__contains=[HANDSHAKE])


@dataclass(frozen=True)
class Batch:
    """`cursor` is where to read on: every webhook up to it has been given out or is not wanted."""

    webhooks: list[Webhook]
    cursor: int


def read(
    *,
    after: int,
    selection: Selection,
    limit: int,
    wait_seconds: float,
    sleep: Callable[[float], None] = stopping.pause,
    monotonic: Callable[[], float] = time.monotonic,
) -> Batch:
    """The next webhooks beyond `after`, oldest first. Waits up to `wait_seconds` for the first one."""
    deadline = monotonic() + wait_seconds
    while True:
        patience = max(deadline - monotonic(), PATIENCE_SECONDS)
        batch = _read_up_to(horizon(after, patience, sleep=sleep, monotonic=monotonic), after, selection, limit)
        if batch.webhooks or monotonic() + POLL_SECONDS > deadline or stopping.is_told():
            return batch
        after = batch.cursor
        sleep(POLL_SECONDS)


def horizon(
    after: int,
    patience_seconds: float,
    *,
    sleep: Callable[[float], None] = stopping.pause,
    monotonic: Callable[[], float] = time.monotonic,
) -> int:
    """The highest id up to which every row beyond `after` is settled, after waiting for inserts that are going on.

    Raises Invalid if no id as high as `after` was ever handed out.
    """
    top = latest_id()
    database = str(connection.settings_dict["NAME"])
    if top < after:
        raise Invalid(
            f"No webhook has had the id {after} yet, the newest is {top}: this place belongs to an earlier database. "
            "Begin without it.",
            field="after",
            code=UNKNOWN_CURSOR,
        )
    if top == after:
        return after
    deadline, writers = monotonic() + patience_seconds, _writers()
    while writers and monotonic() < deadline and not stopping.is_told():
        sleep(SETTLE_POLL_SECONDS)
        writers &= _writers()
    if writers:
        return min(top, _settled_until.get(database, 0))
    _settled_until[database] = top
    return top


def latest_id() -> int:
    """The last id that was handed out, committed or not."""
    with connection.cursor() as cursor:
        cursor.execute(HANDED_OUT)
        last_value, is_called = cursor.fetchone()
    return last_value if is_called else 0


def position_at(instant: datetime) -> int:
    """Where to start in order to get everything received from `instant` on: the order of ids is only nearly that of time."""
    first = Webhook.objects.filter(received_at__gte=instant).order_by("received_at", "id").values_list("pk", flat=True)
    ids = list(first[:SINCE_ROWS])
    return min(ids) - 1 if ids else latest_id()


def _read_up_to(top: int, after: int, selection: Selection, limit: int) -> Batch:
    if top <= after:
        return Batch([], after)
    wanted = selection.webhooks().filter(pk__gt=after, pk__lte=top).order_by("pk")
    sizes = list(wanted.values_list("pk", "size_bytes")[:limit])
    ids = fitting(sizes)
    webhooks = list(Webhook.objects.filter(pk__in=ids).defer("body").order_by("pk"))
    is_cut = len(ids) < len(sizes) or len(sizes) == limit
    return Batch(webhooks, ids[-1] if is_cut else top)


def _writers() -> set[str]:
    """The transactions of others that have written to the table of webhooks, or are about to."""
    with connection.cursor() as cursor:
        cursor.execute(WRITERS, [Webhook._meta.db_table])
        return {row[0] for row in cursor.fetchall()}
