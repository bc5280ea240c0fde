"""Deletes what is older than the RETENTION_… settings allow: one way for the nightly job, the command and tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from automation_lab.core import clock
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.models import LIVE_STATUSES
from automation_lab.core.registry import ServerJob, prunable_tables

BATCH = 500
Progress = Callable[[str, int], None]


def prune(
    *, now: datetime, only: Sequence[str] = (), dry_run: bool = False, progress: Progress = lambda name, count: None
) -> dict[str, int]:
    """Rows deleted, or that would be, by table. Raises Invalid for a table that is unknown."""
    unknown = sorted(set(only) - set(prunable_tables))
    if unknown:
        known = ", ".join(prunable_tables)
        raise Invalid(f"Not to be pruned: {', '.join(unknown)}; known are {known}.", field="only", code="unknown")
    counts = {}
    for name, table in prunable_tables.items():
        if only and name not in only:
            continue
        days = getattr(settings, table.setting) if table.setting else 0
        is_kept = table.setting and days <= 0
        counts[name] = 0 if is_kept else table.prune(now=now, days=days, dry_run=dry_run)
        progress(name, counts[name])
    return counts


def ended_before(executions: QuerySet[Any], instant: datetime) -> QuerySet[Any]:
    """Those of `executions` that had ended by `instant`."""
    old = executions.filter(created_at__lt=instant, finished_at__lt=instant)  # only `created_at` may have an index
    return old.exclude(status__in=LIVE_STATUSES)


def delete_in_batches(
    old: QuerySet[Any], *, dry_run: bool, batch: int = BATCH, oldest_first: Sequence[str] = ("pk",)
) -> int:
    """Delete `old` with what hangs on it, oldest first, each batch in a transaction of its own; how many of `old`."""
    if dry_run:
        return old.count()
    total = 0
    while True:
        with transaction.atomic():
            ids = list(old.order_by(*oldest_first).values_list("pk", flat=True)[:batch])
            old.model._base_manager.filter(pk__in=ids).delete()
        total += len(ids)
        if len(ids) < batch:
            return total


def _run(arguments: dict[str, Any]) -> dict[str, Any]:
    now = clock.database_now()
    return {"deleted": prune(now=now, only=arguments["only"], dry_run=arguments["dry_run"]), **_echo(arguments)}


def _echo(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"dry_run": True} if arguments["dry_run"] else {}


PRUNE = ServerJob(
    run=_run,
    config_schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "only": {"type": "array", "items": {"type": "string"}, "default": [], "title": "Only these tables"},
            "dry_run": {"type": "boolean", "default": False, "title": "Count only"},
        },
    },
    help="Delete what is older than the RETENTION_… settings allow.",
)
