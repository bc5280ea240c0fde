"""Random cron expressions as people write them: sparse and dense, names, ranges, steps, and all special days."""

from __future__ import annotations

from random import Random

WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]


def expression(random: Random) -> str:
    fields = [_field(random, 0, 59), _hour(random), _day(random), _month(random), _weekday(random)]
    if random.random() < 0.15:
        fields.insert(0, _field(random, 0, 59))
    return " ".join(fields)


def _field(random: Random, low: int, high: int) -> str:
    kind = random.choices(["one", "star", "step", "range", "list", "range_step", "from_step"], [6, 2, 3, 1, 2, 1, 1])[0]
    start = random.randint(low, high)
    end = random.randint(start, high)
    step = random.randint(1, high)
    return {
        "one": f"{start}",
        "star": "*",
        "step": f"*/{step}",
        "range": f"{start}-{end}",
        "list": ",".join(str(random.randint(low, high)) for _ in range(random.randint(2, 4))),
        "range_step": f"{start}-{end}/{step}",
        "from_step": f"{start}/{step}",
    }[kind]


def _hour(random: Random) -> str:
    """Often the hours in which clocks change."""
    return str(random.randint(0, 3)) if random.random() < 0.35 else _field(random, 0, 23)


def _day(random: Random) -> str:
    if random.random() < 0.6:
        return "*"
    if random.random() < 0.2:
        return random.choice(["L", "LW", "L,15", "1,LW", "31", "29-31", "30"])
    return _field(random, 1, 31)


def _month(random: Random) -> str:
    if random.random() < 0.75:
        return "*"
    if random.random() < 0.3:
        start = random.randrange(12)
        return random.choice([MONTHS[start], f"{MONTHS[start]}-{MONTHS[random.randint(start, 11)]}"])
    return _field(random, 1, 12)


def _weekday(random: Random) -> str:
    if random.random() < 0.6:
        return "*"
    if random.random() < 0.4:
        day = random.randrange(7)
        special = [f"{day}#{random.randint(1, 5)}", f"{WEEKDAYS[day]}#{random.randint(1, 4)}", f"{day}L", WEEKDAYS[day]]
        return random.choice([*special, "MON-FRI", f"{day},{WEEKDAYS[random.randrange(7)]}#2", "7", "5-7"])
    return _field(random, 0, 7)
