"""`manage.py listen`: new webhooks of a lab, printed as they come."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from inbox.management.lab_server import RemoteLabCommand, add_selection, selection
from inbox.streaming.following import Cursor, Follower, Webhook, client_for, parse_since, printable

SHOWN_CHARACTERS = 80


class Command(RemoteLabCommand):
    """Print new webhooks as they come."""

    help = "Print new webhooks as they come. Ctrl-C ends it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_selection(parser)
        parser.add_argument("--format", choices=["line", "json"], default="line", help="json: one object a line")
        super().add_arguments(parser)

    def work(self, **options: Any) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            self._listen(options)
        return 0

    def _listen(self, options: dict[str, Any]) -> None:
        server = self.server(options)
        follower = Follower(
            server=server,
            token=self.token(options),
            filters=selection(options),
            cursor=Cursor(server),
            tell=self.say,
            pause=time.sleep,
            since=parse_since(options["since"], now=datetime.now(UTC)) if options["since"] else None,
            http=client_for(server),
        )
        show = line if options["format"] == "line" else json.dumps
        for webhook in follower.webhooks():
            self.put(show(webhook))


def line(webhook: Webhook) -> str:
    received_at = datetime.fromisoformat(webhook["received_at"]).astimezone()
    body = base64.b64decode(webhook["body_base64"]).decode("utf-8", "replace")
    parts = [webhook["source"], webhook["event_type"] or "-", f"#{webhook['id']}", webhook["status"]]
    shown = "  ".join([*parts, f"{webhook['size_bytes']} B", body[:SHOWN_CHARACTERS]])
    return f"{received_at:%H:%M:%S}  {printable(shown).rstrip()}"
