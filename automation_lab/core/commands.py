"""What the lab's management commands share: exit codes 0 ok, 1 failed, 2 usage, 3 nothing to do; errors in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, ProgrammingError
from django.utils.dateparse import parse_datetime
from psycopg.errors import UndefinedTable

from automation_lab.core.exceptions import AutomationLabError, Invalid

FAILED, USAGE, NOTHING = 1, 2, 3


class LabCommand(BaseCommand):
    """`work` does it and returns the exit code; what a service refuses becomes a sentence and code 1 or 2."""

    work: Callable[..., int]

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = self.work(**options)
        except AutomationLabError as error:
            raise CommandError(_sentences(error), returncode=USAGE if isinstance(error, Invalid) else FAILED) from error
        except (InterfaceError, OperationalError, ProgrammingError) as error:
            if explained := _explained(error):
                raise explained from error
            raise
        if code:
            raise SystemExit(code)

    def usage(self, message: str) -> CommandError:
        return CommandError(message, returncode=USAGE)


def _explained(error: Exception) -> CommandError | None:
    """As a sentence what the state of the database explains; None for a fault of ours."""
    if isinstance(error.__cause__, UndefinedTable):
        return CommandError("The database has no tables yet, or old ones: run migrate, or start the lab, first.")
    if isinstance(error, ProgrammingError):
        return None
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CommandError(f"The database does not answer: {reason}")


def instant(text: str) -> datetime:
    """An argument such as 2027-03-01T09:00Z. Raises Invalid unless it is an instant with its offset."""
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Invalid(f"{text!r} is no instant: write it with its offset, such as 2027-03-01T09:00Z.")
    return found


def _sentences(error: AutomationLabError) -> str:
    faults = error.errors if isinstance(error, Invalid) else []
    listed = [f"{fault['field']}: {fault['detail']}" for fault in faults if fault["detail"] != error.message]
    return "\n".join([error.message, *listed])
