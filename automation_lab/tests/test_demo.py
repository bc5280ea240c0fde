"""The made-up lab: the same each time, true to the product's own rules, and silent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db.models import F, Model, Q
from django.urls import reverse

from apilogs.models import ApiLog, ApiLogHour
from automation_lab import demo, tokens
from automation_lab.core import json_schema
from automation_lab.demo.building import APPS
from automation_lab.models import ApiToken
from inbox.incoming import IncomingRequest
from inbox.models import Source, Webhook
from inbox.tests.factories import WebhookFactory
from inbox.verification.judge import verify
from tasks.models import NotificationChannel, ScheduledTask, TaskAttempt, TaskExecution, TaskLog
from tasks.tests.factories import ScheduledTaskFactory
from workflows.models import NamedSchema, StepAttempt, StepExecution, Workflow, WorkflowExecution
from workflows.triggering.triggers import matches

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 12, 15, 30, tzinfo=UTC)
EVENTS = 120
LIVE = ("pending", "running")


def fill(**options: Any) -> None:
    demo.fill(**{"seed": 42, "events": EVENTS, "now": NOW, **options})


def contents() -> list[Any]:
    return [
        list(Webhook.objects.order_by("id").values_list("source", "status", "received_at", "sha256", "delivery_id")),
        list(TaskExecution.objects.order_by("id").values_list("task__name", "status", "scheduled_for", "duration_ms")),
        list(StepExecution.objects.order_by("id").values_list("path", "status", "duration_ms", "output")),
        list(ApiLog.objects.order_by("id").values_list("path", "status_code", "created_at", "duration_ms")),
    ]


def test_the_same_seed_makes_the_same_lab():
    fill()
    first = contents()
    demo.empty()
    fill()

    assert contents() == first


def test_another_seed_makes_another_lab():
    fill()
    first = contents()
    demo.empty()
    fill(seed=43)

    assert all(one != other for one, other in zip(first, contents(), strict=True))


def test_every_kind_of_thing_has_happened():
    fill(events=400)

    assert 400 <= Webhook.objects.count() <= 460
    assert set(Webhook.objects.values_list("status", flat=True)) == {"received", "processed", "failed", "rejected"}
    assert Webhook.objects.filter(is_duplicate=True, duplicate_of__duplicate_count=1).exists()
    kinds = set(TaskExecution.objects.values_list("status", flat=True))
    assert kinds >= {"success", "failed", "timeout", "skipped", "missed"}
    assert TaskAttempt.objects.filter(number=3).exists() and TaskLog.objects.exists()
    assert set(WorkflowExecution.objects.values_list("status", flat=True)) >= {"success", "failed"}
    assert StepAttempt.objects.filter(status="failed").exists()
    assert set(WorkflowExecution.objects.values_list("version__number", flat=True)) == {1, 2}
    assert {200, 201, 202, 400, 401, 404} <= set(ApiLog.objects.values_list("status_code", flat=True))


def test_everything_has_happened_within_the_last_seven_days():
    fill()

    outside = ~Q(at__range=(NOW - timedelta(days=7), NOW))
    for model, field in ((Webhook, "created_at"), (TaskExecution, "created_at"), (WorkflowExecution, "created_at")):
        assert not model._default_manager.annotate(at=F(field)).filter(outside).exists(), model
    assert not ApiLog.objects.annotate(at=F("created_at")).filter(outside).exists()


def test_nothing_is_left_to_run():
    fill()

    for model in (TaskExecution, WorkflowExecution, StepExecution):
        assert not model._default_manager.filter(status__in=LIVE).exists()


def test_nothing_that_points_outside_is_switched_on():
    fill()

    assert not NotificationChannel.objects.filter(enabled=True).exists()
    assert not ScheduledTask.objects.filter(enabled=True).exclude(task_type="cron").exists()
    for workflow in Workflow.objects.filter(enabled=True):
        assert {step["type"] for step in workflow.steps} <= {"set", "condition", "validate"}, workflow


def test_every_webhook_was_judged_as_it_would_be_today():
    fill(events=400)

    sources = {source.name: source for source in Source.objects.all()}
    webhooks = list(Webhook.objects.all())
    verdicts = [verify(sources[row.source], as_received(row), received_at=row.received_at).result for row in webhooks]

    assert verdicts == [webhook.verification for webhook in webhooks]
    assert set(verdicts) == {"verified", "not_configured", "mismatch", "missing_header", "stale"}


def as_received(webhook: Webhook) -> IncomingRequest:
    return IncomingRequest(
        method=webhook.method, path=webhook.path, headers=webhook.headers, raw_body=bytes(webhook.raw_body)
    )


def test_every_workflow_run_belongs_to_a_webhook_that_its_trigger_names():
    fill()

    for run in WorkflowExecution.objects.exclude(webhook=None).select_related("webhook", "workflow"):
        assert matches(run.workflow.trigger_config, run.webhook)
        assert run.webhook.status == ("processed" if run.status == "success" else "failed")
        assert run.webhook.correlation_id == run.correlation_id
    assert WorkflowExecution.objects.filter(webhook=None, trigger_source="manual").exists()


def test_orders_keep_to_the_schema_that_their_workflow_checks():
    fill()
    schema = NamedSchema.objects.get(name="order").schema

    orders = list(Webhook.objects.filter(event_type="order.created").values_list("body", flat=True))

    assert orders
    assert [fault for order in orders for fault in json_schema.validate(order, schema)] == []


def test_counters_are_those_of_the_runs():
    fill()

    for owner in (*ScheduledTask.objects.all(), *Workflow.objects.all()):
        results = list(owner.executions.filter(started_at__isnull=False).values_list("status", flat=True))
        good = results.count("success")
        assert (owner.success_count, owner.failure_count) == (good, len(results) - good), owner


def test_the_hourly_figures_add_up_to_the_rows():
    fill()

    assert sum(ApiLogHour.objects.values_list("count", flat=True)) == ApiLog.objects.count()


def test_the_console_opens_with_it(browser):
    fill(events=40)

    for model in tables():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        row = model._default_manager.order_by("pk").last()
        pages = [reverse(f"{name}_changelist"), *([reverse(f"{name}_change", args=[row.pk])] if row else [])]
        for page in pages:
            assert browser.get(page).status_code == 200, page


def test_a_lab_that_is_in_use_is_left_alone():
    ScheduledTaskFactory(name="Mine")

    with pytest.raises(CommandError, match="This lab is not empty"):
        call_command("demo", events=10)

    assert not Webhook.objects.exists()


def test_with_yes_the_demo_is_added_to_what_is_there():
    ScheduledTaskFactory(name="Mine")

    call_command("demo", "--yes", events=10, verbosity=0)

    assert ScheduledTask.objects.filter(name="Mine").exists() and Webhook.objects.exists()


def test_what_has_the_name_of_something_in_the_demo_stops_it():
    ScheduledTaskFactory(name="Daily report")

    with pytest.raises(CommandError, match=r"scheduled task Daily report.*--reset --yes"):
        call_command("demo", "--yes", events=10)

    assert not Source.objects.exists()


def test_reset_removes_what_was_there_but_no_token(admin_user):
    tokens.create_token(user=admin_user, name="kept", expires_at=None)
    WebhookFactory(source="mine")

    call_command("demo", "--reset", "--yes", events=10, verbosity=0)

    assert not Webhook.objects.filter(source="mine").exists()
    assert Webhook.objects.exists() and ApiToken.objects.exists()


def test_reset_alone_asks_for_yes():
    WebhookFactory(source="mine")

    with pytest.raises(CommandError, match="--reset --yes"):
        call_command("demo", "--reset")

    assert Webhook.objects.filter(source="mine").exists()


def test_if_empty_does_nothing_to_a_lab_in_use(capsys):
    WebhookFactory(source="mine")

    call_command("demo", "--if-empty")

    assert "no demo is added" in capsys.readouterr().out
    assert Webhook.objects.count() == 1


def test_it_tells_what_it_makes(capsys):
    call_command("demo", events=10)

    # As this instant has it, one of the ten comes twice.
    told = re.match(r"6 sources, \d tasks, 4 workflows\n(\d+) webhooks\n", capsys.readouterr().out)
    assert told and int(told[1]) == Webhook.objects.count() >= 10


@pytest.mark.parametrize("events", ["0", "-1", "many", "100001"])
def test_a_number_of_events_that_cannot_be_is_refused(events):
    with pytest.raises(CommandError, match="write a number"):
        call_command("demo", "--events", events)


def test_no_table_of_the_apps_is_forgotten_by_reset():
    fill(events=20)

    demo.empty()

    left = [model for model in tables() if model._default_manager.exists()]
    assert left == []


def tables() -> list[type[Model]]:
    return [model for label in APPS for model in apps.get_app_config(label).get_models()]
