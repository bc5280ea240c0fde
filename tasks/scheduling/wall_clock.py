"""Wall time and instants in one time zone, exact on the days on which clocks change. Pure.

Everything here is naive: an instant is in UTC, a wall time is what the clocks of the zone show.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Change:
    """The clocks of a zone are set from `wall_before` to `wall_after` at the instant `at`."""

    at: datetime
    wall_before: datetime
    wall_after: datetime

    @property
    def is_forward(self) -> bool:
        return self.wall_after > self.wall_before


def wall_at(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def offset_at(instant: datetime, zone: ZoneInfo) -> timedelta:
    return wall_at(instant, zone) - instant


def change_around(wall: datetime, zone: ZoneInfo) -> Change | None:
    """The change that makes `wall` missing (forward) or repeated (back); None for a wall time that exists once."""
    before, after = _offset(wall, zone, fold=0), _offset(wall, zone, fold=1)
    if before == after:
        return None
    early, late = sorted((wall - before, wall - after))
    at = first_change(early.replace(microsecond=0), late, zone)
    return Change(at=at, wall_before=at + before, wall_after=at + after)


def first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """When `wall` is shown: the first time if it is repeated, the instant of the change if it does not exist."""
    before, after = _offset(wall, zone, fold=0), _offset(wall, zone, fold=1)
    if before >= after:
        return wall - before
    return first_change((wall - after).replace(microsecond=0), wall - before, zone)


def first_change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first whole second after `low` with the offset of `high`. `low` is whole, and one change lies between."""
    offset = offset_at(low, zone)
    span = -((low - high) // SECOND)
    unchanged = 0
    while span - unchanged > 1:
        middle = (unchanged + span) // 2
        if offset_at(low + middle * SECOND, zone) == offset:
            unchanged = middle
        else:
            span = middle
    return low + span * SECOND


def _offset(wall: datetime, zone: ZoneInfo, *, fold: int) -> timedelta:
    return wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta()
