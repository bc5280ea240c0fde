"""The command lines of the long-running processes; the commands `web` and `live` become them, `up` starts them as children."""

from __future__ import annotations

import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[2]
# Connections, not requests: idle ones count too, so it is far above the number of threads.
BACKPRESSURE = 512
KILL_TIMEOUT_SECONDS = 25  # without one, granian hangs when it is stopped while it starts
HEADER_TIMEOUT_MS = 10_000


def web_command(*, host: str, port: int, workers: int, threads: int) -> list[str]:
    return [
        *_granian(host, port, "wsgi", "automation_lab.wsgi:application", workers),
        *("--blocking-threads", str(threads), "--no-ws"),
    ]


def live_command(*, host: str, port: int) -> list[str]:
    return _granian(host, port, "asginl", "automation_lab.live:application", 1)


def worker_command() -> list[str]:
    return [sys.executable, str(BASE_DIR / "manage.py"), "worker"]


def process_environment(role: str, host: str) -> dict[str, str]:
    """What a process of `role` gets on top of its parent's environment."""
    return {"LAB_PROCESS_ROLE": role, "LAB_BIND_HOST": host, "PYTHONUNBUFFERED": "1"}


def _granian(host: str, port: int, interface: str, application: str, workers: int) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", "--interface", interface, application, "--working-dir", str(BASE_DIR)),
        *("--host", host, "--port", str(port), "--workers", str(workers)),
        *("--http", "1", "--http1-header-read-timeout", str(HEADER_TIMEOUT_MS), "--backpressure", str(BACKPRESSURE)),
        *("--respawn-failed-workers", "--workers-kill-timeout", str(KILL_TIMEOUT_SECONDS), "--log-level", "warning"),
    ]
