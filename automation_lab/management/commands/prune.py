"""manage.py prune: delete what is older than the RETENTION_… settings allow."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation_lab.core import clock, pruning
from automation_lab.core.commands import NOTHING, LabCommand


class Command(LabCommand):
    """Delete old rows in batches; counts only, unless --yes is given."""

    help = "Delete what is older than the RETENTION_… settings allow. Without --yes it only counts."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="really delete")
        parser.add_argument("--dry-run", action="store_true", help="only count, also with --yes")
        parser.add_argument("--only", action="append", default=[], metavar="TABLE", help="may be repeated")

    def work(self, *, yes: bool, dry_run: bool, only: list[str], **options: Any) -> int:
        counting = dry_run or not yes
        verb = "would be deleted" if counting else "deleted"
        counts = pruning.prune(
            now=clock.database_now(),
            only=only,
            dry_run=counting,
            progress=lambda name, count: self.stdout.write(f"{name}: {count} {verb}"),
        )
        if counting and not dry_run and any(counts.values()):
            self.stderr.write("Nothing was deleted: add --yes to delete these rows.")
        return 0 if any(counts.values()) else NOTHING
