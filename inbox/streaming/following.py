"""Reads another lab's stream of webhooks over its API: what the commands `forward` and `listen` share."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from django.utils.dateparse import parse_datetime

from automation_lab.core.exceptions import AutomationLabError, Invalid
from automation_lab.core.http import HttpClient, HttpError, HttpResponse
from automation_lab.core.outbound import OutboundPolicy, parse_allow
from inbox.streaming.stream import UNKNOWN_CURSOR

STREAM_PATH = "/v1/webhooks/stream"
WAIT_SECONDS = 20
TIMEOUT_SECONDS = 60.0
MOST_BYTES = 64 * 1024 * 1024
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
AGO = re.compile(r"([0-9]{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Webhook = dict[str, Any]


class Failed(AutomationLabError):
    """There is no point in trying again: the message says why."""


class Away(Exception):
    """The lab does not answer at the moment."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass
class Cursor:
    """How far a reader has come, kept in `path` so that the next start goes on from there."""

    server: str
    path: Path | None = None
    after: int | None = None

    def load(self) -> None:
        """Take up what an earlier run has left. Raises Failed for the file of another lab."""
        if self.path is None or not self.path.exists():
            return
        try:
            saved = json.loads(self.path.read_text())
            server, after = str(saved["server"]), int(saved["after"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Failed(f"{self.path} cannot be read as a state file: remove it to start anew.") from error
        if server != self.server:
            raise Failed(f"{self.path} belongs to {server}: name another file with --state.")
        self.after = after

    def save(self, after: int) -> None:
        """Whole or not at all, so that a kill leaves the old place or the new one."""
        if after == self.after:
            return
        self.after = after
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            beside.write_text(json.dumps({"server": self.server, "after": after}))
            beside.replace(self.path)


@dataclass
class Follower:
    """The webhooks of one lab that match `filters`, one after the other, for as long as it is asked.

    `tell` is told when the lab is away and when it is back; `pause` sleeps.
    """

    server: str
    token: str
    filters: list[tuple[str, str]]
    cursor: Cursor
    tell: Callable[[str], None]
    pause: Callable[[float], None]
    since: datetime | None = None
    http: HttpClient = field(default_factory=HttpClient)
    wait_seconds: int = WAIT_SECONDS
    _away: bool = False
    _warned: bool = False

    def webhooks(self) -> Iterator[Webhook]:
        """Each is noted as done when the next one is asked for. Raises Failed."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = self._ask()
            except Away as away:
                self._note_away(str(away))
                self.pause(away.retry_after_seconds or pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            self._note_back(answer)
            for webhook in answer["results"]:
                yield webhook
                self.cursor.save(webhook["id"])
            self.cursor.save(answer["cursor"])
            if answer["retry_after_seconds"]:
                self.pause(answer["retry_after_seconds"])

    def _ask(self) -> dict[str, Any]:
        """One answer of the stream. Without a place to go on from, it is the place alone, at once."""
        query = [*self.filters, ("wait", str(self.wait_seconds))]
        if self.cursor.after is not None:
            query.append(("after", str(self.cursor.after)))
        elif self.since is not None:
            query.append(("since", self.since.isoformat()))
        else:
            query[-1] = ("wait", "0")
        try:
            response = self.http.request(
                "GET",
                self.server + STREAM_PATH,
                query=query,
                headers={"Accept": "application/json", **_authorization(self.token)},
                timeout_seconds=TIMEOUT_SECONDS,
                max_bytes=MOST_BYTES,
            )
        except HttpError as error:
            if error.code.startswith(("configuration", "authorization", "runtime")):
                raise Failed(f"{self.server}: {error.message}") from error
            raise Away(error.message) from error
        return _read(response, self.server)

    def _note_away(self, why: str) -> None:
        if not self._away:
            self.tell(f"{self.server} is away: {why} Trying again.")
        self._away = True

    def _note_back(self, answer: dict[str, Any]) -> None:
        if self._away:
            self.tell(f"{self.server} is back.")
        self._away = False
        if answer["credentials_masked"] and not self._warned:
            self._warned = True
            self.tell("This token may not change webhooks: headers with credentials come masked.")


def client_for(*urls: str) -> HttpClient:
    """A client that may call exactly the hosts and ports of `urls`, which the developer has named. Raises Invalid."""
    try:
        return HttpClient(OutboundPolicy(allow=parse_allow(", ".join(_host_and_port(url) for url in urls))))
    except ValueError as error:
        raise Invalid(str(error)) from error


def normalised_server(url: str) -> str:
    """The address of a lab without a slash at its end. Raises Invalid."""
    _host_and_port(url)
    return url.rstrip("/")


def parse_since(text: str, *, now: datetime) -> datetime:
    """`2h` (ago) or an instant. Raises Invalid."""
    if match := AGO.fullmatch(text):
        return now - timedelta(**{UNITS[match[2]]: int(match[1])})
    try:
        instant = parse_datetime(text)
    except ValueError:
        instant = None
    if instant is None:
        raise Invalid("--since is a time ago, such as 30m, 2h or 1d, or an instant such as 2026-05-01T12:00:00Z.")
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def printable(text: str) -> str:
    """`text` for a terminal: what a sender wrote must not move its cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def _host_and_port(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        raise Invalid(f"{url} is not an address: write it like http://127.0.0.1:3000/hook.") from None
    if not parts.hostname:
        raise Invalid(f"{url} has no host: write it like http://127.0.0.1:3000/hook.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _read(response: HttpResponse, server: str) -> dict[str, Any]:
    if response.status_code == 429 or response.status_code >= 500:
        raise Away(f"It answers {response.status_code}.", response.retry_after)
    try:
        answer = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        answer = {}
    if response.status_code == 200 and isinstance(answer, dict) and "results" in answer:
        return answer
    raise Failed(_why(response.status_code, answer, server))


def _why(status: int, answer: Any, server: str) -> str:
    answer = answer if isinstance(answer, dict) else {}
    detail = str(answer.get("detail", ""))
    if status == 401:
        return f"{server} wants a token with the scope inbox:write. {detail} Give --token-file or --token."
    faults = answer.get("errors")  # whatever answers here need not be a lab
    if isinstance(faults, list) and any(isinstance(one, dict) and one.get("code") == UNKNOWN_CURSOR for one in faults):
        return f"{server}: {detail} (--restart does.)"
    return f"{server} answers {status}: {detail or 'this does not look like an Automation Lab.'}"
