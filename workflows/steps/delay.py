"""The step type `delay`: time passes without a worker."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from automation_lab.core import expressions
from automation_lab.core.execution.failures import RunError
from tasks.scheduling.wall_clock import first_instant, wall_at
from tasks.scheduling.zones import known_zones, unknown_zone
from workflows.steps.base import Fault, StepContext, Wait, WaitingType

LONGEST = timedelta(days=366)
TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?\Z")
WAYS = ("seconds", "until", "until_time")


class DelayStep(WaitingType):
    """Wait for some seconds, until an instant, or until a time of day; the output is `{"waited_until"}`."""

    key = "delay"
    title = "Delay"
    longest_wait = "seconds"
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "oneOf": [{"required": [way]} for way in WAYS],
        "properties": {
            "seconds": {
                "type": "number",
                "minimum": 0,
                "maximum": LONGEST.total_seconds(),
                "title": "Seconds",
            },
            "until": {
                "type": "string",
                "format": "date-time",
                "title": "Until",
                "description": "An instant such as 2026-01-31T09:00:00Z; one that has passed does not wait.",
            },
            "until_time": {
                "type": "string",
                "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$",
                "title": "Until the time",
                "description": "The next 09:00 or 09:00:30 in the time zone.",
            },
            "timezone": {"type": "string", "default": "UTC", "title": "Time zone"},
        },
    }

    def begin(self, *, config: dict[str, Any], context: StepContext) -> Wait:
        until = _end(config, context.now)
        if until > context.now + LONGEST:
            raise RunError(f"A delay may last {LONGEST.days} days at the most.", code="limit.delay")
        return Wait("delay", until=until, state={"until": until.isoformat()})

    def resume(self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], signal: Any) -> Any:
        return {"waited_until": datetime.fromisoformat(state["until"]).isoformat().replace("+00:00", "Z")}

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        zone = config.get("timezone")
        if not isinstance(zone, str) or expressions.has_expression(zone) or zone in known_zones():
            return []
        return [{"path": "timezone", "code": "configuration.timezone", "message": unknown_zone(zone)}]


def _end(config: dict[str, Any], now: datetime) -> datetime:
    if "seconds" in config:
        return now + timedelta(seconds=config["seconds"])
    if "until" in config:
        return _instant(config["until"])
    return _next_time_of_day(config["until_time"], config["timezone"], now)


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text.upper())
        if instant.tzinfo is None:
            raise ValueError
        return instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"{text[:100]!r} is not an instant such as 2026-01-31T09:00:00Z."
        raise RunError(message, code="configuration.until") from error


def _next_time_of_day(text: str, zone_name: str, now: datetime) -> datetime:
    """The first instant after `now` at which clocks of the zone show the time; one that is left out comes right after."""
    if zone_name not in known_zones():
        raise RunError(unknown_zone(zone_name), code="configuration.timezone")
    zone = ZoneInfo(zone_name)
    instant = now.astimezone(UTC).replace(tzinfo=None)
    hour, minute, second = (int(part or 0) for part in TIME_OF_DAY.match(text).groups())  # type: ignore[union-attr]  # the schema's pattern
    day = wall_at(instant, zone).replace(hour=hour, minute=minute, second=second, microsecond=0)
    found = next(at for days in range(3) if (at := first_instant(day + timedelta(days=days), zone)) > instant)
    return found.replace(tzinfo=UTC)
