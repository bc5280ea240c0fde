"""The next runs of a schedule, as API, console and commands show them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tasks.models import ScheduledTask
from tasks.scheduling import schedules, ticking
from tasks.scheduling.schedules import Schedule
from tasks.scheduling.zones import zone_named

BY_HAND = "Only by hand."


def of_task(task: ScheduledTask, *, now: datetime, count: int) -> dict[str, Any]:
    """The next `count` runs of `task`. Raises Invalid if its schedule cannot be evaluated."""
    return _preview(ticking.schedule_of(task), task.schedule, task.timezone, now=now, count=count)


def of_text(
    text: str,
    *,
    timezone: str,
    now: datetime,
    count: int,
    anchor_at: datetime | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> dict[str, Any]:
    """The next `count` runs of a schedule that is not saved. Raises Invalid with the reason."""
    zone = zone_named(timezone)
    schedule = schedules.parse(text, zone=zone, anchor_at=anchor_at or now, start_at=start_at, end_at=end_at)
    return _preview(schedule, text, timezone, now=now, count=count)


def _preview(schedule: Schedule | None, text: str, timezone: str, *, now: datetime, count: int) -> dict[str, Any]:
    runs = schedule.preview(now, count) if schedule else []
    return {
        "schedule": text,
        "timezone": timezone,
        "explanation": schedule.explain() if schedule else BY_HAND,
        "runs": [{"at_utc": run.at_utc, "at_local": run.at_local.isoformat(), "note": run.note} for run in runs],
    }
