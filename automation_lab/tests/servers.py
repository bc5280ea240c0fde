"""Real processes for tests: the web server on the test database, and ports to put it on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from django.db import connection

from automation_lab.serving import servers

HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 40  # more than the server itself takes before it kills its workers


@dataclass(frozen=True)
class Worker:
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def log(self) -> str:
        """What the process has printed so far."""
        return os.pread(self.output.fileno(), 10_000_000, 0).decode("utf-8", "replace")


@dataclass(frozen=True)
class Server(Worker):
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def free_port() -> int:
    with reserved_port() as port:
        return port


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port that nobody else is given meanwhile: bound without listening, so that only a server told of it may take it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        yield holder.getsockname()[1]


def database_environment() -> dict[str, str]:
    """The environment for a process that works on the test database; the test needs `transactional_db`."""
    database = connection.settings_dict
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "automation_lab.settings",
        "DATABASE_URL": f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}",
    }


@contextlib.contextmanager
def granian_server(
    environment: Mapping[str, str] | None = None, *, workers: int = 1, threads: int = 4, **variables: str
) -> Iterator[Server]:
    """The web server as `up` starts it, ended afterwards. `environment` defaults to `database_environment()`."""
    env = {**(environment or database_environment()), **servers.process_environment("web", HOST), **variables}
    with reserved_port() as port:
        command = servers.web_command(host=HOST, port=port, workers=workers, threads=threads)
        with _running(command, env, port) as server:
            yield server


@contextlib.contextmanager
def live_server(**variables: str) -> Iterator[Server]:
    """The live port as `up` starts it, on the test database."""
    env = {**database_environment(), **servers.process_environment("live", HOST), **variables}
    with reserved_port() as port, _running(servers.live_command(host=HOST, port=port), env, port) as server:
        yield server


@contextlib.contextmanager
def worker_process(environment: Mapping[str, str] | None = None, **variables: str) -> Iterator[Worker]:
    """A worker as `up` starts it, killed afterwards; it takes jobs from the start."""
    env = {**(environment or database_environment()), **servers.process_environment("worker", HOST), **variables}
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "manage.py", "worker"]
        process = subprocess.Popen(command, env=env, cwd=servers.BASE_DIR, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield Worker(process, output)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _running(command: Sequence[str], env: Mapping[str, str], port: int) -> Iterator[Server]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=env, cwd=servers.BASE_DIR, stdout=output, stderr=subprocess.STDOUT)
        server = Server(process, output, port)
        try:
            _wait_until_it_answers(server)
            yield server
        finally:
            _end(process)


def _wait_until_it_answers(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"The server ended with {server.process.returncode}:\n{server.log}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, server.port), 5) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if client.recv(16).startswith(b"HTTP/1.1 "):
                return
        time.sleep(0.05)
    raise RuntimeError(f"The server does not answer:\n{server.log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
