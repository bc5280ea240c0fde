"""`/healthz`, `/readyz` and `/metrics`: for load balancers, containers and monitoring; plain text and JSON, no API."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.apps import apps
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count, Min, Model, Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from automation_lab import VERSION
from automation_lab.core import clock, crypto
from automation_lab.core.api.authentication import TokenAuthentication, why_not_local
from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.execution.models import Execution
from inbox.models import Source
from inbox.receiving import limits
from inbox.secrets import secret_binding
from tasks import secrets
from tasks.models import NotificationChannel, Secret
from tasks.notifying import channels

HEARTBEAT_SECONDS = 60
_migrated: set[str] = set()
"""Not empty once this process has seen the schema complete: it does not become incomplete, and looking is slow."""


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers. Asks nobody else, so that a database outage does not make a supervisor restart it."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Requests can be served and executions run; says what is missing only to those who may know."""
    faults = {name: fault for name, check in CHECKS.items() if (fault := _run(check))}
    body: dict[str, object] = {"status": "unavailable" if faults else "ok"}
    if _may_see_details(request):
        body["checks"] = {name: faults.get(name, "ok") for name in CHECKS}
    return JsonResponse(body, status=503 if faults else 200, headers={"Cache-Control": "no-store"})


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Figures from the database, the same whichever process answers; for this machine, staff and admin tokens."""
    if not _may_see_details(request):
        challenge = {"WWW-Authenticate": "Bearer"}
        return HttpResponse(
            "Send a token with the scope admin.\n", status=401, content_type="text/plain", headers=challenge
        )
    registry = CollectorRegistry()
    registry.register(LabCollector())
    return HttpResponse(generate_latest(registry), content_type="text/plain; version=0.0.4; charset=utf-8")


def _may_see_details(request: HttpRequest) -> bool:
    if not why_not_local(request):
        return True
    try:
        found = TokenAuthentication().authenticate(Request(request))
        if found is None:
            return bool(request.user.is_active and request.user.is_staff)
    except (AuthenticationFailed, Error):
        return False
    user, token = found
    return "admin" in token.scopes or (not token.scopes and user.is_superuser)


def _run(check: Callable[[], str]) -> str:
    try:
        return check()
    except Error:
        return "the database does not answer"


def _check_database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


def _check_migrations() -> str:
    if not _migrated:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            return f"{len(missing)} migrations are missing: run 'migrate'"
        _migrated.add("all")
    return ""


def _check_keys() -> str:
    try:
        crypto.check_keys()
    except AutomationLabError as exc:
        return exc.message
    return ""


def secrets_fault() -> str:
    """One stored value for each key that has made some: a wrong key is seen here before a run needs it."""
    samples: dict[tuple[str, str], tuple[str, str]] = {}
    for kind, token, bind in _encrypted():
        samples.setdefault((kind, crypto.key_id(token)), (token, bind))
    for token, bind in samples.values():
        try:
            crypto.decrypt(token, bind=bind)
        except crypto.DecryptionError as exc:
            return exc.message
        except crypto.EncryptionKeyError:
            return ""  # told by the check of the keys
    return ""


def _encrypted() -> Iterator[tuple[str, str, str]]:
    """(kind, ciphertext, what it is bound to) of everything stored that the lab cannot do without."""
    for name, token in Secret.objects.values_list("name", "ciphertext"):
        yield "secret", token, secrets.bind_of(name)
    for name, token in NotificationChannel.objects.values_list("name", "target_ciphertext"):
        yield "channel", token, channels.bind_of(name)
    for name, stored in Source.objects.exclude(secrets=[]).values_list("name", "secrets"):
        for secret in stored:
            yield "source", secret["ciphertext"], secret_binding(name)


def _check_worker() -> str:
    return "" if _live_workers() else f"no worker has reported within {HEARTBEAT_SECONDS} s"


CHECKS: dict[str, Callable[[], str]] = {
    "database": _check_database,
    "migrations": _check_migrations,
    "encryption_keys": _check_keys,
    "secrets": secrets_fault,
    "worker": _check_worker,
}


def _live_workers() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %s)",
            [HEARTBEAT_SECONDS],
        )
        return cursor.fetchone()[0]


class LabCollector(Collector):
    """Reads the database each time it is asked."""

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("lab_build", "Version of the lab.", value={"version": VERSION})
        yield GaugeMetricFamily(
            "lab_workers", f"Workers that reported within {HEARTBEAT_SECONDS} s.", value=_live_workers()
        )
        yield from _queue_metrics()
        yield _dropped_log_rows()
        yield _limited_webhooks()


def _queue_metrics() -> Iterator[Metric]:
    now = clock.database_now()
    depth = GaugeMetricFamily("lab_queue_depth", "Executions that are due and not taken.", labels=["kind"])
    oldest = GaugeMetricFamily("lab_queue_oldest_seconds", "How long the oldest of them has been due.", labels=["kind"])
    running = GaugeMetricFamily("lab_executions_running", "Executions held by a worker.", labels=["kind"])
    for model in _execution_models():
        kind = model._meta.db_table
        rows = model._default_manager.filter(status__in=("pending", "running"))
        due = rows.filter(worker=None, due_at__lte=now).aggregate(count=Count("pk"), first=Min("due_at"))
        depth.add_metric([kind], due["count"])
        oldest.add_metric([kind], (now - due["first"]).total_seconds() if due["first"] else 0)
        running.add_metric([kind], rows.exclude(worker=None).count())
    yield from (depth, oldest, running)


def _execution_models() -> list[type[Model]]:
    return [model for model in apps.get_models() if issubclass(model, Execution)]


def _dropped_log_rows() -> Metric:
    metric = CounterMetricFamily("lab_log_dropped", "API log rows lost to overload, by reason.", labels=["reason"])
    drops = apps.get_model("apilogs", "ApiLogDrop")._default_manager
    for reason, count in drops.order_by().values_list("reason").annotate(total=Sum("count")):
        metric.add_metric([reason], count)
    return metric


def _limited_webhooks() -> Metric:
    metric = GaugeMetricFamily(
        "lab_webhooks_limited", "Webhooks refused as too many, by limit; of addresses, lately.", labels=["limit"]
    )
    for kind, count in limits.refusals().items():
        metric.add_metric([kind], count)
    return metric


urlpatterns = [path("healthz", healthz), path("readyz", readyz), path("metrics", metrics)]
