"""Who may define and start tasks that run a named command: the permission `tasks.run_command`, beside all others."""

from __future__ import annotations

from typing import Any

from automation_lab.core.exceptions import Refused
from tasks.models import ScheduledTask

PERMISSION = "tasks.run_command"


def is_command(task_type: str, config: Any) -> bool:
    """Whether a task of this type and config runs a named command."""
    return task_type == ScheduledTask.TaskType.CRON and isinstance(config, dict) and "command" in config


def check_task(user: Any, task: ScheduledTask, *, is_open: bool = False) -> None:
    """Raises Refused when `task` runs a command and `user` may not. `is_open`: let in by API_OPEN alone."""
    check_config(user, task.task_type, task.config, is_open=is_open)


def check_config(user: Any, task_type: str, config: Any, *, is_open: bool = False) -> None:
    """The same for a task that is not saved yet."""
    if not is_command(task_type, config):
        return
    if is_open:
        raise Refused("API_OPEN=1 does not open named commands: send a token.", code="closed_when_open")
    if not user.has_perm(PERMISSION):
        raise Refused(f'Tasks that run a command need the permission "{PERMISSION}".', code="missing_permission")
