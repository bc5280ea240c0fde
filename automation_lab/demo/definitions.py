"""What the demo's people have set up: senders, secrets, channels, messages, schemas, tasks and workflows."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Model

from automation_lab.core.registry import server_jobs
from automation_lab.demo.chance import PERIOD, Chance
from automation_lab.demo.workflow_plays import WORKFLOWS, WorkflowPlan
from inbox import services as inbox
from inbox.models import Source
from tasks import secrets
from tasks import services as task_services
from tasks.models import NotificationChannel, ScheduledTask
from tasks.notifying import channels
from workflows import services as workflow_services
from workflows.models import MessageTemplate, NamedSchema, Workflow, WorkflowVersion

SET_UP_BEFORE = timedelta(days=23)
OFF = "Part of the demo: enter an address of your own, then switch it on."


@dataclass(frozen=True)
class SourcePlan:
    name: str
    description: str
    scheme: str = "none"
    settings: dict[str, Any] = field(default_factory=dict)
    rate_limit: str = ""
    enabled: bool = True


SOURCES = (
    SourcePlan("github", "Pushes, pull requests and releases of the shop's repositories.", "github"),
    SourcePlan("stripe", "Payments, invoices and refunds.", "stripe", rate_limit="1200/minute"),
    SourcePlan("shop", "Orders and customers of the web shop.", "standard_webhooks", rate_limit="600/minute"),
    SourcePlan("status-page", "Incidents that the monitoring opens and closes.", "token", {"header": "X-Status-Token"}),
    SourcePlan("newsletter", "Sign-ups from the form on the start page; the form cannot sign."),
    SourcePlan("old-crm", "Replaced in spring, kept for its history.", "hmac", enabled=False),
)
SECRETS = {
    "BILLING_TOKEN": ("Bearer token of the billing service.", ["billing.example.com"]),
    "WAREHOUSE_KEY": ("API key of the warehouse, product and stock data.", ["*.warehouse.example.com"]),
    "RELEASE_SIGNING": ("Signs the release announcements.", ["partners.example.com"]),
}
CHANNELS: tuple[dict[str, Any], ...] = (
    {"name": "on-call", "kind": "email", "target": "on-call@example.com"},
    {"name": "releases", "kind": "slack", "target": "https://chat.example.com/hooks/releases"},
)
TEMPLATES: tuple[dict[str, str], ...] = (
    {
        "name": "order_confirmation",
        "to": "{{ trigger.data.data.customer.email }}",
        "subject": "Your order {{ trigger.data.data.number }}",
        "text": "Thank you for your order. It comes to {{ trigger.data.data.total }} {{ trigger.data.data.currency }}.",
    },
    {
        "name": "weekly_revenue",
        "to": "team@example.com",
        "subject": "Revenue of the last seven days",
        "text": "{{ vars.orders }} orders, {{ vars.revenue }} EUR.",
    },
)
SCHEMAS: dict[str, dict[str, Any]] = {
    "order": {
        "type": "object",
        "required": ["type", "data"],
        "properties": {
            "type": {"const": "order.created"},
            "data": {
                "type": "object",
                "required": ["number", "total", "currency", "items"],
                "properties": {
                    "number": {"type": "string", "pattern": "^[0-9]{6}$"},
                    "total": {"type": "number", "exclusiveMinimum": 0},
                    "currency": {"enum": ["EUR", "CHF"]},
                    "items": {"type": "array", "minItems": 1},
                },
            },
        },
    }
}
RETRIES = {"max_attempts": 3, "strategy": "exponential", "delay_seconds": 10, "jitter": "none"}


def tasks() -> list[dict[str, Any]]:
    """The tasks to create. Those that would call somebody are switched off."""
    plans: list[dict[str, Any]] = [
        {
            "name": "Daily report",
            "description": "Yesterday's figures for the morning meeting.",
            "task_type": "api_call",
            "schedule": "0 9 * * *",
            "timezone": "Europe/Berlin",
            "config": {"url": "https://reports.example.com/v1/daily", "method": "GET"},
            "retry_policy": RETRIES,
        },
        {
            "name": "Sync products",
            "description": "Fetches what has changed in the warehouse since the last success.",
            "task_type": "api_call",
            "schedule": "every 30 minutes",
            "config": {
                "url": "https://api.warehouse.example.com/products",
                "query": {"since": "{{ last.output.body.until | default('2020-01-01') }}"},
                "auth": {"type": "header", "name": "X-Api-Key", "value": "{{ secrets.WAREHOUSE_KEY }}"},
            },
            "retry_policy": RETRIES,
            "pause_after_failures": 10,
        },
        {
            "name": "Shop answers",
            "description": "The start page, from outside.",
            "task_type": "api_call",
            "schedule": "@hourly",
            "config": {"url": "https://shop.example.com/", "method": "HEAD", "timeout_seconds": 5},
        },
        {
            "name": "Announce release",
            "description": "By hand, after a release: tells the partners.",
            "task_type": "webhook",
            "config": {
                "url": "https://partners.example.com/hooks/releases",
                "event": "release.published",
                "payload": {"version": "{{ input.version }}"},
                "secret": "{{ secrets.RELEASE_SIGNING }}",
            },
        },
    ]
    for plan in plans:
        plan |= {"enabled": False, "pause_note": OFF}
    if "prune" in server_jobs:
        plans.append(
            {
                "name": "Nightly clean-up",
                "description": "Removes what is older than the retention settings allow.",
                "task_type": "cron",
                "schedule": "30 3 * * *",
                "config": {"job": "prune"},
            }
        )
    return plans


@dataclass
class Made:
    """The rows that the histories hang on."""

    sources: list[Source]
    signing_secrets: dict[str, str]
    tasks: list[ScheduledTask]
    workflows: dict[str, Workflow]
    versions: dict[str, list[WorkflowVersion]]


def create(chance: Chance) -> Made:
    signing_secrets = {source.name: _signing_secret(source, chance) for source in SOURCES}
    sources = [_create_source(source, signing_secrets[source.name]) for source in SOURCES]
    _create_shared(chance)
    made_tasks = [task_services.create_task(fields=fields) for fields in tasks()]
    made_workflows = {plan.name: _create_workflow(plan) for plan in WORKFLOWS}
    versions = {
        name: list(WorkflowVersion.objects.filter(workflow=workflow).order_by("number"))
        for name, workflow in made_workflows.items()
    }
    _set_back(chance, sources, made_tasks, made_workflows, versions)
    return Made(sources, signing_secrets, made_tasks, made_workflows, versions)


def _signing_secret(source: SourcePlan, chance: Chance) -> str:
    if source.scheme == "standard_webhooks":
        return "whsec_" + base64.b64encode(chance.randbytes(24)).decode()
    return f"demo-{chance.hex(32)}"


def _create_source(plan: SourcePlan, secret: str) -> Source:
    return inbox.create_source(
        name=plan.name,
        description=plan.description,
        scheme=plan.scheme,
        scheme_settings=plan.settings,
        rate_limit=plan.rate_limit,
        enabled=plan.enabled,
        secrets=[] if plan.scheme == "none" else [{"value": secret}],
    )


def _create_shared(chance: Chance) -> None:
    for name, (description, hosts) in SECRETS.items():
        value = "whsec_" + base64.b64encode(chance.randbytes(24)).decode()
        secrets.set_secret(name=name, value=value, description=description, allowed_hosts=hosts)
    for channel in CHANNELS:
        channels.create_channel(**channel, enabled=False)
    MessageTemplate.objects.bulk_create(MessageTemplate(**template) for template in TEMPLATES)
    NamedSchema.objects.bulk_create(NamedSchema(name=name, schema=schema) for name, schema in SCHEMAS.items())


def _create_workflow(plan: WorkflowPlan) -> Workflow:
    first, *changes = plan.versions
    fields = {
        "name": plan.name,
        "description": plan.description,
        "trigger_type": plan.trigger_type,
        "trigger_config": plan.trigger_config,
        "enabled": plan.enabled,
        "timeout_seconds": 300,
        "retry_policy": RETRIES,
        "steps": first,
    }
    workflow = workflow_services.create_workflow(fields=fields, author="demo")
    for steps in changes:
        workflow = workflow_services.update_workflow(workflow=workflow, changes={"steps": steps}, author="demo")
    return workflow


def _set_back(
    chance: Chance,
    sources: list[Source],
    made_tasks: list[ScheduledTask],
    made_workflows: dict[str, Workflow],
    versions: dict[str, list[WorkflowVersion]],
) -> None:
    """Everything was set up before the week began; later versions of a workflow came in the middle of it."""
    at = chance.now - SET_UP_BEFORE
    groups: list[tuple[type[Model], list[Any]]] = [
        (Source, sources),
        (ScheduledTask, made_tasks),
        (Workflow, list(made_workflows.values())),
    ]
    for model, rows in groups:
        model._default_manager.filter(pk__in=[row.pk for row in rows]).update(created_at=at, updated_at=at)
    NotificationChannel.objects.filter(name__in=[channel["name"] for channel in CHANNELS]).update(created_at=at)
    for first, *changed in versions.values():
        for version, age in [(first, SET_UP_BEFORE), *((version, PERIOD / 2) for version in changed)]:
            version.created_at = chance.now - age
            WorkflowVersion.objects.filter(pk=version.pk).update(created_at=version.created_at)
