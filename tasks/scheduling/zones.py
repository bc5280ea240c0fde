"""Time zones by name."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from automation_lab.core.exceptions import Invalid

NO_ZONES = frozenset({"localtime", "Factory"})
"""Files beside the zones: the first is what each machine is set to, the second a placeholder."""
MAX_SHOWN = 100


@lru_cache(maxsize=1)  # it walks the files of the time zone database: 60 ms
def known_zones() -> frozenset[str]:
    return frozenset(available_timezones() - NO_ZONES)


def zone_named(name: str) -> ZoneInfo:
    """Raises Invalid, with the name probably meant."""
    if name not in known_zones():
        raise Invalid(unknown_zone(name), field="timezone")
    return ZoneInfo(name)


def zone_or_utc(name: str) -> ZoneInfo:
    """For what is done with a task whatever its zone: showing it, finding its other faults."""
    return ZoneInfo(name if name in known_zones() else "UTC")


def unknown_zone(name: str) -> str:
    """What to say of a name that is no zone."""
    by_lower = {known.lower(): known for known in sorted(known_zones())}
    near = get_close_matches(name[:MAX_SHOWN].lower(), by_lower, n=1)
    hint = f" Did you mean `{by_lower[near[0]]}`?" if near else ""
    return f"{name[:MAX_SHOWN]!r} is not a time zone of the IANA database.{hint}"
