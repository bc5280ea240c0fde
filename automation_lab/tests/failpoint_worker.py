"""A worker that kills itself with signal 9 at a chosen moment of one execution: `FAILPOINT=moment:execution:number`.

Moments: `claimed` (before anything is written), `before_commit` and `after_commit` (the number counts the run's own
commits), `answered` (the target has answered, nothing is recorded yet).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automation_lab.settings")
django.setup()

from django.core.management import call_command  # noqa: E402

from automation_lab.core.http import HttpClient  # noqa: E402
from workflows.running.runner import WorkflowExecutable  # noqa: E402
from workflows.running.store import RunStore  # noqa: E402

MOMENT, EXECUTION, NUMBER = os.environ["FAILPOINT"].split(":")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def patch_run() -> None:
    run = WorkflowExecutable.run

    def patched(self: Any, execution: Any, claim: Any) -> None:
        if execution.pk == int(EXECUTION):
            die()
        run(self, execution, claim)

    WorkflowExecutable.run = patched  # type: ignore[method-assign]


def patch_commit(*, before: bool) -> None:
    commit = RunStore.commit
    commits = 0

    def patched(self: Any, **options: Any) -> None:
        nonlocal commits
        mine = self.claim.pk == int(EXECUTION)
        commits += mine
        if mine and before and commits == int(NUMBER):
            die()
        commit(self, **options)
        if mine and not before and commits == int(NUMBER):
            die()

    RunStore.commit = patched  # type: ignore[method-assign]


def patch_request() -> None:
    request = HttpClient.request

    def patched(self: Any, method: str, url: str, **options: Any) -> Any:
        response = request(self, method, url, **options)
        if url.endswith(f"/{EXECUTION}"):
            die()
        return response

    HttpClient.request = patched  # type: ignore[method-assign]


if MOMENT == "claimed":
    patch_run()
elif MOMENT in ("before_commit", "after_commit"):
    patch_commit(before=MOMENT == "before_commit")
else:
    patch_request()
sys.exit(call_command("worker", concurrency=4))
