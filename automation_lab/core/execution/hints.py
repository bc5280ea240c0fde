"""The jobs of the engine as it sends them: hints to look at an execution."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from procrastinate.contrib.django import app
from procrastinate.jobs import JobDeferrer

from automation_lab.core import clock
from automation_lab.core.execution.models import Execution


def kind_of(model: type[Execution] | Execution) -> str:
    """The key under which a concrete execution is registered and named in jobs."""
    return model._meta.label_lower


def send_job(execution: Execution, *, due_at: datetime) -> None:
    """Defer the hint for `execution` and note its id in the row, in the caller's transaction."""
    later = due_at if due_at > clock.database_now() + timedelta(milliseconds=50) else None
    job = run_job(schedule_at=later, priority=execution.priority)
    execution.job_id = job.defer(kind=kind_of(execution), execution_id=execution.pk)
    type(execution)._default_manager.filter(pk=execution.pk).update(job_id=execution.job_id)


def run_job(**options: Any) -> JobDeferrer:
    """The engine's job, not deferred yet. Named, not imported: its module imports the runner, which sends jobs."""
    return app.configure_task("run_execution", queue="default", **options)
