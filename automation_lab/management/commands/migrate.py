"""`manage.py migrate`, made safe for several machines that start at once, and able to prepare a new installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import connections

from automation_lab.core.exceptions import Conflict
from automation_lab.serving import first_start

LOCK_ID = 7_230_517_001  # any number, the same everywhere


class Command(DjangoMigrate):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--prepare", action="store_true", help="Make the first admin user and API token too.")

    def handle(self, *args: Any, **options: Any) -> None:
        with _one_at_a_time(options["database"]):
            super().handle(*args, **options)
            if options["prepare"]:
                self._prepare()

    def _prepare(self) -> None:
        try:
            lines = first_start.prepare().lines()
        except Conflict as exc:
            raise CommandError(exc.message) from exc
        if lines:
            self.stdout.write("\n".join(["First start. Write these down, they are not shown again:", *lines]))


@contextmanager
def _one_at_a_time(alias: str) -> Iterator[None]:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK_ID])
    try:
        yield
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK_ID])
