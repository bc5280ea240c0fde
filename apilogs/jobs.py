"""What the worker does for the API log by the clock."""

from __future__ import annotations

from procrastinate.contrib.django import app

from apilogs import services
from automation_lab.core import clock


@app.periodic(cron="* * * * *", periodic_id="apilogs")
@app.task(name="apilogs.roll_up", queueing_lock="apilogs.roll_up", lock="apilogs.roll_up")
def roll_up(timestamp: int) -> None:
    services.load_spool()
    services.roll_up(clock.database_now())
