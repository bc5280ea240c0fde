"""A lab of its own for a measurement: embedded database, web server, workers and a local target, all ended afterwards."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
TOKEN = "token-of-the-benchmark-0123456789-abcdef"
BASE_DIR = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BASE_DIR))
PUSH = json.dumps(
    {
        "ref": "refs/heads/main",
        "commits": [
            {"id": f"{number:040x}", "message": "x" * 140, "author": {"name": "Ann", "email": "ann@example.com"}}
            for number in range(27)
        ],
    }
).encode()
"""A push of GitHub of 7 kB."""


@dataclass
class Lab:
    port: int
    target_port: int
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self, *command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=environment, cwd=BASE_DIR)
        self.processes.append(process)
        return process

    def start_web(self, port: int, application: str = "", **settings: str) -> subprocess.Popen[bytes]:
        """A server of this lab, with `settings` of its own, or of the WSGI `application` of this folder."""
        from automation_lab.serving import servers

        command = servers.web_command(host=HOST, port=port, workers=1, threads=4)
        if application:
            command[command.index("automation_lab.wsgi:application")] = application
            settings["PYTHONPATH"] = str(Path(__file__).parent)
        process = self.start(*command, environment={**self.environment, **settings})
        wait_for(f"http://{HOST}:{port}/healthz")
        return process

    def start_worker(self) -> subprocess.Popen[bytes]:
        environment = {**self.environment, "LAB_PROCESS_ROLE": "worker"}
        return self.start(sys.executable, "manage.py", "worker", environment=environment)

    def stop(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(40)
        self.processes = [process for process in self.processes if process not in processes]


class Target(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b'{"ok":true}')

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def database(folder: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Django set up on an embedded database in `folder`; gives the environment of processes that use it, too."""
    os.environ |= {
        "DATA_DIR": str(folder),
        "LAB_ENV_FILE": os.devnull,
        "API_TOKEN": TOKEN,
        "LOG_LEVEL": "error",
        "INBOX_RATE_LIMIT": "0",
        "DJANGO_SETTINGS_MODULE": "automation_lab.settings",
    } | settings
    from automation_lab.serving import servers
    from automation_lab.serving.embedded_postgres import EmbeddedPostgres

    postgres = EmbeddedPostgres(folder)
    postgres.start()
    try:
        environment = {**os.environ, **servers.process_environment("web", HOST)}
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--prepare"],
            env=environment, cwd=BASE_DIR, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        import django

        django.setup()
        yield environment
    finally:
        postgres.release()


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """Needs the packages of requirements.txt; leaves nothing running."""
    target = http.server.ThreadingHTTPServer((HOST, 0), Target)
    threading.Thread(target=target.serve_forever, daemon=True).start()
    allowed = f"{HOST}:{target.server_port}"
    with tempfile.TemporaryDirectory() as folder, database(Path(folder), OUTBOUND_ALLOW=allowed) as environment:
        running = Lab(free_port(), target.server_port, environment)
        try:
            running.start_web(running.port)
            yield running
        finally:
            running.stop(*running.processes)
            target.shutdown()


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=2)  # noqa: S310 - the server started above
            return
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer.")


def percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms (n = {len(ordered)})"
