"""`/live/tail`: one WebSocket, from its handshake to its end."""

from __future__ import annotations

import asyncio

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from automation_lab.live.access import admitted_types
from automation_lab.live.answers import Refusal, refuse_socket
from automation_lab.live.hub import hub
from automation_lab.live.subscribers import Subscriber

BEAT_SECONDS = 25  # below the minute after which proxies close a silent connection
RECHECK_SECONDS = 60
NOT_ALLOWED = 4403
LONGEST_REASON = 120  # of a close frame
BEAT = b'{"type":"beat"}'


class TailConsumer(AsyncWebsocketConsumer):
    """Sends what the hub offers. What the client sends is not read."""

    _subscriber: Subscriber | None = None
    _tasks: tuple[asyncio.Task[None], ...] = ()

    async def connect(self) -> None:
        try:
            types = await self._admitted_types()
        except Refusal as refusal:
            await refuse_socket(self.scope, self.base_send, refusal)
            raise StopConsumer from refusal
        await self.accept()
        subscriber = self._subscriber = Subscriber(types)
        hub.join(subscriber)
        self._tasks = (asyncio.create_task(self._send_on(subscriber)), asyncio.create_task(self._recheck(subscriber)))

    async def disconnect(self, code: int) -> None:
        if self._subscriber is not None:
            hub.leave(self._subscriber)
        for task in self._tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """There is nothing to say here."""

    async def _send_on(self, subscriber: Subscriber) -> None:
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    message = await subscriber.next()
            except TimeoutError:
                message = BEAT
            await self.send(text_data=message.decode())

    async def _recheck(self, subscriber: Subscriber) -> None:
        """Sessions end, tokens expire and roles change while a client watches."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                subscriber.types = await self._admitted_types()
            except Refusal as refusal:
                if refusal.status == 503:  # nothing can be read then either
                    continue
                hub.leave(subscriber)
                await self.close(code=NOT_ALLOWED, reason=refusal.detail[:LONGEST_REASON])
                return

    async def _admitted_types(self) -> frozenset[str]:
        # Not on asgiref's one shared thread: while the database is away, every call waits for seconds.
        return await database_sync_to_async(admitted_types, thread_sensitive=False)(self.scope)
