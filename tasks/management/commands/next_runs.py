"""manage.py next_runs: when tasks run next."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation_lab.core import clock
from automation_lab.core.commands import NOTHING, LabCommand
from tasks import lookup
from tasks.models import ScheduledTask
from tasks.scheduling import previews

MOST = 100


class Command(LabCommand):
    """Show the next runs of one task, or the next run of every task."""

    help = "Show the next runs of one task, or the next run of every task. Exit code 3: nothing is going to run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="name of a task; all tasks when left out")
        parser.add_argument("--count", type=int, default=5, help=f"how many of one task, 1 to {MOST}; default 5")

    def work(self, *, name: str | None, count: int, **options: Any) -> int:
        if not 1 <= count <= MOST:
            raise self.usage(f"--count is a number from 1 to {MOST}.")
        return self._of_task(lookup.task_named(name), count) if name else self._of_all()

    def _of_task(self, task: ScheduledTask, count: int) -> int:
        preview = previews.of_task(task, now=clock.database_now(), count=count)
        self.stdout.write(preview["explanation"])
        if task.schedule and not task.enabled:
            self.stderr.write("The task is paused: none of these runs takes place.")
        for run in preview["runs"]:
            self.stdout.write(f"{run['at_local']}  {run['note']}".rstrip())
        return 0 if preview["runs"] and task.enabled else NOTHING

    def _of_all(self) -> int:
        tasks = ScheduledTask.objects.unarchived().filter(enabled=True, next_run_at__isnull=False)
        for task in tasks.order_by("next_run_at", "name"):
            self.stdout.write(f"{task.next_run_at:%Y-%m-%d %H:%M:%S} UTC  {task.name}  ({task.schedule})")
        return 0 if tasks.exists() else NOTHING
