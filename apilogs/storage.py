"""How rows reach the table: COPY over a connection of one's own, beside Django's pool."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql
from psycopg.errors import UniqueViolation

from apilogs.models import ApiLog, ApiLogDrop
from apilogs.rows import COLUMNS, Row

logger = logging.getLogger(__name__)

Write = Callable[[psycopg.Connection, Sequence[Row], Mapping[str, int]], None]
REFUSED = "refused by the database"

TABLE = sql.Identifier(ApiLog._meta.db_table)
FIELDS = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
COPY = sql.SQL("COPY {} ({}) FROM STDIN").format(TABLE, FIELDS)
STAGE = sql.SQL("CREATE TEMPORARY TABLE staged_api_logs ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
    FIELDS, TABLE
)
COPY_STAGED = sql.SQL("COPY staged_api_logs ({}) FROM STDIN").format(FIELDS)
# Not DISTINCT ON: two equal keys in one segment are caught by the conflict as well.
MERGE = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM staged_api_logs ON CONFLICT DO NOTHING").format(
    TABLE, FIELDS, FIELDS
)
RECORD_DROP = sql.SQL("INSERT INTO {} (at, process, count, reason) VALUES (clock_timestamp(), %s, %s, %s)").format(
    sql.Identifier(ApiLogDrop._meta.db_table)
)


def connect() -> psycopg.Connection:
    """A plain connection to Django's database. Timeouts make a silent network loss an error within seconds."""
    django = connections["default"]
    parameters: dict[str, Any] = django.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    parameters |= {"connect_timeout": 5, "tcp_user_timeout": 15_000, "autocommit": True}
    return psycopg.connect(**parameters)


def store_each(connection: psycopg.Connection, rows: Sequence[Row], drops: Mapping[str, int], write: Write) -> int:
    """`write` everything that the database accepts; the number of rows it refused. One such row costs only itself."""
    try:
        write(connection, rows, drops)
    except UniqueViolation:  # an earlier try was committed, though its answer was lost
        merge(connection, rows, drops)
    except (psycopg.DataError, psycopg.IntegrityError) as exc:
        if len(rows) > 1:
            middle = len(rows) // 2
            refused = store_each(connection, rows[:middle], drops, write)
            return refused + store_each(connection, rows[middle:], {}, write)
        logger.warning("The database refused an API log row: %s", exc.diag.message_primary or type(exc).__name__)
        write(connection, [], {**drops, REFUSED: drops.get(REFUSED, 0) + 1})
        return 1
    return 0


def store(connection: psycopg.Connection, rows: Sequence[Row], drops: Mapping[str, int]) -> None:
    """Rows and the count of those lost, together. A crash of the database may lose the last moment of them."""
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = off")
        if rows:
            _copy(connection, COPY, rows)
        _record_drops(connection, drops)


def merge(connection: psycopg.Connection, rows: Sequence[Row], drops: Mapping[str, int]) -> None:
    """Like `store`, but leaves out the rows whose key is stored already. Waits for the disk: a segment is deleted next."""
    with connection.transaction():
        if rows:
            connection.execute(STAGE)
            _copy(connection, COPY_STAGED, rows)
            connection.execute(MERGE)
        _record_drops(connection, drops)


def _copy(connection: psycopg.Connection, statement: sql.Composed, rows: Sequence[Row]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _record_drops(connection: psycopg.Connection, drops: Mapping[str, int]) -> None:
    for reason, count in drops.items():
        connection.execute(RECORD_DROP, [process_name(), count, reason[:100]])


def process_name() -> str:
    return f"{socket.gethostname()[:48]}:{os.getpid()}"
