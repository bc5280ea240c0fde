"""What the worker does for the whole lab by the clock."""

from __future__ import annotations

from procrastinate.contrib.django import app

from automation_lab.core import clock, pruning


@app.periodic(cron="47 3 * * *", periodic_id="automation_lab")
@app.task(name="automation_lab.prune", queueing_lock="automation_lab.prune", lock="automation_lab.prune")
def prune(timestamp: int) -> None:
    pruning.prune(now=clock.database_now())
