"""The one job of the engine: a hint to look at an execution."""

from __future__ import annotations

from procrastinate import JobContext
from procrastinate.contrib.django import app

from automation_lab.core.execution import runner


@app.task(name="run_execution", pass_context=True, queue="default")
def run_execution(context: JobContext, *, kind: str, execution_id: int) -> None:
    worker = context.job.worker_id
    if worker is None:
        return  # the worker's row was pruned between fetch and run: recovery sends a new job
    runner.run(kind, execution_id, worker=worker)
