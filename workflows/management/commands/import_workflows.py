"""`manage.py import_workflows`: workflows from exported files, switched off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from automation_lab.core.commands import FAILED, LabCommand
from automation_lab.core.exceptions import AutomationLabError, Invalid
from automation_lab.core.safe_json import parse_api_body
from workflows.definitions import transfer


class Command(LabCommand):
    help = "Add workflows from exported files. They arrive switched off."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", type=Path)
        parser.add_argument(
            "--on-conflict",
            choices=[transfer.SKIP, transfer.RENAME, transfer.UPDATE],
            default=transfer.SKIP,
            help="What to do when the name is taken.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say what would happen.")

    def work(self, **options: Any) -> int:
        failed = sum(not self._import(path, options) for path in options["files"])
        if failed:
            raise CommandError(f"{failed} of {len(options['files'])} files were not imported.", returncode=FAILED)
        return 0

    def _import(self, path: Path, options: dict[str, Any]) -> bool:
        try:
            result = transfer.import_workflow(
                document=_read(path), on_conflict=options["on_conflict"], author="import", dry_run=options["dry_run"]
            )
        except Invalid as error:
            for fault in error.errors:
                self.stderr.write(": ".join(part for part in (str(path), fault["field"], fault["detail"]) if part))
            return False
        except (AutomationLabError, OSError, ValueError) as error:
            self.stderr.write(f"{path}: {error}")
            return False
        would = "would be " if options["dry_run"] else ""
        self.stdout.write(f"{path}: {would}{result['action']} as {result['workflow'].name!r}, switched off.")
        for warning in result["warnings"]:
            self.stdout.write(f"  {warning}")
        return True


def _read(path: Path) -> Any:
    if path.stat().st_size > transfer.MAX_BYTES:
        raise ValueError(f"The file is larger than {transfer.MAX_BYTES} bytes.")
    return parse_api_body(path.read_bytes())
