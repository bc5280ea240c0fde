"""Tasks as people name them."""

from __future__ import annotations

from automation_lab.core.exceptions import NotFound
from automation_lab.core.expressions import nearest_hint
from tasks.models import ScheduledTask


def task_named(name: str) -> ScheduledTask:
    """Raises NotFound, with the name probably meant."""
    task = ScheduledTask.objects.filter(name=name).first()
    if task is None:
        hint = nearest_hint(name, ScheduledTask.objects.values_list("name", flat=True))
        raise NotFound(f"There is no task named {name!r}.{hint}", field="name")
    return task
