"""What becomes of log records before they are formatted."""

from __future__ import annotations

import logging

import psycopg
from django.db import InterfaceError, OperationalError
from procrastinate.exceptions import ConnectorException

OUTAGES = (OperationalError, InterfaceError, psycopg.OperationalError, ConnectorException)


class OutageFilter(logging.Filter):
    """A database that is away is one line, not the traceback of every part that has noticed."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OUTAGES):
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            record.msg, record.args = f"{' '.join(record.getMessage().split())} ({type(error).__name__}: {reason})", ()
            record.exc_info = record.exc_text = None
        return True
