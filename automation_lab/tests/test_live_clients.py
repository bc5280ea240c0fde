"""One client of the live port inside this process: its queue, and what happens to it as time goes by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from django.db import connection

from automation_lab import tokens
from automation_lab.core.registry import live_topics
from automation_lab.live import application, consumer
from automation_lab.live.subscribers import LIMIT, Subscriber
from automation_lab.models import ApiToken
from inbox.tests.factories import WebhookFactory

SECONDS = 10


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), SECONDS * 2))


class Client(ApplicationCommunicator):
    def __init__(self, token: str) -> None:
        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())]
        client = {"client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 8001), "scheme": "ws"}
        scope = {"type": "websocket", "path": "/live/tail", "query_string": b"", "headers": headers, **client}
        super().__init__(application, {**scope, "extensions": {"websocket.http.response": {}}})

    async def greeted(self) -> None:
        await self.send_input({"type": "websocket.connect"})
        assert (await self.receive_output(SECONDS))["type"] == "websocket.accept"
        assert (await self.next())["type"] == "hello"

    async def next(self) -> dict[str, Any]:
        sent = await self.receive_output(SECONDS)
        assert sent["type"] == "websocket.send", sent
        return json.loads(sent["text"])

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(SECONDS)


@pytest.fixture
def token(transactional_db: None, admin_user: Any) -> str:
    return tokens.create_token(user=admin_user, name="tests", expires_at=None)[1]


def test_a_client_whose_token_is_revoked_is_sent_away(token, monkeypatch):
    monkeypatch.setattr(consumer, "RECHECK_SECONDS", 0.1)

    async def scenario() -> None:
        client = Client(token)
        await client.greeted()
        await database_sync_to_async(ApiToken.objects.all().delete)()

        closed = await client.receive_output(SECONDS)
        await client.leave()

        assert (closed["type"], closed["code"]) == ("websocket.close", 4403)
        assert "revoked" in closed["reason"]

    run(scenario)


def test_a_client_whose_scopes_shrink_is_told_less(token, monkeypatch):
    monkeypatch.setattr(consumer, "RECHECK_SECONDS", 0.1)

    async def scenario() -> None:
        client = Client(token)
        await client.greeted()
        await database_sync_to_async(ApiToken.objects.update)(scopes=["tasks:read"])
        await asyncio.sleep(0.5)
        await database_sync_to_async(WebhookFactory)()

        silent = await client.receive_nothing(0.5)
        await client.leave()

        assert silent

    run(scenario)


def test_a_quiet_connection_is_kept_alive(token, monkeypatch):
    monkeypatch.setattr(consumer, "BEAT_SECONDS", 0.1)

    async def scenario() -> None:
        client = Client(token)
        await client.greeted()

        assert await client.next() == {"type": "beat"}

        await client.leave()

    run(scenario)


def test_what_clients_send_is_not_read(token):
    async def scenario() -> None:
        client = Client(token)
        await client.greeted()
        await client.send_input({"type": "websocket.receive", "text": "{not json"})
        await client.send_input({"type": "websocket.receive", "bytes": b"\x00"})
        webhook = await database_sync_to_async(WebhookFactory)()

        message = await client.next()
        await client.leave()

        assert message["id"] == webhook.pk

    run(scenario)


def test_a_client_that_is_behind_loses_one_stretch_and_is_told_how_long():
    async def scenario() -> None:
        subscriber = Subscriber(frozenset({"webhook"}))
        subscriber.greet("now")
        for number in range(LIMIT + 5):
            subscriber.offer("webhook", str(number).encode())

        read = [await subscriber.next() for _ in range(LIMIT)]
        subscriber.offer("webhook", b"also lost")
        notice = json.loads(await subscriber.next())
        subscriber.offer("webhook", b"next")

        assert read[-1] == str(LIMIT - 2).encode()
        assert notice == {"type": "dropped", "count": 7}
        assert await subscriber.next() == b"next"

    run(scenario)


def test_nothing_reaches_a_client_before_its_greeting():
    async def scenario() -> None:
        subscriber = Subscriber(frozenset({"webhook"}))
        subscriber.offer("webhook", b"early")
        subscriber.greet("now")

        assert json.loads(await subscriber.next())["type"] == "hello"
        assert not subscriber.is_behind

    run(scenario)


@pytest.mark.django_db
def test_every_change_that_is_announced_can_be_seen_in_its_message():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, split_part(encode(tgargs, 'escape'), '\\000', 1) FROM pg_trigger"
            " WHERE tgname = 'lab_announce_updates'"
        )
        conditions = dict(cursor.fetchall())

    topics = {topic.table: {*topic.columns, *topic.expressions.values()} for topic in live_topics.values()}
    watched = {
        table: {part.split(" ")[0].removeprefix("n.") for part in condition.split(" OR ")}
        for table, condition in conditions.items()
    }
    assert set(watched) == set(topics) - {"api_logs"}  # which are never changed
    for table, columns in watched.items():
        assert "status" in columns
        assert columns <= topics[table]
