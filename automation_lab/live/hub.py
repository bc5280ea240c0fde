"""One per process: listens while there are clients, reads what has changed, and hands it to every one of them."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from django.db import connections
from psycopg import AsyncConnection, Notify, sql

from automation_lab.core.live import CHANNEL, WATCH, WATCH_ARGUMENTS, Topic
from automation_lab.core.registry import live_topics
from automation_lab.live import messages
from automation_lab.live.messages import Change
from automation_lab.live.subscribers import LIMIT, Subscriber

logger = logging.getLogger(__name__)

# For transactions that wrote something when there was nobody to tell: without an end to them nothing can be promised.
LOCK_SECONDS = 10
GATHER_SECONDS = 0.02  # announcements that come within it are read together
PROBE_SECONDS = 15  # a connection silent for so long is tried
DELAYS = (0.2, 0.5, 1.0, 2.0, 5.0)
ROWS_AT_ONCE = LIMIT // 2
PATIENCE_SECONDS = 1.0  # how long all clients wait for one whose queue is half full, before it loses messages


class Hub:
    """Clients join and leave. The connection is there from the first to the last, and comes back after an outage."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._task: asyncio.Task[None] | None = None
        self._watching = False

    def join(self, subscriber: Subscriber) -> None:
        """`subscriber` is greeted once nothing can be missed any more."""
        self._subscribers.add(subscriber)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        elif self._watching:
            subscriber.greet(_now())

    def leave(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)
        if self._task is not None and not self._subscribers:
            self._task.cancel()
            self._task, self._watching = None, False

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with _watching_connection() as connection:
                    if failures:
                        logger.info("Live: listening to the database again.")
                    failures = 0
                    self._greet()
                    await self._follow(connection)
            except (psycopg.Error, OSError) as exc:
                self._watching = False
                if failures == 0:
                    logger.warning("Live: not listening to the database, trying again: %s", _reason(exc))
            await asyncio.sleep(DELAYS[min(failures, len(DELAYS) - 1)])
            failures += 1

    def _greet(self) -> None:
        self._watching = True
        for subscriber in self._subscribers:
            subscriber.greet(_now())

    async def _follow(self, connection: AsyncConnection[Any]) -> None:
        topics = {topic.table: topic for topic in live_topics.values()}
        while True:
            changed = _by_table(await _announcements(connection))
            for table, changes in changed.items():
                if table in topics:
                    await self._tell(connection, topics[table], messages.distinct(changes))
            if not changed:
                await connection.execute("SELECT 1")

    async def _tell(self, connection: AsyncConnection[Any], topic: Topic, changes: list[Change]) -> None:
        if not any(topic.name in subscriber.types for subscriber in self._subscribers):
            return
        for first in range(0, len(changes), ROWS_AT_ONCE):
            found = await messages.read(connection, topic, changes[first : first + ROWS_AT_ONCE])
            await self._let_clients_read()
            for message in found:
                for subscriber in self._subscribers:
                    subscriber.offer(topic.name, message)

    async def _let_clients_read(self) -> None:
        """A burst of thousands of rows comes faster than any client can read. One that loses messages is not waited for."""
        clock = asyncio.get_running_loop()
        end = clock.time() + PATIENCE_SECONDS
        while any(subscriber.is_behind for subscriber in self._subscribers) and clock.time() < end:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def _watching_connection() -> AsyncIterator[AsyncConnection[Any]]:
    """A connection that hears of everything that commits from now on."""
    connection = await AsyncConnection.connect(**_parameters(), autocommit=True)
    try:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        await connection.execute(WATCH, WATCH_ARGUMENTS)
        yield connection
    finally:
        await connection.close()


def _parameters() -> dict[str, Any]:
    parameters: dict[str, Any] = connections["default"].get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):  # Django's own, for blocking connections
        parameters.pop(name, None)
    return parameters | {"connect_timeout": 5, "tcp_user_timeout": 15_000, "application_name": "automation-lab tail"}


async def _announcements(connection: AsyncConnection[Any]) -> list[Notify]:
    """What is announced next and shortly after; nothing if all is quiet."""
    found = [notify async for notify in connection.notifies(timeout=PROBE_SECONDS, stop_after=1)]
    if found:
        await asyncio.sleep(GATHER_SECONDS)
        found += [notify async for notify in connection.notifies(timeout=0)]
    return found


def _by_table(notifies: Iterable[Notify]) -> dict[str, list[Change]]:
    changed: dict[str, list[Change]] = defaultdict(list)
    for notify in notifies:
        try:
            table, changes = messages.parse(notify.payload)
        except (ValueError, KeyError, TypeError):  # anybody with access to the database may send some
            logger.warning("Live: process %d of the database has sent something that is no announcement.", notify.pid)
            continue
        changed[table] += changes
    return changed


def _reason(exc: Exception) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0]


def _now() -> str:
    return messages.utc(datetime.now(UTC))


hub = Hub()
