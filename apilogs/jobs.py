"""What the worker does for the API log by the clock."""

from __future__ import annotations

from datetime import timedelta

from procrastinate.contrib.django import app

from apilogs import services
from automation_lab.core import clock


@app.periodic(cron="* * * * *", periodic_id="apilogs")
@app.task(name="apilogs.roll_up", queueing_lock="apilogs.roll_up", lock="apilogs.figures")
def roll_up(timestamp: int) -> None:
    services.load_spool()
    services.roll_up(clock.database_now())


@app.periodic(cron="17 3 * * *", periodic_id="apilogs")
@app.task(name="apilogs.prune", queueing_lock="apilogs.prune", lock="apilogs.figures")
def prune(timestamp: int) -> None:
    now = clock.database_now()
    services.roll_up(now, since=now - timedelta(hours=services.LATE_HOURS))
    services.prune_by_settings(now)
