"""`manage.py up`: everything that one machine needs, in one terminal."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connections

from automation_lab import addresses, checks, health
from automation_lab.core.exceptions import Conflict
from automation_lab.serving import first_start, servers
from automation_lab.serving.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from automation_lab.serving.process import become
from automation_lab.serving.supervisor import READY_TEXT_VARIABLE


class Command(BaseCommand):
    help = "Start the database, the web server, the live port and the worker; Ctrl-C stops them all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="Console and API (default: 8000).")
        parser.add_argument("--live-port", type=int, default=8001, help="WebSockets (default: 8001).")
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: 127.0.0.1).")
        parser.add_argument("--data-dir", help="Folder of the database and the keys (default: DATA_DIR, var/).")
        parser.add_argument("--workers", type=_positive, default=1, help="Worker processes (default: 1).")
        parser.add_argument("--demo", action="store_true", help="Fill an empty lab with examples first.")

    def handle(self, *, host: str, port: int, live_port: int, workers: int, demo: bool, **options: Any) -> None:
        problem = checks.exposure_problem(host)
        if problem:
            raise CommandError(problem)
        lock = _lock_data_dir(addresses.url(host, port))
        _check_ports(host, port, live_port)
        server = self._start_database()
        prepared = self._prepare()
        if demo:
            self._fill()
        ready_text = _ready_text(host, port, live_port, first=bool(prepared.username))
        connections.close_all()
        use = server.descriptor if server else None
        command = _supervisor_command(host, port, live_port, workers, use)
        for descriptor in (lock, use):
            if descriptor is not None:
                os.set_inheritable(descriptor, True)
        become(command, {"LAB_LIVE_PORT": str(live_port), READY_TEXT_VARIABLE: ready_text}, folder=servers.BASE_DIR)

    def _start_database(self) -> EmbeddedPostgres | None:
        server = EmbeddedPostgres(settings.DATA_DIR) if settings.EMBEDDED_DATABASE else None
        try:
            if server:
                server.start()
        except EmbeddedPostgresError as exc:
            raise CommandError(str(exc)) from exc
        problem = checks.database_problem()
        if problem:
            raise CommandError(problem)
        return server

    def _fill(self) -> None:
        try:
            call_command("demo", if_empty=True)
        except CommandError as exc:  # such as: this lab is not empty, which is no reason not to start it
            self.stderr.write(f"--demo: {exc}")

    def _prepare(self) -> first_start.Prepared:
        try:
            call_command("migrate", verbosity=0, interactive=False)
            prepared = first_start.prepare()
        except OperationalError as exc:
            raise CommandError(f"The database failed while it was prepared: {exc}".strip()) from exc
        except Conflict as exc:
            raise CommandError(exc.message) from exc
        if prepared.lines():
            self.stdout.write(
                "\n".join(["", "First start. Write these down, they are not shown again:", "", *prepared.lines(), ""])
            )
        return prepared


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError("write a number of 1 or greater")
    return int(text)


def _lock_data_dir(address: str) -> int:
    """Held by the supervisor too, which inherits the descriptor."""
    folder = settings.DATA_DIR / "run"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        other = json.loads(os.read(descriptor, 1000) or b"{}")
        where = f" at {other['address']} (process {other['process']})" if other else ""
        raise CommandError(
            f"A lab runs on {settings.DATA_DIR} already{where}: stop it first, or start a second one with "
            "--data-dir, --port and --live-port."
        ) from exc
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({"address": address, "process": os.getpid()}).encode())
    return descriptor


def _check_ports(host: str, port: int, live_port: int) -> None:
    if port == live_port:
        raise CommandError("--port and --live-port must differ.")
    try:
        addresses.check_port(host, port, "--port")
        addresses.check_port(host, live_port, "--live-port")
    except addresses.AddressProblem as exc:
        raise CommandError(str(exc)) from exc


def _ready_text(host: str, port: int, live_port: int, *, first: bool) -> str:
    base = addresses.url(host, port)
    lines = [
        "",
        f"  console    {settings.PUBLIC_URL or base}/",
        f"  API        {base}/v1/   (described at {base}/docs)",
        f"  live       {_live_url(host, live_port)}",
    ]
    if settings.API_OPEN:
        lines += ["", "  API_OPEN is on: programs on this machine need no token."]
    if fault := health.secrets_fault():
        lines += ["", f"  {fault}"]
    if first:
        lines += ["", "  Send a first webhook:", "", *(f"  {line}" for line in _curl_lines(base))]
    return "\n".join([*lines, ""])


def _live_url(host: str, live_port: int) -> str:
    base = settings.LIVE_URL or addresses.url(host, live_port)
    return f"{base.replace('http', 'ws', 1)}/live/tail   (WebSocket)"


def _curl_lines(base: str) -> list[str]:
    body = """'{"message":"hello"}'"""
    return [f"curl -X POST {base}/v1/webhooks/inbox/hello -H 'Content-Type: application/json' -d {body}"]


def _supervisor_command(host: str, port: int, live_port: int, workers: int, use: int | None) -> list[str]:
    values = {
        "host": host,
        "reach": addresses.reachable(host),
        "port": port,
        "live-port": live_port,
        "workers": workers,
        "web-workers": settings.WEB_WORKERS,
        "web-threads": settings.WEB_THREADS,
        "grace": settings.TASKS_GRACE_SECONDS,
        "data-dir": settings.DATA_DIR,
        "log-format": settings.LOG_FORMAT,
    }
    arguments = [f"--{name}={value}" for name, value in values.items()]
    if use is not None:
        arguments += ["--embedded", f"--use={use}"]
    return [sys.executable, "-m", "automation_lab.serving.supervisor", *arguments]
