"""From what people write to the parts of a schedule, or to the reason why it is refused. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from cronsim import CronSimError
from cronsim.cronsim import RANGES, Field

from automation_lab.core.exceptions import Invalid
from automation_lab.core.suggestions import unknown_name
from tasks.scheduling.wall_clock import first_instant

MAX_LENGTH = 120
MAX_INTERVAL_SECONDS = 3660 * 86_400

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
WAYS = (
    "Write a cron expression (0 9 * * MON-FRI), an alias (@daily), an interval (every 15 minutes) "
    "or an instant (2030-08-01T09:00)."
)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_NAMES = {"s": "sec second", "m": "min minute", "h": "hr hour", "d": "day", "w": "week"}
UNITS = {
    name: _SECONDS[unit]
    for unit, names in _NAMES.items()
    for word in [unit, *names.split()]
    for name in (word, word + "s")
} | {"ms": Decimal("0.001"), "millisecond": Decimal("0.001"), "milliseconds": Decimal("0.001")}
_CALENDAR_UNITS = {"mo", "month", "months", "y", "year", "years", "quarter", "quarters"}

_TERM = r"\d+(?:\.\d+)?\s*[a-z]+"
_INTERVAL = re.compile(rf"(?:every\s+)?{_TERM}(?:(?:\s*,\s*|\s+and\s+|\s*){_TERM})*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DURATION = re.compile(
    r"p(?:{}y)?(?:{}m)?(?:{}w)?(?:{}d)?(?:t(?:{}h)?(?:{}m)?(?:{}s)?)?".replace("{}", r"(\d+(?:\.\d+)?)")
)
_DURATION_SECONDS = (604_800, 86_400, 3600, 60, 1)
_DATE_LIKE = re.compile(r"[+-]?(\d{4,})-\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::(\d\d)(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?", re.IGNORECASE)

_FOR_TIMES = "For days and times of day write a cron expression, such as 0 9 * * MON for every Monday at 09:00."
_NO_CALENDAR = "Months and years have no fixed length; write a cron expression, such as 0 0 1 * * for every month."


def refusal(reason: str, code: str = "invalid") -> Invalid:
    return Invalid(reason, field="schedule", code=code)


def clean(text: str) -> str:
    """`text` with single spaces. Raises Invalid if it cannot be a schedule in any notation."""
    if len(text) > MAX_LENGTH:
        raise refusal(f"A schedule has at most {MAX_LENGTH} characters; this has {len(text)}.", "too_long")
    cleaned = text.replace("\t", " ").strip()
    for char in cleaned:
        if not (char.isascii() and char.isprintable()):
            shown = f"{char!r} (U+{ord(char):04X})"
            raise refusal(f"{shown} cannot stand in a schedule; write ASCII letters, digits and spaces only.")
    return re.sub(" +", " ", cleaned)


def expand_alias(text: str) -> str:
    """The cron expression or interval behind an alias; any other text as it is."""
    lowered = text.lower()
    if not text.startswith("@"):
        return text
    if lowered.startswith("@every "):
        return lowered[1:]
    if lowered == "@reboot":
        raise refusal("@reboot has no meaning here: tasks belong to no single machine. " + WAYS)
    if lowered not in ALIASES:
        raise refusal(unknown_name(text, [*ALIASES, "@every 5m"], what="alias"))
    return ALIASES[lowered]


def interval_seconds(text: str) -> int | None:
    """The length of an interval, None if `text` is none. Whole seconds, from one second to ten years."""
    lowered = text.lower()
    if _NUMBER.fullmatch(lowered):
        return _checked(Decimal(lowered))
    if re.match(r"p[t\d]", lowered):
        return _checked(_iso_duration(text))
    if lowered.startswith("every ") and re.fullmatch("[a-z]+", lowered[6:]):
        lowered = f"1 {lowered[6:]}"
    if _INTERVAL.fullmatch(lowered):
        return _checked(_sum_of_terms(lowered.removeprefix("every ")))
    if lowered.startswith(("every", "-")):
        raise refusal(f"{text!r} is not an interval. Write a number and a unit, such as every 15 minutes. {_FOR_TIMES}")
    return None


def _checked(seconds: Decimal) -> int:
    if seconds < 1:
        raise refusal("An interval is at least 1 second.", "too_short")
    if seconds != seconds.to_integral_value():
        raise refusal("An interval is a whole number of seconds.")
    if seconds > MAX_INTERVAL_SECONDS:
        raise refusal("An interval is at most ten years (3660 days).", "too_long")
    return int(seconds)


def _sum_of_terms(text: str) -> Decimal:
    total, seen = Decimal(0), set()
    for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text):
        if unit in _CALENDAR_UNITS:
            raise refusal(_NO_CALENDAR)
        if unit not in UNITS:
            raise refusal(f"{unit!r} is no unit of time; write seconds, minutes, hours, days or weeks. {_FOR_TIMES}")
        if UNITS[unit] in seen:
            raise refusal(f"{unit!r} stands in this interval twice.")
        seen.add(UNITS[unit])
        total += Decimal(number) * UNITS[unit]
    return total


def _iso_duration(text: str) -> Decimal:
    match = _DURATION.fullmatch(text.lower())
    if not match or not any(match.groups()) or text[-1] in "Tt":
        raise refusal(f"{text!r} is not an ISO 8601 duration. Write such as PT15M, PT1H30M or P1D.")
    years, months, *parts = match.groups()
    if years or months:
        raise refusal(_NO_CALENDAR + (" Minutes stand after a T: PT15M." if months else ""))
    return sum((Decimal(part or 0) * unit for part, unit in zip(parts, _DURATION_SECONDS, strict=True)), Decimal(0))


def one_instant(text: str, zone: ZoneInfo) -> tuple[datetime, datetime | None] | None:
    """The naive UTC instant of an ISO text and, if it was written as wall time of `zone`, that; None if it is no date."""
    date = _DATE_LIKE.match(text)
    if not date:
        return None
    if len(date[1]) > 4 or text[0] in "+-":
        raise refusal("The year is outside 0001 to 9999.")
    match = _INSTANT.fullmatch(text)
    if not match:
        raise refusal(
            f"{text!r} is not an instant. Write date and time, such as 2030-08-01T09:00 or 2030-08-01T09:00:00Z."
        )
    if match[1] == "60":
        raise refusal("Second 60, a leap second, cannot be scheduled; write 59.")
    try:
        at = datetime.fromisoformat(text.upper())
        if at.tzinfo:
            return at.astimezone(UTC).replace(tzinfo=None), None
        return first_instant(at, zone), at
    except (ValueError, OverflowError) as error:
        raise refusal(f"{text!r} is not an instant: {error}.") from error


FIELD_HELP = {
    Field.SECOND: ("Second", "0-59"),
    Field.MINUTE: ("Minute", "0-59"),
    Field.HOUR: ("Hour", "0-23"),
    Field.DAY: ("Day of month", "1-31, L (the last day) or LW (the last weekday)"),
    Field.MONTH: ("Month", "1-12 or JAN-DEC"),
    Field.DOW: ("Day of week", "0-7 (0 and 7: Sunday), SUN-SAT, 5L (the last Friday) or MON#1 (the first Monday)"),
}
_SYMBOLS = {
    Field.MONTH: ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    Field.DOW: ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
}


def cron_fields(text: str) -> list[str]:
    """The six fields of a cron expression, seconds first. Raises Invalid naming the field that is wrong."""
    parts = text.upper().split()
    if len(parts) == 7:
        raise refusal("A year field is not supported; write 5 or 6 fields and set start_at and end_at.")
    if len(parts) not in (5, 6):
        raise refusal(_not_a_schedule(text, len(parts)))
    if len(parts) == 5:
        parts.insert(0, "0")
    return [_field(kind, value) for kind, value in zip(Field, parts, strict=True)]


def _not_a_schedule(text: str, count: int) -> str:
    if f"@{text.lower()}" in ALIASES:
        return f"{text!r} is not a schedule. Did you mean @{text.lower()}?"
    if re.search("[*/]", text):
        return (
            f"A cron expression has 5 fields (minute, hour, day of month, month, day of week), or 6 with seconds first; "
            f"this has {count}."
        )
    return f"{text!r} is not a schedule. {WAYS}"


def _field(kind: Field, value: str) -> str:
    return ",".join(_term(kind, term) for term in value.split(","))


def _term(kind: Field, term: str) -> str:
    try:
        kind.parse(term)
    except (CronSimError, ValueError) as error:
        name, allowed = FIELD_HELP[kind]
        hint = _hint(kind, term) or f"Write {allowed}; * for all, lists 1,2, ranges 1-5, steps */5."
        raise refusal(f"{name}: {term!r} is not accepted. {hint}") from error
    _check_step(kind, term)
    start, dash, end = term.partition("/")[0].partition("-")
    # cronsim takes 5-5/2 for 5/2, that is 5-59/2; in cron the range still ends at 5.
    return start if dash and kind.int(start) == kind.int(end) else term


def _check_step(kind: Field, term: str) -> None:
    """cron itself takes */90 for minute 0: hardly ever what was meant."""
    _, _, step = term.partition("/")
    size = len(RANGES[kind]) - (kind is Field.DOW)
    if step and int(step) > size:
        name = FIELD_HELP[kind][0]
        raise refusal(
            f"{name}: the step {step} is longer than the field, which has {size} values. "
            "For longer distances write an interval, such as every 90 minutes."
        )


def _hint(kind: Field, term: str) -> str:
    if term == "?":
        return "Write * instead."
    if re.match(r"[RH](\W|$)", term):
        return "Random (R) and hashed (H) times are not supported; write a fixed time and set jitter_seconds."
    if kind is Field.DAY and "W" in term:
        return "The nearest weekday (W) is not supported; LW is the last weekday of the month."
    if kind is Field.DOW and re.fullmatch(r"L[0-7]|[A-Z]{3}L", term):
        return "The last Friday of a month is written 5L."
    return _name_hint(kind, term) or _range_hint(kind, term)


def _name_hint(kind: Field, term: str) -> str:
    names = [name for name in _SYMBOLS.get(kind, []) if re.match(rf"{name}[A-Z]", term)]
    return f"Write {names[0]}." if names else ""


def _range_hint(kind: Field, term: str) -> str:
    start, dash, end = term.partition("/")[0].partition("-")
    try:
        backward = bool(dash) and kind.int(end) < kind.int(start)
    except CronSimError:
        return ""
    if not backward:
        return ""
    highest = _SYMBOLS[Field.DOW][-1] if end.isalpha() and kind is Field.DOW else str(max(RANGES[kind]))
    lowest = "SUN" if end.isalpha() and kind is Field.DOW else str(min(RANGES[kind]))
    return f"The range goes backwards; write it in two parts: {_span(start, highest)},{_span(lowest, end)}."


def _span(start: str, end: str) -> str:
    return start if start == end else f"{start}-{end}"
