"""How many requests may come: per source, per address and in the whole lab, shared by all processes.

The last period is counted in buckets. All of them count in full, the oldest too, so that never more than the limit passes
in any period, while at least `BUCKETS / (BUCKETS + 1)` of it does. (Two fixed windows, weighted, would let more pass when
a burst falls on their border.) The counts are one row per key, which one statement reads, judges and changes under its
lock.

A process is given several requests at once and uses them up without asking, but only in the bucket they are counted in;
it is given one at a time when little is left. Refusals are remembered until something can have become free, so a flood
costs no writes but one a second, which adds what was refused to the rows.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, NoReturn

from django.conf import settings
from django.db import connection
from django.db.models import CharField, F, Func, Sum, Value

from automation_lab.core.exceptions import AutomationLabError
from inbox.models import RateWindow, Source
from inbox.querysets import SOURCE_KEY
from inbox.validators import parse_rate

BUCKETS = 40
# What all sources together may send, in times of what one may: a lab of more busy sources raises INBOX_RATE_LIMIT.
WHOLE_LAB = 10
MAX_COUNT = 2**31 - 1  # what the database counts to
UNKNOWN_KIB_PER_HOUR = 64 * 1024
HOUR = 3600
MAX_REMEMBERED = 10_000
# At most this part of a limit is given to one process at once, and this part of what is left.
SHARE_OF_LIMIT = 400
SHARE_OF_REST = 64
FLUSH_SECONDS = 1.0
PRUNE_CHANCE = 0.001
PRUNED_AT_ONCE = 5000

Rate = tuple[int, int]


@dataclass(frozen=True)
class Limit:
    """`count` within `period_seconds`, of which the request takes `cost`."""

    key: str
    count: int
    period_seconds: int
    cost: int = 1

    @property
    def bucket_seconds(self) -> float:
        return self.period_seconds / BUCKETS


class RateLimited(AutomationLabError):
    """Too many requests. Answered as 429."""

    code = "rate_limited"

    def __init__(self, limit: Limit, retry_after: float) -> None:
        seconds = max(1, math.ceil(retry_after))
        super().__init__(f"Too many requests: try again in {seconds} s.")
        self.limit = limit
        self.retry_after = seconds


# --- which limits -----------------------------------------------------------------------------------------------------


def limits_for(source: Source, address: str) -> list[Limit]:
    """Names without a source share one limit. An address may send what the busiest source it sends to may receive."""
    default = _parsed(settings.INBOX_RATE_LIMIT)
    own = _parsed(source.rate_limit) if source.rate_limit else default
    limits = []
    if own:
        limits.append(Limit(source_key(source.name) if source.is_stored else "unknown", *own))
    if own and default and address:
        count, period = max(own, default, key=lambda rate: rate[0] / rate[1])
        limits.append(Limit(f"address:{_network(address)}/{period}", count, period))
    if default:
        limits.append(Limit("all", min(default[0] * WHOLE_LAB, MAX_COUNT), default[1]))
    return limits


def unknown_bytes(size_bytes: int) -> Limit:
    """What names without a source may fill together, in KiB."""
    return Limit("unknown-bytes", UNKNOWN_KIB_PER_HOUR, HOUR, cost=1 + size_bytes // 1024)


def refusals() -> dict[str, int]:
    """How many requests each kind of limit refused. Those of addresses are forgotten soon, and no longer counted."""
    kind = Func(F("key"), Value(":"), Value(1), function="split_part", output_field=CharField())
    totals = RateWindow.objects.annotate(kind=kind).values("kind").annotate(total=Sum("refused_count"))
    return dict(totals.values_list("kind", "total"))


def source_key(name: str) -> str:
    return f"{SOURCE_KEY}{name}"


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Rate | None:
    return parse_rate(text)


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    """An IPv6 sender has a whole /64 to choose addresses from."""
    parsed = ip_address(address)
    return str(ip_network((int(parsed), 64), strict=False)) if isinstance(parsed, IPv6Address) else str(parsed)


# --- taking -----------------------------------------------------------------------------------------------------------


@dataclass
class _Lease:
    """What this process may still use, in which bucket, and until when on its monotonic clock."""

    permits: int = 0
    bucket: int = -1
    until: float = 0.0
    size: int = 1
    closed_until: float = 0.0

    def covers(self, limit: Limit, now: float) -> bool:
        return self.until > now and self.permits >= limit.cost


class Limiter:
    """The limits as one process sees them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._leases: dict[tuple[str, int, int], _Lease] = {}
        self._refused: Counter[str] = Counter()
        self._noted_at = float("-inf")
        self._lock = threading.Lock()

    def take(self, limits: Sequence[Limit]) -> None:
        """Count one request under all `limits`, or under none. Raises RateLimited."""
        for limit in limits:
            if limit.cost > limit.count:
                raise RateLimited(limit, limit.period_seconds)
        self._note_refusals()
        held: dict[Limit, int] = {}  # and the bucket in which it was counted
        while missing := self._take_at_hand(limits, held):
            self._ask(missing, held)

    def _take_at_hand(self, limits: Sequence[Limit], held: dict[Limit, int]) -> list[Limit]:
        """Add to `held` what is at hand for the others of `limits`; the rest has to be asked for."""
        now = self._clock()
        with self._lock:
            pairs = [(limit, self._lease(limit)) for limit in limits]
            closed = next((pair for pair in pairs if pair[0] not in held and pair[1].closed_until > now), None)
            for limit, lease in pairs:
                if closed and held.get(limit) == lease.bucket:
                    lease.permits += limit.cost
                elif not closed and limit not in held and lease.covers(limit, now):
                    lease.permits -= limit.cost
                    held[limit] = lease.bucket
        if closed:
            self._refuse(*closed, now)
        return [limit for limit in limits if limit not in held]

    def _refuse(self, limit: Limit, lease: _Lease, now: float) -> NoReturn:
        with self._lock:
            self._refused[limit.key] += 1
        self._note_refusals()
        raise RateLimited(limit, lease.closed_until - now)

    def _note_refusals(self) -> None:
        """Of all limits, so that the last of a burst is noted with the next request of whatever source."""
        now = self._clock()
        with self._lock:
            if not self._refused or now - self._noted_at < FLUSH_SECONDS:
                return
            refused, self._refused, self._noted_at = self._refused, Counter(), now
        with connection.cursor() as cursor:
            cursor.execute(_NOTE_REFUSALS, [list(refused), list(refused.values())])

    def _lease(self, limit: Limit) -> _Lease:
        key = (limit.key, limit.count, limit.period_seconds)
        if key not in self._leases:
            if len(self._leases) >= MAX_REMEMBERED:
                self._leases.clear()  # what they held is lost to their limits, never given twice
            self._leases[key] = _Lease()
        return self._leases[key]

    def _ask(self, limits: list[Limit], held: dict[Limit, int]) -> None:
        """Ask the database for `limits`; what it grants goes to `held`, what is over to the other requests here."""
        now = self._clock()
        with self._lock:
            leases = {limit.key: self._lease(limit) for limit in limits}
            for limit in limits:
                _resize(leases[limit.key], limit, now)
        if random.random() < PRUNE_CHANCE:  # noqa: S311 - spreads work
            forget_old_addresses()
        answers = _ask_database(limits, {key: lease.size for key, lease in leases.items()})
        with self._lock:
            for limit in limits:
                if answers[limit.key].granted:
                    held[limit] = answers[limit.key].bucket
                _give(leases[limit.key], limit, answers[limit.key], now)


def _resize(lease: _Lease, limit: Limit, now: float) -> None:
    """More at once for a process that used all it was given, less for one that let some expire."""
    if lease.permits and lease.until <= now:
        lease.size = max(1, lease.size // 2)
    elif lease.until:
        lease.size = min(lease.size * 2, max(1, limit.count // SHARE_OF_LIMIT))


def _give(lease: _Lease, limit: Limit, answer: _Answer, asked_at: float) -> None:
    if not answer.granted:
        retry_after = answer.retry_after(limit)
        # What is too much of one thing may still be enough for a smaller one.
        lease.closed_until = asked_at + (retry_after if limit.cost == 1 else min(retry_after, FLUSH_SECONDS))
        return
    if answer.bucket > lease.bucket:
        # From when it was asked, so that the bucket ends here no later than in the database.
        lease.bucket, lease.permits, lease.until = answer.bucket, 0, asked_at + answer.bucket_left(limit)
    if answer.bucket == lease.bucket:
        lease.permits += answer.granted - limit.cost


@dataclass(frozen=True)
class _Answer:
    granted: int
    bucket: int
    counts: list[int]
    now: float

    def bucket_left(self, limit: Limit) -> float:
        return (self.bucket + 1) * limit.bucket_seconds - self.now

    def retry_after(self, limit: Limit) -> float:
        """Until enough of the oldest buckets no longer count."""
        left = sum(self.counts)
        for age in range(len(self.counts) - 1, -1, -1):
            left -= self.counts[age]
            if left + limit.cost <= limit.count:
                return max(0.0, (self.bucket - age + len(self.counts)) * limit.bucket_seconds - self.now)
        return float(limit.period_seconds)


_TABLE = RateWindow._meta.db_table
_ALL = BUCKETS + 1
# `needed` at least and `granted` at most; the newest bucket stands first in `counts`. Under a clock that was set back the
# newest bucket goes on, and after more than a period everything starts anew. One order of keys, so that nobody deadlocks.
_ASK = f"""
    INSERT INTO {_TABLE} AS held
        (key, period_seconds, max_count, needed, granted, bucket, counts, window_at, count, refused_count)
    SELECT key, period, max_count, needed, LEAST(wanted, max_count), floor(now / (period / {BUCKETS}.0)::float8),
        LEAST(wanted, max_count) || array_fill(0, ARRAY[{BUCKETS}]), to_timestamp(now), LEAST(wanted, max_count), 0
    FROM unnest(%s::text[], %s::int[], %s::int[], %s::int[], %s::int[])
        AS asked (key, period, max_count, needed, wanted),
        (SELECT extract(epoch FROM clock_timestamp())::float8 AS now) AS clock
    ORDER BY key
    ON CONFLICT (key) DO UPDATE SET
        (period_seconds, max_count, needed, granted, bucket, counts, window_at, count) = (
            SELECT excluded.period_seconds, excluded.max_count, excluded.needed, given, newest,
                (kept[1] + given) || kept[2:{_ALL}], to_timestamp(now), used + given
            FROM (SELECT extract(epoch FROM clock_timestamp())::float8 AS now) AS clock,
                LATERAL (
                    SELECT floor(now / (excluded.period_seconds / {BUCKETS}.0)::float8)::bigint AS current
                ) AS buckets,
                LATERAL (
                    SELECT held.period_seconds <> excluded.period_seconds OR held.bucket - current > {BUCKETS} AS anew
                ) AS judged,
                LATERAL (
                    SELECT CASE WHEN anew THEN current ELSE GREATEST(current, held.bucket) END AS newest,
                        CASE WHEN anew THEN {_ALL} ELSE LEAST(GREATEST(current - held.bucket, 0), {_ALL}) END::int
                            AS shift
                ) AS shifted,
                LATERAL (
                    SELECT array_fill(0, ARRAY[shift]) || held.counts[1:{_ALL} - shift] AS kept
                ) AS moved,
                LATERAL (SELECT sum(number)::int AS used FROM unnest(kept) AS number) AS summed,
                LATERAL (
                    SELECT CASE WHEN excluded.max_count - used < excluded.needed THEN 0 ELSE GREATEST(
                        excluded.needed, LEAST(excluded.granted, (excluded.max_count - used) / {SHARE_OF_REST})
                    ) END AS given
                ) AS decided
        )
    RETURNING key, granted, bucket, counts, extract(epoch FROM window_at)::float8
"""  # noqa: S608 - the name of our own table and whole numbers
_NOTE_REFUSALS = f"""
    UPDATE {_TABLE} AS held
    SET refused_count = LEAST(held.refused_count::bigint + refused, {MAX_COUNT}), refused_at = clock_timestamp()
    FROM (
        SELECT id, refused FROM {_TABLE} JOIN unnest(%s::text[], %s::int[]) AS noted (key, refused) USING (key)
        ORDER BY key FOR UPDATE OF {_TABLE}
    ) AS locked
    WHERE held.id = locked.id
"""  # noqa: S608
_FORGET = f"""
    DELETE FROM {_TABLE} WHERE id IN (
        SELECT id FROM {_TABLE}
        WHERE key LIKE 'address:%%' AND window_at < clock_timestamp() - make_interval(secs => 2 * period_seconds)
        LIMIT %s FOR UPDATE SKIP LOCKED
    )
"""  # noqa: S608


def _ask_database(limits: list[Limit], wanted: dict[str, int]) -> dict[str, _Answer]:
    columns: list[Any] = [
        [limit.key for limit in limits],
        [limit.period_seconds for limit in limits],
        [limit.count for limit in limits],
        [limit.cost for limit in limits],
        [max(limit.cost, wanted[limit.key]) for limit in limits],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_ASK, columns)
        return {row[0]: _Answer(*row[1:]) for row in cursor.fetchall()}


def forget_old_addresses() -> None:
    """There can be more of them than anybody would wait a night for; a few thousand at a time."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, [PRUNED_AT_ONCE])


limiter = Limiter()
take = limiter.take
