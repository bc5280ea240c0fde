"""From announcements to messages: which rows have changed, read once for all clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from automation_lab.core.live import Topic

LONGEST_TEXT = 500


@dataclass(frozen=True)
class Change:
    id: int
    event: str
    at: str


def parse(payload: str) -> tuple[str, list[Change]]:
    """(table, changes) of one announcement. Raises ValueError, KeyError or TypeError if it is none."""
    announced = json.loads(payload)
    at = utc(datetime.fromisoformat(announced["at"]))
    return announced["table"], [Change(int(pk), announced["event"], at) for pk in announced["ids"]]


def distinct(changes: Iterable[Change]) -> list[Change]:
    """One change for each row: a row that is new is told as new, with what it is by now."""
    by_id: dict[int, Change] = {}
    for change in changes:
        if change.event == "created" or change.id not in by_id:
            by_id[change.id] = change
    return list(by_id.values())


async def read(connection: AsyncConnection[Any], topic: Topic, changes: list[Change]) -> list[bytes]:
    """A message for each change whose row still exists, in the order of the changes."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_query(topic), [[change.id for change in changes]])
        rows = {row["id"]: row for row in await cursor.fetchall()}
    return list(_messages(topic, changes, rows))


def utc(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _messages(topic: Topic, changes: list[Change], rows: dict[int, dict[str, Any]]) -> Iterator[bytes]:
    for change in changes:
        row = rows.get(change.id)
        if row is not None:
            head = {"type": topic.name, "event": change.event, "id": change.id, "at": change.at}
            yield orjson.dumps(head | {name: _shown(value) for name, value in row.items()}, default=str)


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return value[: LONGEST_TEXT - 1] + "…"
    return value


def _query(topic: Topic) -> sql.Composed:
    own = [sql.Identifier(name) for name in topic.columns]
    derived = [
        sql.SQL("{} AS {}").format(sql.SQL(expression), sql.Identifier(name))
        for name, expression in topic.expressions.items()
    ]
    fields = sql.SQL(", ").join([sql.Identifier("id"), *own, *derived])
    return sql.SQL("SELECT {} FROM {} WHERE id = ANY(%s)").format(fields, sql.Identifier(topic.table))
