"""Schedules: cron expressions, aliases, intervals and single instants. Pure: no clock and no database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

from automation_lab.core.exceptions import Invalid
from tasks.scheduling.syntax import clean, expand_alias, interval_seconds, one_instant
from tasks.scheduling.timings import CronTiming, IntervalTiming, OnceTiming, Timing, clock, day_words, never_fires

Kind = Literal["cron", "interval", "once"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A little within what dates can be, so that every instant of a schedule can be shown in every zone.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class PreviewRun:
    """One future run; `note` says what a change of clocks does to it, and is mostly empty."""

    at_utc: datetime
    at_local: datetime
    note: str


@dataclass(frozen=True)
class Schedule:
    """When a task runs. Two schedules are equal if they have the same slots for the same reason.

    A slot counts if the time that the text names lies from `start_at` to `end_at`, both included; then `delay`, the
    jitter of this task, is added to every one of them, so a run may come up to that much after `end_at`.
    """

    kind: Kind
    timing: Timing
    zone: ZoneInfo
    start_at: datetime | None
    end_at: datetime | None
    delay: timedelta

    @property
    def identity(self) -> str:
        """The normal form of the text: one for `@daily` and `0 0 * * *`, one for `15m` and `every 15 minutes`."""
        return self.timing.identity

    def next_after(self, instant: datetime) -> datetime | None:
        """The first slot strictly later than `instant`, aware in UTC; None if there is none within 50 years."""
        return next(self._slots(instant), None)

    def slots_between(self, after: datetime, until: datetime, *, limit: int) -> list[datetime]:
        """The first `limit` slots later than `after` and not later than `until`."""
        slots: list[datetime] = []
        for slot in islice(self._slots(after), limit):
            if slot > until:
                break
            slots.append(slot)
        return slots

    def preview(self, after: datetime, count: int) -> list[PreviewRun]:
        """The next `count` runs after `after`, with what changes of clocks do to them."""
        runs, previous = [], after.astimezone(UTC)
        for slot in islice(self._slots(after), count):
            note = self.timing.note(_naive(slot - self.delay), _naive(previous - self.delay))
            runs.append(PreviewRun(at_utc=slot, at_local=slot.astimezone(self.zone), note=note))
            previous = slot
        return runs

    def explain(self) -> str:
        """Such as `At 09:00 every day, Europe/Berlin, until 1 May 2030 at 00:00`."""
        parts = [self.timing.explain()]
        if self.start_at:
            parts.append(f"from {self._words(self.start_at)}")
        if self.end_at:
            parts.append(f"until {self._words(self.end_at)}")
        if self.delay:
            parts.append(f"delayed by {self.delay // timedelta(seconds=1)} s (jitter)")
        return ", ".join(parts)

    def _slots(self, after: datetime) -> Iterator[datetime]:
        """All slots later than `after` and earlier than LATEST."""
        last = _naive(min(self.end_at or LATEST, LATEST - TICK))
        try:
            nominal = _naive(max(after - self.delay, self.start_at - TICK) if self.start_at else after - self.delay)
            while (found := self.timing.after(nominal)) is not None and found <= last:
                yield found.replace(tzinfo=UTC) + self.delay
                nominal = found
        except OverflowError:
            return

    def _words(self, instant: datetime) -> str:
        wall = instant.astimezone(self.zone)
        return f"{day_words(wall)} at {clock(wall)}"


def parse(
    text: str,
    *,
    zone: ZoneInfo,
    anchor_at: datetime | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    jitter_seconds: int = 0,
    jitter_key: str = "",
) -> Schedule | None:
    """The schedule that `text` means in `zone`, or None for only by hand.

    Intervals count from `anchor_at` (its fraction of a second dropped), else from `start_at`, else from 1970, so that
    every 15 minutes means at :00, :15, … `jitter_key` tells tasks apart: the same key always gives the same delay.

    Raises: Invalid on `schedule`, with what to write instead, or on an instant that is out of reach.
    """
    text = expand_alias(clean(text))
    if not text:
        return None
    _check_reach(anchor_at=anchor_at, start_at=start_at, end_at=end_at)
    kind, timing = _timing(text, zone, anchor_at or start_at or EPOCH)
    delay = _delay(jitter_seconds, jitter_key)
    schedule = Schedule(kind, timing, zone, start_at, end_at, delay)
    if schedule.next_after(start_at - TICK + delay if start_at else EARLIEST) is None:
        raise never_fires(_reason(kind, start_at, end_at))
    return schedule


def reachable_end(end_at: datetime | None) -> datetime | None:
    """`end_at` of a stored schedule: what lies beyond the calendar, such as the last day of 9999, is no end."""
    return None if end_at is None or end_at >= LATEST else end_at


def _check_reach(**instants: datetime | None) -> None:
    for field, instant in instants.items():
        if instant is not None and not EARLIEST <= instant < LATEST:
            raise Invalid(f"{field} must lie in the years {EARLIEST.year} to {LATEST.year - 1}.", field=field)


def _timing(text: str, zone: ZoneInfo, anchor_at: datetime) -> tuple[Kind, Timing]:
    if (once := one_instant(text, zone)) is not None:
        return "once", OnceTiming(*once, zone)
    if (seconds := interval_seconds(text)) is not None:
        anchor = _naive(anchor_at).replace(microsecond=0)
        return "interval", IntervalTiming(timedelta(seconds=seconds), anchor, zone)
    return "cron", CronTiming.parse(text, zone)


def _reason(kind: Kind, start_at: datetime | None, end_at: datetime | None) -> str:
    if start_at or end_at:
        return f"no {'instant' if kind == 'once' else 'run'} lies between start_at and end_at"
    return "the instant is out of reach" if kind == "once" else "no date matches all its fields"


def _delay(jitter_seconds: int, key: str) -> timedelta:
    if jitter_seconds <= 0:
        return timedelta()
    digest = hashlib.sha256(key.encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8]) % jitter_seconds)


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)
