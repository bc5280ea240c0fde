"""What the commands share: the database that is away or not prepared is a sentence."""

from __future__ import annotations

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError
from psycopg.errors import UndefinedTable

from automation_lab.core.commands import LabCommand


class Failing(LabCommand):
    def __init__(self, error: Exception, cause: Exception | None = None) -> None:
        super().__init__()
        self.error, self.cause = error, cause

    def work(self, **options):
        raise self.error from self.cause


def test_a_database_that_is_away_is_a_sentence():
    away = OperationalError("couldn't get a connection after 5.00 sec\nmore")

    with pytest.raises(CommandError, match=r"The database does not answer: couldn't get a connection after 5.00 sec$"):
        Failing(away).handle()


def test_a_database_without_tables_is_a_sentence_that_says_what_to_run():
    empty = ProgrammingError('relation "scheduled_tasks" does not exist')

    with pytest.raises(CommandError, match="run migrate"):
        Failing(empty, UndefinedTable()).handle()


def test_a_fault_of_ours_stays_one():
    with pytest.raises(ProgrammingError):
        Failing(ProgrammingError("syntax error")).handle()
