from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from automation_lab import VERSION, health, tokens
from automation_lab.core import clock, crypto
from automation_lab.management.commands import up

LOCAL = {"HTTP_HOST": "localhost"}
FOREIGN = {"REMOTE_ADDR": "203.0.113.9", "HTTP_HOST": "lab.example.com"}


def add_worker(age_seconds: int = 0) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - make_interval(secs => %s))",
            [age_seconds],
        )


def bearer(user, *scopes: str) -> dict[str, str]:
    _, plain = tokens.create_token(user=user, name="monitoring", scopes=scopes, expires_at=None)
    return {"HTTP_AUTHORIZATION": f"Bearer {plain}"}


def figures(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_process_is_healthy_without_asking_the_database(client):
    response = client.get("/healthz")

    assert (response.status_code, response.content) == (200, b"ok\n")


def test_health_is_read_only(client):
    assert client.post("/healthz").status_code == 405


@pytest.mark.django_db
def test_the_lab_is_ready_with_a_worker_that_reports(client):
    add_worker()

    response = client.get("/readyz", **LOCAL)

    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "encryption_keys": "ok", "secrets": "ok", "worker": "ok"},
    }


@pytest.mark.django_db
@pytest.mark.parametrize("age_seconds", [None, 61])
def test_the_lab_is_not_ready_without_one(client, age_seconds):
    if age_seconds:
        add_worker(age_seconds)

    response = client.get("/readyz", **LOCAL)

    assert response.status_code == 503
    assert response.json()["checks"]["worker"] == "no worker has reported within 60 s"


@pytest.mark.django_db
def test_a_missing_migration_makes_it_not_ready(client, monkeypatch):
    monkeypatch.setattr(health, "_migrated", set())
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions'")

    assert "migrations are missing" in client.get("/readyz", **LOCAL).json()["checks"]["migrations"]


@pytest.mark.django_db
def test_unusable_encryption_keys_make_it_not_ready(client, settings):
    settings.ENCRYPTION_KEYS = "k1:tooshort"
    add_worker()

    response = client.get("/readyz", **LOCAL)

    assert response.status_code == 503
    assert "tooshort" not in response.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["secret", "channel", "source"])
def test_keys_that_do_not_fit_what_is_stored_make_it_not_ready(client, api, settings, kind):
    add_worker()
    settings.ENCRYPTION_KEYS = f"k1:{crypto.generate_key()}"
    path, body = {
        "secret": ("/v1/secrets", {"name": "TOKEN", "value": "a-value-to-keep"}),
        "channel": ("/v1/channels", {"name": "ops", "kind": "email", "target": "ops@example.com"}),
        "source": ("/v1/webhooks/sources", {"name": "github", "scheme": "github", "secrets": [{"value": "s" * 20}]}),
    }[kind]
    assert api.post(path, body).status_code == 201
    assert client.get("/readyz", **LOCAL).status_code == 200

    settings.ENCRYPTION_KEYS = f"k1:{crypto.generate_key()}"
    response = client.get("/readyz", **LOCAL)

    assert response.status_code == 503
    assert "cannot be decrypted" in response.json()["checks"]["secrets"]
    assert "a-value-to-keep" not in response.content.decode()


@pytest.mark.django_db
def test_up_says_that_the_keys_do_not_fit_what_is_stored(api, settings):
    settings.ENCRYPTION_KEYS = f"k1:{crypto.generate_key()}"
    api.post("/v1/secrets", {"name": "TOKEN", "value": "a-value-to-keep"})
    assert "decrypted" not in up._ready_text("127.0.0.1", 8000, 8001, first=False)

    settings.ENCRYPTION_KEYS = f"k1:{crypto.generate_key()}"

    assert "secret:TOKEN cannot be decrypted" in up._ready_text("127.0.0.1", 8000, 8001, first=False)


@pytest.mark.django_db
def test_others_learn_only_whether_it_is_ready(client):
    add_worker()

    assert client.get("/readyz", **FOREIGN).json() == {"status": "ok"}


@pytest.mark.django_db
def test_what_a_proxy_forwards_from_elsewhere_is_not_local(client):
    response = client.get("/metrics", HTTP_X_FORWARDED_FOR="203.0.113.9", **LOCAL)

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.django_db
def test_staff_sees_the_details(browser: Client):
    add_worker()

    assert "checks" in browser.get("/readyz", **FOREIGN).json()


@pytest.mark.django_db
@pytest.mark.parametrize(("scopes", "status"), [(["admin"], 200), ([], 200), (["logs:read"], 401)])
def test_metrics_want_a_token_for_everything(client, admin_user, scopes, status):
    assert client.get("/metrics", **FOREIGN, **bearer(admin_user, *scopes)).status_code == status


@pytest.mark.django_db
def test_metrics_refuse_a_token_of_an_ordinary_user(client, user):
    assert client.get("/metrics", **FOREIGN, **bearer(user)).status_code == 401


@pytest.mark.django_db
def test_metrics_tell_version_workers_and_an_empty_queue(client):
    add_worker()

    found = figures(client.get("/metrics", **LOCAL).content.decode())

    assert found[f"lab_build_info{VERSION}"] == 1
    assert found["lab_workers"] == 1
    for kind in ("task_executions", "workflow_executions", "webhook_forwards"):
        assert found[f"lab_queue_depth{kind}"] == 0
        assert found[f"lab_queue_oldest_seconds{kind}"] == 0
        assert found[f"lab_executions_running{kind}"] == 0


@pytest.mark.django_db
def test_metrics_count_what_waits_and_how_long(client):
    from tasks.models import ScheduledTask, TaskExecution

    task = ScheduledTask.objects.create(name="Report", task_type="api_call", schedule="@daily")
    now = clock.database_now()
    TaskExecution.objects.create(task=task, status="pending", due_at=now - timedelta(seconds=90))
    TaskExecution.objects.create(task=task, status="pending", due_at=now + timedelta(hours=1))

    found = figures(client.get("/metrics", **LOCAL).content.decode())

    assert found["lab_queue_depthtask_executions"] == 1
    assert 89 < found["lab_queue_oldest_secondstask_executions"] < 120


@pytest.mark.django_db
def test_metrics_count_dropped_log_rows(client):
    from apilogs.models import ApiLogDrop

    for count in (3, 4):
        ApiLogDrop.objects.create(at=clock.database_now(), process="web-1", count=count, reason="queue full")

    found = figures(client.get("/metrics", **LOCAL).content.decode())

    assert found["lab_log_dropped_totalqueue full"] == 7


@pytest.mark.django_db
def test_metrics_count_what_each_limit_refused(client):
    from inbox.models import RateWindow

    for key, count in [("all", 2), ("unknown", 3), ("unknown-bytes", 4), ("source:a", 5), ("source:b", 6)]:
        RateWindow.objects.create(key=key, refused_count=count, window_at=clock.database_now())
    for address in ("192.0.2.7", "2001:db8::/64"):
        RateWindow.objects.create(key=f"address:{address}/60", refused_count=7, window_at=clock.database_now())

    found = figures(client.get("/metrics", **LOCAL).content.decode())

    counts = {kind: found[f"lab_webhooks_limited{kind}"] for kind in ("all", "unknown", "unknown-bytes")}
    assert counts == {"all": 2, "unknown": 3, "unknown-bytes": 4}
    assert (found["lab_webhooks_limitedsource"], found["lab_webhooks_limitedaddress"]) == (11, 14)
