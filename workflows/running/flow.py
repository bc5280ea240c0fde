"""How a walk leaves the straight line: a part of the run waits, or a step has failed for good."""

from __future__ import annotations

from datetime import datetime

from workflows.models import StepExecution

BRANCH_CANCELLED = "branch cancelled"
"""The reason for cutting off a branch: its neighbours have decided how their step ends."""


class Waiting(Exception):
    """This part of the run goes on at `until`, or when an event comes (None)."""

    def __init__(self, until: datetime | None, waiting_for: str) -> None:
        super().__init__(waiting_for)
        self.until = until
        self.waiting_for = waiting_for


class StepFailed(Exception):
    """A step has failed for good and nothing in its place handles it."""

    def __init__(self, record: StepExecution) -> None:
        super().__init__(record.path)
        self.record = record
