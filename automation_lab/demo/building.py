"""Fills an empty lab, and empties one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.apps import apps
from django.db import connection, transaction
from django.db.models import Model

from automation_lab.core.exceptions import Conflict
from automation_lab.demo import api_traffic, definitions, task_history, webhook_history, workflow_history
from automation_lab.demo.chance import Chance
from inbox.models import Source, Webhook
from tasks.models import NotificationChannel, ScheduledTask, Secret
from workflows.models import MessageTemplate, NamedSchema, Workflow

APPS = ("inbox", "tasks", "workflows", "apilogs")
MADE_BY_PEOPLE = (Source, Webhook, ScheduledTask, Workflow, Secret, NotificationChannel, MessageTemplate, NamedSchema)
NAMES_SHOWN = 5
NAMED: dict[type[Model], Callable[[], list[str]]] = {
    Source: lambda: [source.name for source in definitions.SOURCES],
    ScheduledTask: lambda: [task["name"] for task in definitions.tasks()],
    Workflow: lambda: [workflow.name for workflow in definitions.WORKFLOWS],
    Secret: lambda: list(definitions.SECRETS),
    NotificationChannel: lambda: [channel["name"] for channel in definitions.CHANNELS],
    MessageTemplate: lambda: [template["name"] for template in definitions.TEMPLATES],
    NamedSchema: lambda: list(definitions.SCHEMAS),
}


class Occupied(Conflict):
    """Something of the demo's name is in the lab already."""


def is_empty() -> bool:
    """Whether nobody has made anything yet. The API log does not count: every look leaves a row there."""
    return not any(model._default_manager.exists() for model in MADE_BY_PEOPLE)


@transaction.atomic
def fill(*, seed: int, events: int, now: datetime, report: Callable[[str], None] = lambda line: None) -> None:
    """Make the lab: all of it or nothing. `events` is about how many webhooks. Raises Occupied."""
    _check_names()
    chance = Chance(seed, now)
    made = definitions.create(chance)
    report(f"{len(made.sources)} sources, {len(made.tasks)} tasks, {len(made.workflows)} workflows")
    webhooks = webhook_history.create(made, chance, events)
    report(f"{len(webhooks)} webhooks")
    runs = workflow_history.create(made, webhooks, chance)
    report(f"{runs} workflow runs")
    report(f"{task_history.create(made, chance)} task runs")
    report(f"{api_traffic.create(webhooks, chance)} API requests")


@transaction.atomic
def empty() -> int:
    """Remove every row of the four apps, not users and tokens; the number of tables."""
    tables = [model._meta.db_table for label in APPS for model in apps.get_app_config(label).get_models()]
    names = ", ".join(connection.ops.quote_name(table) for table in tables)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # checks that are still to come would forbid to truncate
        cursor.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    return len(tables)


def _check_names() -> None:
    taken: list[str] = []
    for model, names in NAMED.items():
        found = model._default_manager.filter(name__in=names()).order_by("name").values_list("name", flat=True)
        taken += [f"{model._meta.verbose_name} {name}" for name in found]
    if taken:
        more = f" and {len(taken) - NAMES_SHOWN} more" if len(taken) > NAMES_SHOWN else ""
        raise Occupied(f"The demo would make what is there already: {', '.join(taken[:NAMES_SHOWN])}{more}.")
