"""Debian cron by brute force: all minutes around a change of clocks are listed. Shares nothing with the product.

Instants are naive UTC. Fixed times run at the first minute that shows their wall time or a later one; all others run
at every minute that shows it. Ordinary days (one offset from the day before to the day after) take a short cut.
Changes longer than three hours follow the same rule, where Debian drops the fixed times that were skipped.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from itertools import product
from zoneinfo import ZoneInfo

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def local(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    return local(instant, zone) - instant


@cache
def only_offset(day: date, zone: ZoneInfo) -> timedelta | None:
    """The offset around `day`, None if it changes there."""
    start = datetime(day.year, day.month, day.day) - 15 * HOUR
    offsets = {offset(start + n * HOUR, zone) for n in range(0, 55, 3)}
    return offsets.pop() if len(offsets) == 1 else None


@cache
def minutes_around(day: date, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """(instant, wall time) for all minutes that can belong to `day`, or to the day after a day that was left out."""
    start = datetime(day.year, day.month, day.day) - 15 * HOUR
    found = []
    for hour in (start + n * HOUR for n in range(78)):
        before, after = offset(hour, zone), offset(hour + HOUR, zone)
        minutes = [hour + n * MINUTE for n in range(60)]
        found += [(minute, minute + before if before == after else local(minute, zone)) for minute in minutes]
    return found


def values(text: str, low: int, high: int, names: list[str], first: int) -> set[int]:
    found: set[int] = set()
    for term in text.split(","):
        body, _, step = term.partition("/")
        ends = [names.index(end) + first if end in names else end for end in body.split("-")]
        if body == "*":
            start, stop = low, high
        else:
            start, stop = int(ends[0]), int(ends[-1])
            if step and len(ends) == 1:
                stop = high
        found.update(range(start, stop + 1, int(step or 1)))
    return found


class Oracle:
    def __init__(self, text: str, zone: ZoneInfo) -> None:
        parts = text.upper().split()
        second, minute, hour, self.day_text, month, self.weekday_text = parts if len(parts) == 6 else ["0", *parts]
        self.zone = zone
        self.seconds = sorted(values(second, 0, 59, [], 0))
        self.minutes = sorted(values(minute, 0, 59, [], 0))
        self.hours = sorted(values(hour, 0, 23, [], 0))
        self.months = values(month, 1, 12, MONTHS, 1)
        self.fixed = minute[0] != "*" and hour[0] != "*"
        self.both_days = self.day_text[0] == "*" or self.weekday_text[0] == "*"

    @cached_property
    def plain_days(self) -> set[int]:
        return values(",".join(t for t in self.day_text.split(",") if "L" not in t) or "32", 1, 31, [], 0)

    @cached_property
    def plain_weekdays(self) -> set[int]:
        plain = ",".join(t for t in self.weekday_text.split(",") if "L" not in t and "#" not in t)
        return {n % 7 for n in values(plain, 0, 7, WEEKDAYS, 0)} if plain else set()

    @cached_property
    def special_weekdays(self) -> list[tuple[int, int]]:
        """(weekday, n-th), n = 0 for the last."""
        found = []
        for term in self.weekday_text.split(","):
            if "#" in term:
                name, nth = term.split("#")
                found.append((WEEKDAYS.index(name) if name in WEEKDAYS else int(name) % 7, int(nth)))
            elif term.endswith("L"):
                found.append((int(term[:-1]) % 7, 0))
        return found

    def day_of_month_matches(self, day: date) -> bool:
        if day.day in self.plain_days:
            return True
        last = monthrange(day.year, day.month)[1]
        terms = self.day_text.split(",")
        if "L" in terms and day.day == last:
            return True
        if "LW" not in terms:
            return False
        workdays = [n for n in range(last - 3, last + 1) if date(day.year, day.month, n).weekday() < 5]
        return day.day == workdays[-1]

    def weekday_matches(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        if weekday in self.plain_weekdays:
            return True
        last = monthrange(day.year, day.month)[1]
        same = [n for n in range(1, last + 1) if (n - day.day) % 7 == 0] if self.special_weekdays else []
        return any(
            wanted == weekday and (nth <= len(same) and same[nth - 1] == day.day)
            for wanted, nth in self.special_weekdays
        )

    def day_matches(self, day: date) -> bool:
        if self.both_days:
            return self.day_of_month_matches(day) and self.weekday_matches(day)
        return self.day_of_month_matches(day) or self.weekday_matches(day)

    def runs_on(self, day: date, after: datetime, most: int) -> list[datetime]:
        """The first `most` runs later than `after` that belong to the wall times of `day`."""
        offset = only_offset(day, self.zone)
        if offset is None:
            found = self.fixed_runs(day) if self.fixed else self.shown_runs(day)
            return sorted(run for run in set(found) if run > after)[:most]
        runs = []
        midnight = datetime(day.year, day.month, day.day) - offset
        hours = [hour for hour in self.hours if midnight + (hour + 1) * HOUR > after]
        for hour, minute, second in product(hours, self.minutes, self.seconds):
            run = midnight + timedelta(seconds=hour * 3600 + minute * 60 + second)
            if run > after:
                runs.append(run)
                if len(runs) == most:
                    break
        return runs

    def shown_runs(self, day: date) -> list[datetime]:
        return [
            instant + timedelta(seconds=second)
            for instant, wall in minutes_around(day, self.zone)
            if wall.date() == day and wall.hour in self.hours and wall.minute in self.minutes
            for second in self.seconds
        ]

    def fixed_runs(self, day: date) -> list[datetime]:
        runs = []
        shown = iter(minutes_around(day, self.zone))
        instant, wall = next(shown)
        for hour, minute in product(self.hours, self.minutes):
            wanted = datetime(day.year, day.month, day.day, hour, minute)
            while wall < wanted:
                instant, wall = next(shown)
            runs += [instant + timedelta(seconds=second if wall == wanted else 0) for second in self.seconds]
        return runs

    def next_runs(self, after: datetime, count: int, until: datetime) -> list[datetime]:
        """The first `count` runs later than `after` and not later than `until`."""
        runs: set[datetime] = set()
        day = local(after, self.zone).date() - DAY
        enough_on = None
        while day <= until.date() + DAY and (enough_on is None or day <= enough_on + DAY):
            if day.month not in self.months:
                day = (day.replace(day=1) + 32 * DAY).replace(day=1)
                continue
            if self.day_matches(day):
                runs.update(self.runs_on(day, after, count))
            if enough_on is None and len(runs) >= count:
                enough_on = day
            day += DAY
        return sorted(run for run in runs if run <= until)[:count]
