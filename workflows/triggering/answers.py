"""Synchronous answers: the sender of a webhook waits for the `respond` step of the run that it started."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings

from automation_lab.core.execution.models import LIVE_STATUSES
from workflows.definitions import tree
from workflows.models import WorkflowExecution, WorkflowVersion

LONGEST_SECONDS = 10.0
POLL_SECONDS = 0.04

Answer = dict[str, Any]

# Each sender that waits occupies a web thread: some stay free for everybody else.
_places = threading.BoundedSemaphore(max(1, settings.WEB_THREADS - 2))


def responds(version: WorkflowVersion) -> bool:
    """Whether the definition has a `respond` step, anywhere."""
    return any(item.step["type"] == "respond" for item in tree.walk(version.steps))


def answer_of(execution: WorkflowExecution) -> Callable[[], Answer | None]:
    """What gives the answer of `execution` once its transaction is committed: `{"status", "headers", "body"}`.

    None when there is none within 10 seconds, when the run ended without one, or when too many senders wait already.
    """

    def wait() -> Answer | None:
        if not _places.acquire(blocking=False):
            return None
        try:
            return _poll(execution.pk)
        finally:
            _places.release()

    return wait


def _poll(execution_id: int) -> Answer | None:
    deadline = time.monotonic() + LONGEST_SECONDS
    rows = WorkflowExecution.objects.filter(pk=execution_id)
    while time.monotonic() < deadline:
        row = rows.values("status", "output").first()
        if row is None:
            return None
        if isinstance(row["output"], dict) and {"status", "headers", "body"} <= row["output"].keys():
            return row["output"]
        if row["status"] not in LIVE_STATUSES:
            return None
        time.sleep(POLL_SECONDS)
    return None
