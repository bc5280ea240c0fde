"""Statements that are prepared: for the few that every request runs, and those with large values.

Django writes values into the text of a statement, where they are escaped here, and parsed and planned there, each time.
"""

from __future__ import annotations

from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper


def prepared_cursor() -> CursorWrapper:
    """A cursor of the current connection, to be used as a context; what it runs is sent with its values apart."""
    connection.ensure_connection()
    cursor = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]
    wrapped: CursorWrapper = connection._prepare_cursor(cursor)  # type: ignore[attr-defined]
    return wrapped
