"""What becomes of the slots that are due: which run, which are missed, and when to look again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasks.schedules import Schedule

MOST_SLOTS = 10_000
RUN_ONCE, SKIP, RUN_ALL = "run_once", "skip", "run_all"


@dataclass(frozen=True)
class Missed:
    """`count` slots from `first_at` on that do not run any more."""

    first_at: datetime
    count: int


@dataclass(frozen=True)
class SlotPlan:
    """`runs` are the slots that get a run each; `next_at` the first slot after now."""

    runs: list[datetime] = field(default_factory=list)
    missed: Missed | None = None
    next_at: datetime | None = None


def plan(
    schedule: Schedule, *, due_from: datetime, now: datetime, grace_seconds: int, misfire: str, misfire_limit: int
) -> SlotPlan:
    """The plan for the slots from `due_from` (itself a slot) to `now`.

    Slots younger than the grace run each. Of the older ones `run_once` runs the last, `run_all` the last
    `misfire_limit`, `skip` none; what is left over is missed. After an outage of more than 10,000 slots the count is
    that of the first 10,000.
    """
    slots = [due_from, *schedule.slots_between(due_from, now, limit=MOST_SLOTS)]
    oldest = now - timedelta(seconds=grace_seconds)
    if len(slots) > MOST_SLOTS:
        slots = [slot for slot in slots if slot < oldest]
        slots += schedule.slots_between(max(slots[-1], oldest), now, limit=MOST_SLOTS) if slots else []
    late = [slot for slot in slots if slot < oldest]
    kept = {RUN_ONCE: 1, SKIP: 0, RUN_ALL: misfire_limit}[misfire]
    made_up, missed = (late[-kept:], late[:-kept]) if kept else ([], late)
    return SlotPlan(
        runs=[*made_up, *slots[len(late) :]],
        missed=Missed(missed[0], len(missed)) if missed else None,
        next_at=schedule.next_after(now),
    )
