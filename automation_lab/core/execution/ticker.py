"""Turns due schedules into executions, in every worker and without a leader: row locks and unique slots decide.

An app registers a tick source: called with the database's time, it records what is due and returns when it wants to be
called again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from automation_lab.core import clock
from automation_lab.core.registry import tick_sources

logger = logging.getLogger(__name__)

TickSource = Callable[[datetime], "datetime | None"]
LONGEST_SLEEP_SECONDS = 1.0


def tick() -> float:
    """One round over every source. Returns the seconds until the next one is needed, at most one second."""
    wanted = LONGEST_SLEEP_SECONDS
    for name, source in tick_sources.items():
        now = clock.database_now()
        try:
            next_at = source(now)
        except Exception:  # the worker loop's edge: one source must not stop the others
            logger.exception("The tick source %s failed; the next round tries again.", name)
            continue
        if next_at is not None:
            wanted = min(wanted, (next_at - clock.database_now()).total_seconds())
    return max(0.0, wanted)
