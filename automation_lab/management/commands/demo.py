"""`manage.py demo`: a lab to look at, made up."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from automation_lab import demo
from automation_lab.core import clock
from automation_lab.core.commands import LabCommand

MOST_EVENTS = 100_000


class Command(LabCommand):
    help = "Fill an empty lab with a made-up week: senders, webhooks, tasks and workflows with history, API requests."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seed", type=int, default=42, help="The same seed makes the same lab (default: 42).")
        parser.add_argument("--events", type=_events, default=400, help="About how many webhooks (default: 400).")
        parser.add_argument("--reset", action="store_true", help="First remove everything but users and tokens.")
        parser.add_argument("--yes", action="store_true", help="Go ahead although the lab is not empty.")
        parser.add_argument("--if-empty", action="store_true", help="Do nothing in a lab that is not empty.")

    def work(self, *, seed: int, events: int, reset: bool, yes: bool, if_empty: bool, **options: Any) -> int:
        report = self._report if options["verbosity"] else _silent
        if not demo.is_empty() and not yes:
            if if_empty:
                report("The lab is not empty: no demo is added.")
                return 0
            raise CommandError(
                "This lab is not empty. --yes adds the demo to what is there; --reset --yes removes everything first."
            )
        try:
            with transaction.atomic():
                if reset:
                    demo.empty()
                    report("Everything but users and tokens is removed.")
                demo.fill(seed=seed, events=events, now=clock.database_now(), report=report)
        except demo.Occupied as exc:
            raise CommandError(f"{exc.message} --reset --yes removes everything first.") from exc
        return 0

    def _report(self, line: str) -> None:
        self.stdout.write(line)


def _silent(line: str) -> None:
    pass


def _events(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_EVENTS:
        raise ArgumentTypeError(f"write a number from 1 to {MOST_EVENTS:,}")
    return int(text)
