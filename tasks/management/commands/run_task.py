"""manage.py run_task: start a task by its name, and wait for its end if asked to."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

import orjson

from automation_lab.core.commands import FAILED, NOTHING, LabCommand
from automation_lab.core.exceptions import Invalid
from tasks import lookup, services
from tasks.models import TaskExecution

POLL_SECONDS = 0.2
UNSUCCESSFUL = {"skipped": NOTHING, "missed": NOTHING}


class Command(LabCommand):
    """Start a task; a worker runs it."""

    help = "Start a task; a worker runs it. Exit code with --wait: 0 success, 1 failed, 3 did not run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="name of the task")
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="input of the run, may be repeated; a value is JSON, else a text",
        )
        parser.add_argument("--wait", action="store_true", help="wait for the end and print the output")
        parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="of --wait; default 600")

    def work(self, *, name: str, param: list[str], wait: bool, timeout: float, **options: Any) -> int:
        input_data = dict(_parsed(text) for text in param)
        execution = services.start_execution(task=lookup.task_named(name), input_data=input_data)
        if not wait:
            self.stdout.write(str(execution.pk))
            return 0
        self.stderr.write(f"Run {execution.pk} of {name} is queued.")
        return self._waited(execution, timeout)

    def _waited(self, execution: TaskExecution, timeout: float) -> int:
        give_up_at = time.monotonic() + timeout
        while not execution.is_finished:
            if time.monotonic() > give_up_at:
                self.stderr.write(f"Run {execution.pk} is {execution.status} after {timeout:g} s; it goes on.")
                return FAILED
            time.sleep(POLL_SECONDS)
            execution.refresh_from_db()
        if execution.status == TaskExecution.Status.SUCCESS:
            self.stdout.write(json.dumps(execution.output_data, indent=2, ensure_ascii=False))
            return 0
        self.stderr.write(f"Run {execution.pk} {execution.status}: {execution.error_message}")
        return UNSUCCESSFUL.get(execution.status, FAILED)


def _parsed(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Invalid(f"--param {text!r}: write KEY=VALUE.")
    try:
        return key, orjson.loads(value)
    except orjson.JSONDecodeError:
        return key, value
