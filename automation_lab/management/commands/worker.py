"""`manage.py worker`: claims and runs executions until it is told to stop."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from automation_lab.core.execution import worker


class Command(BaseCommand):
    help = "Run executions of tasks, workflows and forwards. SIGTERM stops it cleanly; any number may run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--concurrency", type=int, help="Executions at a time; default TASKS_CONCURRENCY.")

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(worker.from_settings(concurrency=options["concurrency"]).run())
