"""`manage.py forward`: new webhooks of a lab, sent on to this machine in order."""

from __future__ import annotations

import base64
import hashlib
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from automation_lab.core.http import HttpClient, HttpError
from inbox.management.lab_server import RemoteLabCommand, add_selection, selection
from inbox.models import PAYLOAD_REMOVED
from inbox.replaying.outgoing import outgoing_webhook
from inbox.streaming.following import Cursor, Follower, Webhook, client_for, parse_since, printable

TIMEOUT_SECONDS = 30.0
RETRY_SECONDS = 1.0


class Command(RemoteLabCommand):
    """Stream new webhooks to an address on this machine; goes on where it stopped."""

    help = "Stream new webhooks to an address on this machine, in order; goes on where it stopped. Ctrl-C ends it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_selection(parser)
        parser.add_argument("--to", required=True, metavar="URL", help="such as http://127.0.0.1:3000/hook")
        parser.add_argument("--insecure", action="store_true", help="accept any certificate of --to")
        parser.add_argument("--state", type=Path, help="where the place is kept; default below DATA_DIR")
        parser.add_argument("--restart", action="store_true", help="forget the place: begin now, or at --since")
        super().add_arguments(parser)

    def work(self, **options: Any) -> int:
        try:
            self._forward(options)
        except KeyboardInterrupt:
            self.say("Stopped. The next start goes on from here.")
        return 0

    def _forward(self, options: dict[str, Any]) -> None:
        server, url, filters = self.server(options), options["to"], selection(options)
        target = Target(url, verify_tls=not options["insecure"], command=self)
        cursor = Cursor(server, options["state"] or _state_file(server, url, filters))
        if not options["restart"]:
            self._take_up(cursor, is_since_given=bool(options["since"]))
        follower = Follower(
            server=server,
            token=self.token(options),
            filters=filters,
            cursor=cursor,
            tell=self.say,
            pause=time.sleep,
            since=parse_since(options["since"], now=datetime.now(UTC)) if options["since"] else None,
            http=client_for(server),
        )
        self.say(f"Forwarding {', '.join(options['sources']) or 'all sources'} of {server} to {url}")
        for webhook in follower.webhooks():
            self.put(target.send(webhook))

    def _take_up(self, cursor: Cursor, *, is_since_given: bool) -> None:
        cursor.load()
        if cursor.after is not None:
            instead = ", not from --since" if is_since_given else ""
            self.say(f"Going on after #{cursor.after}{instead} (--restart forgets this place).")


class Target:
    """The address on this machine. While nothing listens there, a webhook waits, as those after it do."""

    def __init__(
        self, url: str, *, verify_tls: bool, command: RemoteLabCommand, http: HttpClient | None = None
    ) -> None:
        self.url = url
        self._verify_tls = verify_tls
        self._command = command
        self._http = http or client_for(url)
        self._waiting = False

    def send(self, webhook: Webhook) -> str:
        """Deliver `webhook`; the line that tells of it. An answer of any status is a delivery."""
        if PAYLOAD_REMOVED in webhook["flags"]:
            return line(webhook, "not sent: its body was removed", elapsed_ms=0)
        while True:
            started = time.monotonic()
            try:
                outcome = str(self._request(webhook))
            except HttpError as error:
                if not error.request_sent and error.code.startswith(("communication", "timeout")):
                    self._wait(error)
                    continue
                outcome = f"error {error.code}: {error.message}"
            self._waiting = False
            return line(webhook, outcome, elapsed_ms=round((time.monotonic() - started) * 1000))

    def _request(self, webhook: Webhook) -> int:
        request = outgoing_webhook(
            webhook_id=webhook["id"],
            method=webhook["method"],
            query_params=webhook["query_params"],
            headers=webhook["headers"],
            body=base64.b64decode(webhook["body_base64"]),
            extra={},
        )
        return self._http.request(
            request.method,
            self.url,
            headers=request.headers,
            query=request.query,
            content=request.body,
            timeout_seconds=TIMEOUT_SECONDS,
            verify_tls=self._verify_tls,
        ).status_code

    def _wait(self, error: HttpError) -> None:
        if not self._waiting:
            self._command.say(f"{self.url}: {error.message} Waiting for it.")
        self._waiting = True
        time.sleep(RETRY_SECONDS)


def line(webhook: Webhook, outcome: str, *, elapsed_ms: int) -> str:
    received_at = datetime.fromisoformat(webhook["received_at"]).astimezone()
    kind = printable(webhook["event_type"]) or "-"
    return f"{received_at:%H:%M:%S}  {webhook['source']}  {kind}  #{webhook['id']}  {outcome}  {elapsed_ms} ms"


def _state_file(server: str, url: str, filters: list[tuple[str, str]]) -> Path:
    """One for each thing that is forwarded to one place."""
    names = "-".join(value for name, value in filters if name == "source")[:60] or "all"
    digest = hashlib.sha256(repr([server, url, sorted(filters)]).encode()).hexdigest()[:12]
    return settings.DATA_DIR / "forward" / f"{names}-{digest}.json"
