"""A lab of its own for a measurement: embedded database, web server, workers and a local target, all ended afterwards."""

from __future__ import annotations

import contextlib
import http.server
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


@dataclass
class Lab:
    port: int
    target_port: int
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=self.environment, cwd=BASE_DIR)
        self.processes.append(process)
        return process

    def start_worker(self) -> subprocess.Popen[bytes]:
        environment = {**self.environment, "LAB_PROCESS_ROLE": "worker"}
        process = subprocess.Popen([sys.executable, "manage.py", "worker"], env=environment, cwd=BASE_DIR)
        self.processes.append(process)
        return process


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
def lab() -> Iterator[Lab]:
    """Needs the packages of requirements.txt; leaves nothing running."""
    with tempfile.TemporaryDirectory() as folder:
        target = http.server.ThreadingHTTPServer((HOST, 0), Target)
        threading.Thread(target=target.serve_forever, daemon=True).start()
        os.environ |= {
            "DATA_DIR": folder,
            "LAB_ENV_FILE": os.devnull,
            "API_TOKEN": TOKEN,
            "OUTBOUND_ALLOW": f"{HOST}:{target.server_port}",
            "LOG_LEVEL": "error",
            "INBOX_RATE_LIMIT": "0",
            "DJANGO_SETTINGS_MODULE": "automation_lab.settings",
        }
        from automation_lab import servers
        from automation_lab.embedded_postgres import EmbeddedPostgres

        database = EmbeddedPostgres(Path(folder))
        database.start()
        running = Lab(free_port(), target.server_port, {**os.environ, **servers.process_environment("web", HOST)})
        try:
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--prepare"],
                env=running.environment, cwd=BASE_DIR, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            running.start(*servers.web_command(host=HOST, port=running.port, workers=1, threads=4))
            wait_for(f"{running.url}/healthz")
            yield running
        finally:
            for process in running.processes:
                process.terminate()
            for process in running.processes:
                process.wait(40)
            target.shutdown()
            database.release()


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
