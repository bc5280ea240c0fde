"""The queue between the hub and one client."""

from __future__ import annotations

import asyncio
from collections import deque

import orjson

LIMIT = 1_000


class Subscriber:
    """Takes what is offered without ever waiting. Past `LIMIT` messages it drops until the client has caught up."""

    def __init__(self, types: frozenset[str]) -> None:
        self.types = types
        self._greeted = False
        self._queue: deque[bytes] = deque()
        self._dropped = 0
        self._filled = asyncio.Event()

    @property
    def is_behind(self) -> bool:
        """Reading, but with half a queue to go."""
        return not self._dropped and len(self._queue) > LIMIT // 2

    def greet(self, at: str) -> None:
        """The hub is listening: from now on nothing is missed; for a client greeted before, something may have been."""
        self._put(orjson.dumps({"type": "gap" if self._greeted else "hello", "at": at}))
        self._greeted = True

    def offer(self, topic: str, message: bytes) -> None:
        if not self._greeted or topic not in self.types:
            return
        if self._dropped or len(self._queue) >= LIMIT:
            self._dropped += 1
        else:
            self._put(message)

    async def next(self) -> bytes:
        """The next message for the client, as JSON."""
        while not self._queue:
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                return orjson.dumps({"type": "dropped", "count": dropped})
            self._filled.clear()
            await self._filled.wait()
        return self._queue.popleft()

    def _put(self, message: bytes) -> None:
        self._queue.append(message)
        self._filled.set()
