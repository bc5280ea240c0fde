"""The commands of tasks: what they print, and their exit codes."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from automation_lab.core import clock, crypto
from automation_lab.core.execution import runner
from automation_lab.core.execution.tests.helpers import KIND, add_worker
from tasks import secrets
from tasks.models import Notification, NotificationChannel, Secret, TaskAttempt, TaskExecution, TaskLog
from tasks.notifying import channels
from tasks.tests.factories import (
    NotificationChannelFactory,
    ScheduledTaskFactory,
    TaskAttemptFactory,
    TaskExecutionFactory,
    TaskLogFactory,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
OK, FAILED, USAGE, NOTHING = 0, 1, 2, 3


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def lab(capsys):
    """Runs a command as the shell does."""

    def lab(*arguments: str) -> Result:
        code, message = OK, ""
        try:
            call_command(*arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except CommandError as error:
            code, message = error.returncode, str(error)
        out, err = capsys.readouterr()
        return Result(code, out, err + message)

    return lab


# --- run_task ---------------------------------------------------------------------------------------------------------


def test_run_task_queues_a_run_and_prints_its_number(lab):
    task = ScheduledTaskFactory(name="report")

    found = lab("run_task", "report", "--param", "city=Rome", "--param", "limit=5", "--param", 'tags=["a"]')

    run = task.executions.get()
    assert (found.code, found.out) == (OK, f"{run.pk}\n")
    assert run.input_data == {"city": "Rome", "limit": 5, "tags": ["a"]}
    assert (run.status, run.trigger) == ("pending", "manual")


def test_run_task_of_an_unknown_name_suggests_another(lab):
    ScheduledTaskFactory(name="report")

    found = lab("run_task", "reprot")

    assert found.code == FAILED
    assert "There is no task named 'reprot'" in found.err
    assert "report" in found.err.replace("reprot", "")


@pytest.mark.parametrize("text", ["city", "=Rome"])
def test_run_task_refuses_a_parameter_without_a_name_or_value(lab, text):
    ScheduledTaskFactory(name="report")

    found = lab("run_task", "report", "--param", text)

    assert (found.code, "KEY=VALUE" in found.err) == (USAGE, True)
    assert TaskExecution.objects.count() == 0


def test_run_task_of_an_archived_task_fails(lab):
    ScheduledTaskFactory(name="report", archived_at=NOON)

    assert lab("run_task", "report").code == FAILED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("config", "code"), [({"job": "prune", "arguments": {"dry_run": True}}, OK), ({"job": "unheard"}, FAILED)]
)
def test_run_task_waits_for_the_end(lab, config, code):
    task = ScheduledTaskFactory(name="tidy", task_type="cron", config=config)
    worker = add_worker()

    def work() -> None:
        try:
            while not (run := task.executions.first()):
                time.sleep(0.05)
            runner.run(KIND, run.pk, worker=worker)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    found = lab("run_task", "tidy", "--wait")
    thread.join()

    assert found.code == code
    if code == OK:
        assert json.loads(found.out)["deleted"]["task_executions"] == 0
    else:
        assert "failed" in found.err
        assert "unheard" in found.err


def test_run_task_gives_up_waiting_after_its_timeout(lab):
    ScheduledTaskFactory(name="report")

    found = lab("run_task", "report", "--wait", "--timeout", "0.1")

    assert (found.code, "is pending after 0.1 s; it goes on" in found.err) == (FAILED, True)


# --- next_runs --------------------------------------------------------------------------------------------------------


def test_next_runs_shows_the_schedule_in_words_and_its_next_runs_with_zone(lab):
    ScheduledTaskFactory(name="report", schedule="0 9 * * *", timezone="Europe/Berlin")

    found = lab("next_runs", "report", "--count", "3")

    words, *runs = found.out.splitlines()
    assert (found.code, words) == (OK, "At 09:00 every day, Europe/Berlin")
    assert [run[11:16] for run in runs] == ["09:00"] * 3
    assert all(run[19:].rstrip() in ("+01:00", "+02:00") for run in runs)


def test_next_runs_of_all_tasks_come_in_their_order(lab):
    ScheduledTaskFactory(name="later", schedule="@daily", next_run_at=NOON + timedelta(hours=1))
    ScheduledTaskFactory(name="sooner", schedule="@hourly", next_run_at=NOON)
    ScheduledTaskFactory(name="paused", schedule="@hourly", next_run_at=NOON, enabled=False)

    found = lab("next_runs")

    assert found.out.splitlines() == [
        "2025-03-01 12:00:00 UTC  sooner  (@hourly)",
        "2025-03-01 13:00:00 UTC  later  (@daily)",
    ]


def test_next_runs_says_that_nothing_is_going_to_run(lab):
    ScheduledTaskFactory(name="by hand")
    ScheduledTaskFactory(name="paused", schedule="@daily", enabled=False)

    assert lab("next_runs") == Result(NOTHING, "", "")
    assert lab("next_runs", "by hand").code == NOTHING
    assert "paused" in lab("next_runs", "paused").err


def test_next_runs_refuses_a_count_out_of_range(lab):
    assert lab("next_runs", "--count", "0").code == USAGE


# --- backfill ---------------------------------------------------------------------------------------------------------


def test_backfill_counts_and_then_queues(lab):
    task = ScheduledTaskFactory(name="report", schedule="0 * * * *")
    TaskExecutionFactory(task=task, scheduled_for=NOON, status="success")
    period = ("report", "--from", "2025-03-01T12:00Z", "--to", "2025-03-01T15:00:00+01:00")

    counted = lab("backfill", *period, "--dry-run")
    done = lab("backfill", *period)
    again = lab("backfill", *period)

    assert (counted.code, counted.out) == (OK, "3 slots: 2 would be queued, 1 have their run already.\n")
    assert (done.code, done.out) == (OK, "3 slots: 2 are queued, 1 have their run already.\n")
    assert again.code == NOTHING
    assert task.executions.filter(status="pending").count() == 2


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("yesterday", "2025-03-01T12:00Z"),
        ("2025-03-01T12:00", "2025-03-01T12:00Z"),
        ("2025-03-02T12:00Z", "2025-03-01T12:00Z"),
        ("2025-99-01T12:00Z", "2025-03-01T12:00Z"),
    ],
)
def test_backfill_refuses_what_is_no_period(lab, start, end):
    ScheduledTaskFactory(name="report", schedule="0 * * * *")

    assert lab("backfill", "report", "--from", start, "--to", end).code == USAGE


# --- check_url --------------------------------------------------------------------------------------------------------


def test_check_url_says_which_rule_refuses(lab):
    found = lab("check_url", "http://169.254.169.254/latest/meta-data")

    assert (found.code, found.out.split()[:2]) == (FAILED, ["refused", "metadata"])


def test_check_url_explains_every_rule(lab, settings):
    settings.OUTBOUND_ALLOW = "127.0.0.1:9000"

    found = lab("check_url", "http://127.0.0.1:9000/x", "--explain")

    assert found.code == OK
    assert [line.split()[0] for line in found.out.splitlines()] == ["passed", "passed", "allowed", "allowed"]
    assert "OUTBOUND_ALLOW opens 127.0.0.1:9000" in found.out


@pytest.mark.parametrize(
    "url", ["http://localhost/", "http://10.0.0.5/", "ftp://a.example/", "nonsense", "http://a.example:22/"]
)
def test_check_url_refuses_what_the_client_refuses(lab, url):
    assert lab("check_url", url).code == FAILED


def test_check_url_sends_nothing_and_judges_the_addresses_of_a_name(lab, monkeypatch):
    from tasks.management.commands import check_url

    def look_up(host: str, port: int, **kwargs: Any) -> list[Any]:
        return [(0, 0, 0, "", ("10.0.0.7", port))]

    monkeypatch.setattr(check_url.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(check_url.socket, "socket", None)

    found = lab("check_url", "https://intern.example.com/", "--explain")

    assert (found.code, "10.0.0.7" in found.out) == (FAILED, True)


# --- prune ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def old_and_new(db) -> dict[str, Any]:
    """One row that is old and one that is not, of everything that is pruned here."""
    now = clock.database_now()
    long_ago = now - timedelta(days=31)
    task, channel = ScheduledTaskFactory(), NotificationChannelFactory()
    old, live, new = (
        TaskExecutionFactory(task=task, status=status, finished_at=finished_at)
        for status, finished_at in (("success", long_ago), ("pending", None), ("failed", now))
    )
    TaskExecution.objects.filter(pk__in=[old.pk, live.pk]).update(created_at=long_ago)
    TaskAttemptFactory(execution=old), TaskAttemptFactory(execution=new)
    TaskLogFactory(execution=old)
    TaskExecution.objects.filter(pk=new.pk).update(retry_of=old)
    for finished_at in (long_ago, now, None):
        status = "success" if finished_at else "pending"
        Notification.objects.create(
            channel=channel,
            event="failure",
            subject="task:1",
            title="t",
            first_at=now,
            status=status,
            finished_at=finished_at,
        )
    return {"old": old, "live": live, "new": new}


def test_prune_only_counts_unless_told_yes(lab, old_and_new):
    found = lab("prune")

    assert "task_executions: 1 would be deleted" in found.out
    assert "notifications: 1 would be deleted" in found.out
    assert "add --yes" in found.err
    assert TaskExecution.objects.count() == 3


def test_prune_deletes_what_is_old_and_finished_with_what_hangs_on_it(lab, old_and_new):
    found = lab("prune", "--yes")

    assert (found.code, "task_executions: 1 deleted" in found.out) == (OK, True)
    assert set(TaskExecution.objects.values_list("pk", flat=True)) == {old_and_new["live"].pk, old_and_new["new"].pk}
    assert (TaskAttempt.objects.count(), TaskLog.objects.count(), Notification.objects.count()) == (1, 0, 2)
    assert lab("prune", "--yes").code == NOTHING


def test_prune_with_dry_run_never_deletes(lab, old_and_new):
    assert lab("prune", "--yes", "--dry-run").code == OK
    assert TaskExecution.objects.count() == 3


def test_prune_of_one_table_leaves_the_others(lab, old_and_new):
    found = lab("prune", "--yes", "--only", "notifications")

    assert found.out == "notifications: 1 deleted\n"
    assert TaskExecution.objects.count() == 3


def test_prune_knows_the_tables_of_every_app(lab):
    found = lab("prune", "--only", "unheard")

    assert found.code == USAGE
    for name in ("task_executions", "notifications", "workflow_executions", "webhooks", "api_logs", "api_log_hours"):
        assert name in found.err


def test_prune_keeps_everything_for_ever_when_told_so(lab, old_and_new, settings):
    settings.RETENTION_EXECUTIONS_DAYS = 0

    assert lab("prune", "--yes").code == NOTHING


def test_prune_works_in_batches(lab, old_and_new, monkeypatch):
    from automation_lab.core import pruning

    monkeypatch.setattr(pruning, "BATCH", 2)
    TaskExecution.objects.bulk_create(
        TaskExecution(task=old_and_new["old"].task, status="failed", finished_at=NOON) for _ in range(5)
    )
    TaskExecution.objects.filter(finished_at=NOON).update(created_at=NOON)

    assert "task_executions: 6 deleted" in lab("prune", "--yes").out


# --- rotate_secrets ---------------------------------------------------------------------------------------------------

KEYS = [crypto.generate_key() for _ in range(3)]


@pytest.fixture
def old_key(settings) -> None:
    settings.ENCRYPTION_KEYS = f"k1:{KEYS[0]}"


def made_with(keys: set[str]) -> bool:
    tokens = [*Secret.objects.values_list("ciphertext", flat=True)]
    tokens += NotificationChannel.objects.values_list("target_ciphertext", flat=True)
    return {crypto.key_id(token) for token in tokens} == keys


def test_rotate_secrets_encrypts_everything_with_the_first_key(lab, old_key, settings):
    secrets.set_secret(name="TOKEN", value="a-value-to-keep")
    channel = channels.create_channel(name="ops", kind="email", target="ops@example.com")
    settings.ENCRYPTION_KEYS = f"k2:{KEYS[1]},k1:{KEYS[0]}"

    counted = lab("rotate_secrets", "--dry-run")
    assert made_with({"k1"})
    done = lab("rotate_secrets")

    assert (counted.code, "secrets: 1 would be encrypted anew, 0 were already" in counted.out) == (OK, True)
    assert (done.code, "channels: 1 encrypted anew, 0 were already" in done.out) == (OK, True)
    assert made_with({"k2"})
    settings.ENCRYPTION_KEYS = f"k2:{KEYS[1]}"
    channel.refresh_from_db()
    assert channels.target_of(channel) == "ops@example.com"
    assert lab("rotate_secrets").code == NOTHING


def test_rotate_secrets_covers_the_sources_of_the_inbox(lab, old_key, settings, api):
    created = api.post("/v1/webhooks/sources", {"name": "github", "scheme": "github", "secrets": [{"value": "s" * 20}]})
    assert created.status_code == 201, created.json()
    settings.ENCRYPTION_KEYS = f"k2:{KEYS[1]},k1:{KEYS[0]}"

    assert "sources: 1 encrypted anew" in lab("rotate_secrets").out


def test_rotate_secrets_names_what_it_cannot_read_and_does_the_rest(lab, old_key, settings):
    secrets.set_secret(name="LOST", value="another-value-0001")
    settings.ENCRYPTION_KEYS = f"k2:{KEYS[1]}"
    secrets.set_secret(name="TOKEN", value="a-value-to-keep")
    settings.ENCRYPTION_KEYS = f"k3:{KEYS[2]},k2:{KEYS[1]}"

    found = lab("rotate_secrets")

    assert (found.code, "secret:LOST cannot be decrypted" in found.err) == (FAILED, True)
    assert "secrets: 1 encrypted anew" in found.out
    assert "another-value" not in found.out + found.err


def test_rotate_secrets_stops_at_keys_that_cannot_be_used(lab, settings):
    settings.ENCRYPTION_KEYS = "k1:tooshort"

    assert lab("rotate_secrets").code == FAILED


# --- jobs of the server -----------------------------------------------------------------------------------------------


def run_job(config: dict[str, Any]) -> TaskExecution:
    from tasks import services

    task = services.create_task(fields={"name": "job", "task_type": "cron", "config": config})
    execution = services.start_execution(task=task)
    runner.run(KIND, execution.pk, worker=add_worker())
    execution.refresh_from_db()
    return execution


def test_a_task_can_prune(old_and_new):
    run = run_job({"job": "prune", "arguments": {"only": ["task_executions"]}})

    assert (run.status, run.output_data) == ("success", {"deleted": {"task_executions": 1}})
    assert not TaskExecution.objects.filter(pk=old_and_new["old"].pk).exists()


def test_a_task_that_prunes_an_unknown_table_fails_with_the_known_ones(db):
    run = run_job({"job": "prune", "arguments": {"only": ["unheard"]}})

    assert (run.status, "task_executions" in run.error_message) == ("failed", True)


def test_the_job_of_the_night_is_registered():
    from procrastinate.contrib.django import app

    app.perform_import_paths()
    assert "automation_lab.prune" in app.tasks
    assert any(task.task.name == "automation_lab.prune" for task in app.periodic_registry.periodic_tasks.values())
