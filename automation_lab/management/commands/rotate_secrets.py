"""manage.py rotate_secrets: encrypt every stored secret with the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation_lab.core import crypto
from automation_lab.core.commands import FAILED, NOTHING, LabCommand
from automation_lab.core.rotation import rotate_everything


class Command(LabCommand):
    """Encrypt every stored secret with the first key; then the old keys can be taken away."""

    help = (
        "Encrypt every stored secret with the first of ENCRYPTION_KEYS; after that the old keys can be taken away. "
        "Exit code 1: some cannot be read; 3: all are encrypted with it already."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def work(self, *, dry_run: bool, **options: Any) -> int:
        crypto.check_keys()
        found = rotate_everything(dry_run=dry_run)
        verb = "would be encrypted anew" if dry_run else "encrypted anew"
        for name, rotation in found.items():
            self.stdout.write(f"{name}: {rotation.rotated} {verb}, {rotation.current} were already")
        unreadable = [label for rotation in found.values() for label in rotation.unreadable]
        for label in unreadable:
            self.stderr.write(
                f"{label} cannot be decrypted with these keys: add the key it was made with, or set it again."
            )
        if unreadable:
            return FAILED
        return 0 if any(rotation.rotated for rotation in found.values()) else NOTHING
