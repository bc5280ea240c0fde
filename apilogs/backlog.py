"""The rows that wait to be stored, bounded by number and by bytes."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from apilogs.rows import Entry, Row

QUEUE_FULL = "queue full"


class Waiting(NamedTuple):
    entry: Entry
    head: Row | None  # built already when there is a spool

    @property
    def is_error(self) -> bool:
        return self.entry.status_code >= 400


class Backlog:
    """When full, the newest successes go first: errors are what a log is read for. Not locked by itself.

    Rows that were taken still count until they are `done`, so the bound holds while the database is away.
    """

    def __init__(self, *, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._successes: deque[Waiting] = deque()
        self._errors: deque[Waiting] = deque()
        self._taken_rows = 0
        self._bytes = 0
        self.drops: Counter[str] = Counter()

    def __len__(self) -> int:
        """The rows not taken yet."""
        return len(self._successes) + len(self._errors)

    @property
    def held(self) -> int:
        return len(self) + self._taken_rows

    def add(self, waiting: Waiting) -> bool:
        """False when there was no room and `waiting` was dropped."""
        while self._is_full(waiting.entry.weight):
            self.drops[QUEUE_FULL] += 1
            if not (waiting.is_error and self._successes):
                return False
            self._bytes -= self._successes.pop().entry.weight
        (self._errors if waiting.is_error else self._successes).append(waiting)
        self._bytes += waiting.entry.weight
        return True

    def _is_full(self, weight: int) -> bool:
        return self.held >= self._max_rows or self._bytes + weight > self._max_bytes

    def replace(self, function: Callable[[Waiting], Waiting]) -> None:
        """Put what `function` makes of each row not taken yet in its place."""
        self._successes = deque(map(function, self._successes))
        self._errors = deque(map(function, self._errors))

    def take(self) -> list[Waiting]:
        taken = sorted([*self._errors, *self._successes], key=lambda waiting: waiting.entry.started_at)
        self._errors.clear()
        self._successes.clear()
        self._taken_rows += len(taken)
        return taken

    def take_drops(self) -> dict[str, int]:
        drops = dict(self.drops)
        self.drops.clear()
        return drops

    def done(self, taken: list[Waiting]) -> None:
        self._taken_rows -= len(taken)
        self._bytes -= sum(waiting.entry.weight for waiting in taken)
