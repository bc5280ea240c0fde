"""What becomes of the slots that are due: which run, which are missed, and when to look again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from automation_lab.core.exceptions import Invalid
from tasks.scheduling.schedules import Schedule

MOST_SLOTS = 10_000
"""Slots looked at in one round; what is left over is planned in the next one."""
MOST_RUNS = 1_000
MOST_FAULT = 1_000
RUN_ONCE, SKIP, RUN_ALL = "run_once", "skip", "run_all"


@dataclass(frozen=True)
class Missed:
    """`count` slots from `first_at` on that do not run any more."""

    first_at: datetime
    count: int


@dataclass(frozen=True)
class SlotPlan:
    """`runs` are the slots that get a run each, in order; `next_at` is the first slot that is not planned yet.

    `fault` says why the schedule cannot be evaluated: there is nothing else in the plan then.
    """

    runs: list[datetime] = field(default_factory=list)
    missed: Missed | None = None
    next_at: datetime | None = None
    fault: str = ""


def plan(
    schedule: Schedule, *, due_from: datetime, now: datetime, grace_seconds: int, misfire: str, misfire_limit: int
) -> SlotPlan:
    """The plan for the slots from `due_from` (itself a slot) to `now`.

    Slots younger than the grace run each. Of the older ones `run_once` runs the last, `run_all` the last
    `misfire_limit`, `skip` none; what is left over is missed. When there are too many for one round, `next_at` is not
    later than `now`; no slot is passed over.
    """
    slots = [due_from, *schedule.slots_between(due_from, now, limit=MOST_SLOTS)]
    next_at = slots.pop() if len(slots) > MOST_SLOTS else schedule.next_after(now)
    oldest = now - timedelta(seconds=grace_seconds)
    late = [slot for slot in slots if slot < oldest]
    kept = min({RUN_ONCE: 1, SKIP: 0, RUN_ALL: misfire_limit}[misfire], MOST_RUNS)
    if next_at is not None and next_at < oldest:
        # Later slots are late too, so which ones run is for the round that sees the last of them.
        cut = len(late) - kept
        return SlotPlan(missed=Missed(late[0], cut), next_at=late[cut] if kept else next_at)
    cut = max(0, len(late) - kept)
    runs = slots[cut:]
    return SlotPlan(
        runs=runs[:MOST_RUNS],
        missed=Missed(late[0], cut) if cut else None,
        next_at=runs[MOST_RUNS] if len(runs) > MOST_RUNS else next_at,
    )


def plan_or_fault(parse: Callable[[], Schedule | None], *, due_from: datetime | None, **rules: Any) -> SlotPlan:
    """`plan` for the schedule that `parse` gives. One that cannot be evaluated gives its fault and stops no other."""
    try:
        schedule = parse()
        if schedule is None or due_from is None:
            return SlotPlan()
        return plan(schedule, due_from=due_from, **rules)
    except (Invalid, ValueError, OverflowError, LookupError) as error:
        return SlotPlan(fault=f"The schedule cannot be evaluated: {error}"[:MOST_FAULT])
