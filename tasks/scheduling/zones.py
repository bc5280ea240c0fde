"""Time zones by name."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from automation_lab.core.exceptions import Invalid
from automation_lab.core.expressions import nearest_hint

known_zones = lru_cache(maxsize=1)(available_timezones)  # it walks the files of the time zone database: 60 ms


def zone_named(name: str) -> ZoneInfo:
    """Raises Invalid, with the name probably meant."""
    if name not in known_zones():
        hint = nearest_hint(name, known_zones())
        raise Invalid(f"{name!r} is not a time zone of the IANA database.{hint}", field="timezone")
    return ZoneInfo(name)
