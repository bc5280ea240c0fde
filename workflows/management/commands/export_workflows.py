"""`manage.py export_workflows`: workflows as files, with the templates and schemas they name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from automation_lab.core.commands import LabCommand
from workflows.definitions import transfer
from workflows.models import Workflow


class Command(LabCommand):
    help = "Write workflows as JSON files, secrets by name only."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", help="Names of workflows; none: all.")
        parser.add_argument(
            "--out", default="-", help="A folder, or - for one JSON document a line on standard output."
        )

    def work(self, **options: Any) -> int:
        workflows = self._workflows(options["names"])
        if options["out"] == "-":
            for workflow in workflows:
                self.stdout.write(json.dumps(transfer.export_workflow(workflow), ensure_ascii=False))
            return 0
        folder = Path(options["out"])
        folder.mkdir(parents=True, exist_ok=True)
        for workflow in workflows:
            text = json.dumps(transfer.export_workflow(workflow), ensure_ascii=False, indent=2)
            (folder / _file_name(workflow)).write_text(text + "\n", encoding="utf-8")
        self.stdout.write(f"{len(workflows)} workflows written to {folder}.")
        return 0

    def _workflows(self, names: list[str]) -> list[Workflow]:
        workflows = list(Workflow.objects.filter(name__in=names) if names else Workflow.objects.all())
        missing = set(names) - {workflow.name for workflow in workflows}
        if missing:
            raise self.usage(f"No workflow is named {', '.join(sorted(missing))}.")
        return workflows


def _file_name(workflow: Workflow) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", workflow.name.lower()).strip("-") or "workflow"
    return f"{stem}-{workflow.pk}.json"
