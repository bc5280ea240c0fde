"""manage.py backfill: run the slots of a past period."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation_lab.core.commands import NOTHING, LabCommand, instant
from tasks import lookup
from tasks.scheduling import backfill


class Command(LabCommand):
    """Run the slots of a past period that were missed or skipped, or have no run."""

    help = "Run the slots of a past period that were missed or skipped, or have no run. Exit code 3: there are none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="name of the task")
        parser.add_argument("--from", required=True, dest="from_at", metavar="INSTANT", help="2027-03-01T09:00Z")
        parser.add_argument("--to", required=True, dest="to_at", metavar="INSTANT", help="included")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def work(self, *, name: str, from_at: str, to_at: str, dry_run: bool, **options: Any) -> int:
        task = lookup.task_named(name)
        done = backfill.backfill(task=task, from_at=instant(from_at), to_at=instant(to_at), dry_run=dry_run)
        started = done.revived + done.created
        verb = "would be queued" if dry_run else "are queued"
        self.stdout.write(f"{done.slots} slots: {started} {verb}, {done.kept} have their run already.")
        return 0 if started else NOTHING
