"""The live port as browsers and scripts see it: a real server process, real WebSockets, the test database."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client
from pytest_django import DjangoDbBlocker
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from apilogs.tests.factories import ApiLogFactory
from automation_lab import tokens
from automation_lab.core.live import CHANNEL, LOCK_CLASS
from automation_lab.core.registry import live_topics
from automation_lab.models import ApiToken
from automation_lab.tests.servers import HOST, Server, free_port, live_server
from automation_lab.tests.waiting import eventually
from inbox.models import Forward, Replay, Webhook
from inbox.tests.factories import WebhookFactory, insert_webhook
from tasks.models import TaskExecution
from tasks.tests.factories import TaskExecutionFactory
from workflows.tests.factories import WorkflowExecutionFactory

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SECONDS = 20  # less than from beat to beat, which would hide that nothing else comes


@pytest.fixture(scope="module")
def live(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Server]:
    with live_server() as server:
        yield server
        assert "Traceback" not in server.log, server.log


class Tail:
    """A client that has been greeted."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        assert self.next()["type"] == "hello"

    def next(self, seconds: float = SECONDS) -> dict[str, Any]:
        return json.loads(self.client.recv(seconds))

    def take(self, count: int) -> list[dict[str, Any]]:
        return [self.next() for _ in range(count)]


@contextlib.contextmanager
def watching(live: Server, token: str, query: str = "", **options: Any) -> Iterator[Tail]:
    with open_socket(live, query, headers={"Authorization": f"Bearer {token}"}, **options) as client:
        yield Tail(client)


def open_socket(
    live: Server, query: str = "", *, path: str = "/live/tail", headers: dict[str, str] | None = None, **options: Any
) -> ClientConnection:
    return connect(
        f"ws://{HOST}:{live.port}{path}{query}",
        additional_headers=headers,
        compression=None,
        proxy=None,
        open_timeout=SECONDS,
        **options,
    )


def refusal(live: Server, query: str = "", **options: Any) -> tuple[int, str]:
    """(status, detail) of a handshake that is refused with a problem document."""
    with pytest.raises(InvalidStatus) as caught:
        open_socket(live, query, **options)
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    body = json.loads(response.body)
    assert body["status"] == response.status_code
    return response.status_code, body["detail"]


def token_for(user: User, *scopes: str, expires_at: datetime | None = None) -> str:
    return tokens.create_token(user=user, name="tests", scopes=scopes, expires_at=expires_at)[1]


@pytest.fixture
def token(admin_user: User) -> str:
    return token_for(admin_user)


def cookie(browser: Client) -> dict[str, str]:
    return {"Cookie": f"sessionid={browser.cookies['sessionid'].value}"}


def second_connection() -> psycopg.Connection[Any]:
    database = connection.settings_dict
    return psycopg.connect(host=database["HOST"], user=database["USER"], dbname=database["NAME"])


def copy_api_logs(count: int) -> None:
    ApiLogFactory()  # a row to be like
    columns = "correlation_id, method, path, route, query_params, status_code, request_headers, response_headers,"
    columns += " duration_ms, username, user_agent, request_size, response_size, error, created_at"
    with connection.cursor() as cursor, cursor.copy(f"COPY api_logs ({columns}) FROM STDIN") as copy:
        now = datetime.now(UTC)
        for number in range(count):
            copy.write_row((f"c-{number}", "GET", "/v1", "", "[]", 200, "[]", "[]", 1.5, "", "", 0, 0, "", now))


def watchers() -> int:
    """How many processes of the live port hold the locks that make writers announce."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE classid = %s AND mode = 'ShareLock'", [LOCK_CLASS]
        )
        return cursor.fetchone()[0]


def wait_until_nobody_watches() -> None:
    """The live port goes on for a moment after its last client, that of another test, has left."""
    eventually(lambda: not watchers(), seconds=SECONDS)


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_new_webhook_is_told_once_without_its_contents(live, token):
    with watching(live, token) as tail:
        webhook = WebhookFactory(event_type="push", raw_body=b'{"card": "4111"}', headers=[["X-Key", "4111"]])
        marker = WebhookFactory()

        first, second = tail.take(2)

    assert (first["type"], first["event"], first["id"], first["source"]) == ("webhook", "created", webhook.pk, "github")
    assert first["event_type"] == "push"
    assert datetime.fromisoformat(first["at"]) <= datetime.now(UTC)
    assert "4111" not in json.dumps(first)
    assert second["id"] == marker.pk


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("webhook", WebhookFactory),
        ("forward", lambda: Forward.objects.create(webhook=WebhookFactory(), target="https://example.com/secret")),
        ("replay", lambda: Replay.objects.create(target="url", options={"url": "https://example.com/secret"})),
        ("task_execution", TaskExecutionFactory),
        ("workflow_execution", WorkflowExecutionFactory),
        ("api_log", ApiLogFactory),
    ],
)
def test_every_topic_tells_its_rows_with_their_summary(live, token, name, make):
    topic = live_topics.get(name)
    with watching(live, token, f"?types={name}") as tail:
        row = make()

        message = tail.next()

    assert message["id"] == row.pk
    assert set(message) == {"type", "event", "id", "at", *topic.columns, *topic.expressions}
    assert "secret" not in json.dumps(message)


def test_an_execution_is_told_with_the_name_of_what_runs(live, token):
    with watching(live, token) as tail:
        execution = TaskExecutionFactory(task__name="Daily Report")

        message = tail.next()

    assert (message["task"], message["task_name"]) == (execution.task_id, "Daily Report")


def test_an_execution_is_told_again_when_something_that_can_be_seen_changes(live, token):
    execution = TaskExecutionFactory()
    with watching(live, token) as tail:
        TaskExecution.objects.filter(pk=execution.pk).update(job_id=7, updated_at=datetime.now(UTC))
        TaskExecution.objects.filter(pk=execution.pk).update(status="running", worker=3)

        message = tail.next()

    assert (message["event"], message["id"], message["status"], message["worker"]) == (
        "updated",
        execution.pk,
        "running",
        3,
    )


def test_rows_written_by_one_copy_are_told_once_each(live, token):
    with watching(live, token) as tail:
        copy_api_logs(500)
        marker = ApiLogFactory()

        messages = tail.take(502)

    assert [message["correlation_id"] for message in messages[1:501]] == [f"c-{number}" for number in range(500)]
    assert messages[501]["id"] == marker.pk


def test_a_row_made_and_changed_in_one_transaction_is_told_once_as_it_is(live, token):
    with watching(live, token) as tail:
        with transaction.atomic():
            webhook = WebhookFactory()
            Webhook.objects.filter(pk=webhook.pk).update(status="processed")
        marker = WebhookFactory()

        first, second = tail.take(2)

    assert (first["event"], first["id"], first["status"]) == ("created", webhook.pk, "processed")
    assert second["id"] == marker.pk


def test_what_is_rolled_back_is_not_told(live, token):
    with watching(live, token) as tail:
        with contextlib.suppress(RuntimeError), transaction.atomic():
            WebhookFactory()
            raise RuntimeError
        marker = WebhookFactory()

        assert tail.next()["id"] == marker.pk


def test_a_row_that_commits_after_a_later_one_is_told_too(live, token):
    with watching(live, token) as tail, second_connection() as other:
        early = insert_webhook(other)
        later = WebhookFactory().pk
        first = tail.next()
        other.commit()
        second = tail.next()

    assert early < later
    assert [first["id"], second["id"]] == [later, early]


def test_hello_waits_for_transactions_that_wrote_before_anybody_watched(live, token):
    wait_until_nobody_watches()
    with second_connection() as other:
        insert_webhook(other)
        headers = {"Authorization": f"Bearer {token}"}
        with open_socket(live, headers=headers) as client:
            with pytest.raises(TimeoutError):
                client.recv(0.5)
            insert_webhook(other)  # this transaction has found nobody watching, so it cannot announce any more
            other.commit()

            tail = Tail(client)
            marker = WebhookFactory()

            assert tail.next()["id"] == marker.pk


# --- cost and failures ------------------------------------------------------------------------------------------------


def test_nothing_is_announced_unless_somebody_watches(live, token):
    wait_until_nobody_watches()
    with second_connection() as other:
        other.autocommit = True
        other.execute(f"LISTEN {CHANNEL}")

        WebhookFactory()
        unwatched = list(other.notifies(timeout=0.3))
        with watching(live, token):
            WebhookFactory()
            watched = list(other.notifies(timeout=SECONDS, stop_after=1))
        wait_until_nobody_watches()
        WebhookFactory()
        left_alone = list(other.notifies(timeout=0.3))

    assert (len(unwatched), len(watched), len(left_alone)) == (0, 1, 0)


def test_a_lost_database_connection_shows_as_a_gap_and_mends_itself(live, token):
    with watching(live, token) as tail:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'automation-lab tail'"
                " AND datname = current_database()"
            )

        gap = tail.next()
        webhook = WebhookFactory()

        assert gap["type"] == "gap"
        assert tail.next()["id"] == webhook.pk


def test_a_foreign_notification_is_ignored(live, token):
    with watching(live, token) as tail:
        with connection.cursor() as cursor:
            for payload in ("", "[]", "{", '{"table": "auth_user", "event": "created", "at": "now", "ids": [1]}'):
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
            cursor.execute(
                "SELECT pg_notify(%s, json_build_object('table', 'auth_user', 'event', 'x', 'at', now(), 'ids',"
                " array[1])::text)",
                [CHANNEL],
            )
        webhook = WebhookFactory()

        assert tail.next()["id"] == webhook.pk


def test_a_client_that_does_not_read_loses_messages_and_harms_nobody(live, token):
    """The other one has taken each portion before the next: a busy machine must not make it slow as well."""
    portions, rows = 50, 400
    count = portions * (rows + 1)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((HOST, live.port))
    unread = {"sock": narrow, "max_queue": 4, "ping_interval": None}  # no answer to a ping is read either
    with watching(live, token, **unread) as slow, watching(live, token, max_queue=None) as fast:
        taken = set()
        for _ in range(portions):
            copy_api_logs(rows)
            taken |= {message["id"] for message in fast.take(rows + 1)}
        assert len(taken) == count

        received, dropped = 0, 0
        while received + dropped < count:
            message = slow.next()
            dropped += message["count"] if message["type"] == "dropped" else 0
            received += message["type"] == "api_log"

    assert received + dropped == count
    assert dropped > 0


def test_two_live_processes_watch_independently_and_stop_at_once(live, token):
    with watching(live, token) as tail:
        with live_server() as other, watching(other, token) as other_tail:
            both = WebhookFactory()
            assert tail.next()["id"] == other_tail.next()["id"] == both.pk

            started = time.monotonic()
            other.stop()
            with pytest.raises(ConnectionClosed):
                other_tail.next()
            assert time.monotonic() - started < 10
        alone = WebhookFactory()

        assert tail.next()["id"] == alone.pk


# --- who may watch ----------------------------------------------------------------------------------------------------


def test_without_credentials_nobody_watches(live, db):
    status, detail = refusal(live)

    assert status == 401
    assert "Authorization: Bearer" in detail


def test_expired_and_unknown_tokens_are_refused(live, token):
    ApiToken.objects.update(expiry=datetime.now(UTC) - timedelta(seconds=1))

    for plain in (token, "lab_unknown", "", "x" * 600):
        assert refusal(live, headers={"Authorization": f"Bearer {plain}"})[0] == 401


def test_the_console_watches_with_its_session(live, browser):
    with open_socket(live, headers=cookie(browser), origin=f"http://{HOST}:8000") as client:
        tail = Tail(client)
        webhook = WebhookFactory()

        assert tail.next()["id"] == webhook.pk


@pytest.mark.parametrize(
    "origin", ["http://evil.example", f"http://{HOST}.evil.example", "null", "file://", "http://[::1", None]
)
def test_a_session_from_a_foreign_page_is_refused(live, browser, origin):
    status, detail = refusal(live, headers=cookie(browser), origin=origin)

    assert status == 403
    assert "Origin" in detail


def test_a_token_needs_no_origin_and_may_come_from_any_page(live, token):
    with watching(live, token, origin="http://other.example") as tail:
        webhook = WebhookFactory()

        assert tail.next()["id"] == webhook.pk


def test_a_host_header_of_another_name_is_refused(live, token):
    headers = {"Authorization": f"Bearer {token}", "Host": "evil.example"}

    assert refusal(live, headers=headers)[0] == 400


def test_a_signed_out_session_is_refused(live, browser):
    headers = cookie(browser)
    browser.logout()

    assert refusal(live, headers=headers, origin=f"http://{HOST}:8000")[0] == 401


def test_scopes_narrow_what_a_token_is_told(live, admin_user):
    with watching(live, token_for(admin_user, "logs:read")) as tail:
        WebhookFactory()
        TaskExecutionFactory()
        log = ApiLogFactory()

        message = tail.next()

    assert (message["type"], message["id"]) == ("api_log", log.pk)


def test_permissions_narrow_what_a_user_is_told(live, user):
    user.user_permissions.add(Permission.objects.get(codename="view_apilog"))
    with watching(live, token_for(user)) as tail:
        WebhookFactory()
        log = ApiLogFactory()

        message = tail.next()

    assert (message["type"], message["id"]) == ("api_log", log.pk)


def test_who_may_read_nothing_is_refused(live, user):
    assert refusal(live, headers={"Authorization": f"Bearer {token_for(user)}"})[0] == 403


def test_the_query_narrows_the_types(live, token):
    with watching(live, token, "?types=api_log,task_execution") as tail:
        WebhookFactory()
        log = ApiLogFactory()

        assert tail.next()["id"] == log.pk


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ("?after=5", 400, '"after"'),
        ("?types=webhook,emails", 400, '"emails"'),
        ("?types=", 400, "known are"),
        ("?types=webhook", 403, "webhook"),
    ],
)
def test_a_query_that_cannot_be_met_is_refused_with_the_reason(live, admin_user, query, status, named):
    headers = {"Authorization": f"Bearer {token_for(admin_user, 'logs:read')}"}

    answered, detail = refusal(live, query, headers=headers)

    assert answered == status
    assert named in detail


def test_api_open_lets_this_machine_watch_and_foreign_pages_not(admin_user):
    with live_server(API_OPEN="1") as live:
        with open_socket(live) as client:
            tail = Tail(client)
            webhook = WebhookFactory()

            assert tail.next()["id"] == webhook.pk
        assert refusal(live, origin="http://evil.example")[0] == 401
        assert refusal(live, headers={"X-Forwarded-For": "192.0.2.1"})[0] == 401


def test_a_database_that_is_away_is_a_503_that_says_so():
    with live_server(DATABASE_URL=f"postgresql://{HOST}:{free_port()}/nothing") as live:
        status, detail = refusal(live, headers={"Authorization": "Bearer x"})

    assert status == 503
    assert "database" in detail


# --- plain HTTP -------------------------------------------------------------------------------------------------------


def test_the_live_port_answers_health_checks_and_nothing_else(live):
    health = httpx.get(f"{live.url}/healthz")
    elsewhere = httpx.get(f"{live.url}/admin/")
    without_upgrade = httpx.get(f"{live.url}/live/tail")

    assert (health.status_code, health.text) == (200, "ok\n")
    assert (elsewhere.status_code, elsewhere.headers["content-type"]) == (404, "application/problem+json")
    assert without_upgrade.status_code == 426


def test_a_socket_elsewhere_is_not_found(live):
    assert refusal(live, path="/live/other")[0] == 404
    assert refusal(live, path="/live/tail/")[0] == 404
