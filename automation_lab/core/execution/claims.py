"""What a worker holds while it runs an execution, and the table of all that this process holds."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import models

from automation_lab.core.cancellation import Cancellation
from automation_lab.core.execution.models import Execution

CANCELLED = "cancelled"
TIMEOUT = "timeout"
STOPPING = "stopping"
REPLACED = "replaced"


@dataclass
class Claim:
    """One worker's hold on one execution, under one epoch. `cancellation` says when and why to stop."""

    model: type[Execution]
    pk: int
    epoch: int
    worker: int
    concurrency_keys: list[str] = field(default_factory=list)
    cancellation: Cancellation = field(default_factory=Cancellation)
    log: LogBuffer = field(default_factory=lambda: LogBuffer())

    def rows(self) -> models.QuerySet[Any]:
        """The execution, if this claim still holds it: the test that every write makes."""
        return self.model._default_manager.filter(pk=self.pk, status="running", epoch=self.epoch, worker=self.worker)


class Replaced(Exception):
    """Another claim has taken the execution over: what this one found out is thrown away."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(f"{claim.model._meta.label} {claim.pk}: epoch {claim.epoch} was replaced.")


class LogBuffer:
    """Log lines of one claim, written with the next commit. Safe from several threads."""

    MAX_LINES = 2_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[dict[str, Any]] = []
        self._seq = 0

    def add(self, level: str, text: str, *, at: datetime, path: str = "") -> None:
        with self._lock:
            self._seq += 1
            if self._seq > self.MAX_LINES:
                return
            if self._seq == self.MAX_LINES:
                level, text = "warning", f"More than {self.MAX_LINES} lines: the rest is not kept."
            self._lines.append({"seq": self._seq, "level": level, "text": text[:8_000], "at": at, "path": path})

    def lines(self) -> list[dict[str, Any]]:
        """All lines that were not drained: still there when the commit that writes them is repeated."""
        with self._lock:
            return list(self._lines)

    def drain(self) -> list[dict[str, Any]]:
        with self._lock:
            lines, self._lines = self._lines, []
        return lines


class Held:
    """The claims of this process, by execution."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[tuple[str, int, int], Claim] = {}

    def add(self, claim: Claim) -> None:
        with self._lock:
            self._claims[self._key(claim)] = claim

    def remove(self, claim: Claim) -> None:
        with self._lock:
            self._claims.pop(self._key(claim), None)

    def all(self) -> list[Claim]:
        with self._lock:
            return list(self._claims.values())

    def holds(self, model: type[Execution], pk: int, epoch: int) -> bool:
        return (model._meta.label, pk, epoch) in self._claims

    def stop_all(self, reason: str) -> int:
        claims = self.all()
        for claim in claims:
            claim.cancellation.cancel(reason)
        return len(claims)

    @staticmethod
    def _key(claim: Claim) -> tuple[str, int, int]:
        return (claim.model._meta.label, claim.pk, claim.epoch)


held = Held()
