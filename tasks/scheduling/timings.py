"""The three ways in which slots follow each other. Pure; instants are naive UTC, wall times naive.

cronsim reads the expressions and judges the days. Which instants follow is decided here: cronsim itself loses runs
where clocks change by half an hour (Lord Howe), and reads fixed times by other rules once seconds are written.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from automation_lab.core.exceptions import Invalid
from tasks.scheduling.syntax import cron_fields, refusal
from tasks.scheduling.wall_clock import SECOND, Change, change_around, first_change, first_instant, offset_at, wall_at

DAY = timedelta(days=1)
SEARCH_YEARS = 50  # 29 February on a given weekday comes at least every 40 years
_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


class Timing(Protocol):
    @property
    def identity(self) -> str:
        """The normal form of the text, itself a schedule."""

    def after(self, instant: datetime) -> datetime | None:
        """The first slot later than `instant`."""

    def explain(self) -> str: ...

    def note(self, slot: datetime, previous: datetime) -> str:
        """What a change of clocks does to `slot`, the first one after `previous`; empty if nothing."""


@dataclass(frozen=True)
class CronTiming:
    """Wall times that match a cron expression, by the rules of Debian cron.

    Fixed times (neither minute nor hour starts with a star) run once: at the first of two equal wall times, and right
    after the change if clocks skip them, however long the change is. All others run whenever the wall time matches,
    so twice in a repeated hour and never in a skipped one. An expression with seconds follows the same rules.
    """

    identity: str
    zone: ZoneInfo
    fixed: bool
    _cron: CronSim = field(compare=False, repr=False)
    _hours: list[int] = field(compare=False, repr=False)
    _minutes: list[int] = field(compare=False, repr=False)
    _seconds: list[int] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> CronTiming:
        parts = cron_fields(text)
        identity = " ".join(parts[1:] if parts[0] == "0" else parts)
        try:
            cron = CronSim(" ".join(parts), datetime(2000, 1, 1))
        except CronSimError as error:  # each field is right by itself, so it is their combination
            raise never_fires() from error
        fixed = parts[1][0] != "*" and parts[2][0] != "*"
        return cls(identity, zone, fixed, cron, sorted(cron.hours), sorted(cron.minutes), sorted(cron.seconds))

    def after(self, instant: datetime) -> datetime | None:
        whole = instant.replace(microsecond=0)
        return self._next_fixed(whole) if self.fixed else self._next_shown(whole + SECOND)

    def _wall_after(self, wall: datetime) -> datetime | None:
        """The first matching wall time later than `wall`, whether clocks show it or not."""
        try:
            start = wall + SECOND
            if self._matches(start.date()) and (found := self._time_from(start.time())):
                return datetime.combine(start, found)
            day = self._day_after(start.date())
        except OverflowError:  # dates end in 9999
            return None
        return None if day is None else datetime.combine(day, time(self._hours[0], self._minutes[0], self._seconds[0]))

    def _time_from(self, start: time) -> time | None:
        hours, minutes, seconds = self._hours, self._minutes, self._seconds
        if start.hour in hours:
            if start.minute in minutes and start.second <= seconds[-1]:
                return start.replace(second=seconds[bisect_left(seconds, start.second)])
            if start.minute < minutes[-1]:
                return time(start.hour, minutes[bisect_right(minutes, start.minute)], seconds[0])
        if start.hour < hours[-1]:
            return time(hours[bisect_right(hours, start.hour)], minutes[0], seconds[0])
        return None

    def _matches(self, day: date) -> bool:
        return day.month in self._cron.months and self._cron.match_day(day)

    def _day_after(self, day: date) -> date | None:
        last = day.year + SEARCH_YEARS
        day += DAY
        while not self._matches(day):
            day = day + DAY if day.month in self._cron.months else (day.replace(day=1) + 32 * DAY).replace(day=1)
            if day.year > last:
                return None
        return day

    def _next_fixed(self, instant: datetime) -> datetime | None:
        wall = wall_at(instant, self.zone)
        change = change_around(wall, self.zone)
        if change and instant >= change.at:
            wall = change.wall_before - SECOND  # the second showing of these wall times: their runs are over
        match = self._wall_after(wall)
        return None if match is None else first_instant(match, self.zone)

    def _next_shown(self, start: datetime) -> datetime | None:
        """The first instant from `start` on whose wall time matches."""
        while True:
            offset = offset_at(start, self.zone)
            wall = self._wall_after(start + offset - SECOND)
            if wall is None:
                return None
            candidate = wall - offset
            near = min(candidate, start + DAY)
            if offset_at(near, self.zone) != offset:
                start = first_change(start, near, self.zone)
            elif near == candidate:
                return candidate
            else:  # no change shifts clocks by more than a day, so none can bring a match earlier than this
                start = max(near, candidate - 2 * DAY)

    def explain(self) -> str:
        return f"{self._cron.explain()}, {self.zone.key}"

    def note(self, slot: datetime, previous: datetime) -> str:
        wall = wall_at(slot, self.zone)
        change = change_around(wall, self.zone)
        if change:
            return self._repeat_note(wall, second=slot >= change.at)
        return self._gap_note(wall, wall_at(previous, self.zone))

    def _repeat_note(self, wall: datetime, *, second: bool) -> str:
        if self.fixed:
            return f"{repeated(wall)}, runs at the first."
        return f"{repeated(wall)}, this is the {'second' if second else 'first'}."

    def _gap_note(self, wall: datetime, previous: datetime) -> str:
        skipped = self._wall_after(previous)
        if skipped is None or skipped >= wall:
            return ""
        change = change_around(skipped, self.zone)
        if change is None or not change.is_forward:
            return ""
        following = self._wall_after(skipped)
        several = following is not None and following < change.wall_after
        missing = missing_times(change) if several else missing_time(skipped)
        return f"{missing}, {self._instead(wall, skipped, several=several)}."

    def _instead(self, wall: datetime, skipped: datetime, *, several: bool) -> str:
        at = clock(wall, beside=skipped)
        if not self.fixed:
            return "nothing runs then"
        if self._wall_after(wall - SECOND) == wall:
            return f"the run at {at} stands for all" if several else f"the run at {at} stands for both"
        return f"one run at {at}" if several else f"runs at {at}"


@dataclass(frozen=True)
class IntervalTiming:
    """`anchor` + n * `step`, n from 0 on: exact in UTC, whatever the clocks of `zone` do."""

    step: timedelta
    anchor: datetime
    zone: ZoneInfo

    @property
    def identity(self) -> str:
        return f"PT{self.step // SECOND}S"

    def after(self, instant: datetime) -> datetime | None:
        count = max((instant - self.anchor) // self.step + 1, 0)
        try:
            return self.anchor + count * self.step
        except OverflowError:
            return None

    def explain(self) -> str:
        anchor = wall_at(self.anchor, self.zone)
        return f"Every {length(self.step)}, counted from {day_words(anchor)} at {clock(anchor)}, {self.zone.key}"

    def note(self, slot: datetime, previous: datetime) -> str:
        """Only steps of whole days keep their wall time otherwise."""
        changed = offset_at(slot, self.zone) != offset_at(slot - self.step, self.zone)
        if self.step % DAY or not changed or slot == self.anchor:
            return ""
        return f"The clocks have changed: {length(self.step)} after the run before it is {clock(wall_at(slot, self.zone))}."


@dataclass(frozen=True)
class OnceTiming:
    """One instant; `written` is the wall time in `zone` that it was given as, None if it came with an offset."""

    at: datetime
    written: datetime | None = field(compare=False)
    zone: ZoneInfo

    @property
    def identity(self) -> str:
        return f"{self.at.isoformat()}Z"

    def after(self, instant: datetime) -> datetime | None:
        return self.at if self.at > instant else None

    def explain(self) -> str:
        wall = wall_at(self.at, self.zone)
        return f"Once, on {day_words(wall)} at {clock(wall)}, {self.zone.key}"

    def note(self, slot: datetime, previous: datetime) -> str:
        change = change_around(self.written, self.zone) if self.written else None
        if not change or self.written is None:
            return ""
        if change.is_forward:
            return f"{missing_time(self.written)}, runs at {clock(change.wall_after, beside=self.written)}."
        return f"{repeated(self.written)}, runs at the first."


def never_fires(detail: str = "no date matches all its fields") -> Invalid:
    return refusal(f"This schedule never fires: {detail}.", "never_fires")


def length(step: timedelta) -> str:
    """Such as `15 minutes`, `1 hour 30 minutes`, `minute`; a day is `24 hours`, which it is on every day."""
    seconds = step // SECOND
    if seconds == 86_400:
        return "24 hours"
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return parts[0].removeprefix("1 ") if len(parts) == 1 else " ".join(parts)


def clock(wall: datetime, *, beside: datetime | None = None) -> str:
    """The time of day, with the date if that differs from the date of `beside`."""
    text = wall.strftime("%H:%M:%S" if wall.second else "%H:%M")
    return text if beside is None or beside.date() == wall.date() else f"{text} on {day_words(wall)}"


def day_words(wall: datetime) -> str:
    return f"{wall.day} {wall.strftime('%B')} {wall.year}"


def repeated(wall: datetime) -> str:
    return f"{clock(wall)} happens twice on {day_words(wall)}"


def missing_time(wall: datetime) -> str:
    return f"{clock(wall)} does not exist on {day_words(wall)}"


def missing_times(change: Change) -> str:
    first, end = change.wall_before, change.wall_after
    if first.date() == end.date():
        return f"The times from {clock(first)} to {clock(end)} do not exist on {day_words(first)}"
    return f"The times from {clock(first)} on {day_words(first)} to {clock(end)} on {day_words(end)} do not exist"
