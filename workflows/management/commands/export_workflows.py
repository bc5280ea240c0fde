"""`manage.py export_workflows`: workflows as files, with the templates and schemas they name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from workflows import transfer
from workflows.models import Workflow


class Command(BaseCommand):
    help = "Write workflows as JSON files, secrets by name only."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", help="Names of workflows; none: all.")
        parser.add_argument(
            "--out", default="-", help="A folder, or - for one JSON document a line on standard output."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        workflows = self._workflows(options["names"])
        if options["out"] == "-":
            for workflow in workflows:
                self.stdout.write(json.dumps(transfer.export_workflow(workflow), ensure_ascii=False))
            return
        folder = Path(options["out"])
        folder.mkdir(parents=True, exist_ok=True)
        for workflow in workflows:
            text = json.dumps(transfer.export_workflow(workflow), ensure_ascii=False, indent=2)
            (folder / _file_name(workflow)).write_text(text + "\n", encoding="utf-8")
        self.stdout.write(f"{len(workflows)} workflows written to {folder}.")

    def _workflows(self, names: list[str]) -> list[Workflow]:
        workflows = list(Workflow.objects.filter(name__in=names) if names else Workflow.objects.all())
        missing = set(names) - {workflow.name for workflow in workflows}
        if missing:
            raise CommandError(f"No workflow is named {', '.join(sorted(missing))}.", returncode=2)
        return workflows


def _file_name(workflow: Workflow) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", workflow.name.lower()).strip("-") or "workflow"
    return f"{stem}-{workflow.pk}.json"
