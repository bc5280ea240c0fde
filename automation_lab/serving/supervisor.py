"""Keeps the processes of `up` running: one terminal, restarts with back-off, and an end that leaves nothing behind.

`manage.py up` prepares the installation and then becomes this program, which imports no Django and stays small.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from automation_lab.serving import servers
from automation_lab.serving.console_output import Output
from automation_lab.serving.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from automation_lab.serving.process import end_with_parent

POLL_SECONDS = 0.5
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STABLE_SECONDS = 30.0
"""A process that lived so long starts anew without delay the next time."""
STOP_MARGIN_SECONDS = 10
READY_TEXT_VARIABLE = "LAB_READY_TEXT"
"""What to print once the web server answers; not an argument, since it has many lines."""


class Backoff:
    """How long to wait before the next start of something that ended."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY_SECONDS

    def after(self, lifetime_seconds: float) -> float:
        if lifetime_seconds >= STABLE_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY_SECONDS)
        return delay


class Child:
    """One supervised process and its output."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at = 0.0
        self._command = command
        self._environment = environment
        self._started_at = 0.0
        self._backoff = Backoff()

    def start(self) -> None:
        """From the main thread only: the kernel's parent-death signal follows the thread that forked."""
        self._started_at = time.monotonic()
        self.process = subprocess.Popen(
            self._command,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the others in order
        )

    def ended(self) -> str:
        """Why the process is gone and when it starts again; "" while it runs."""
        if self.process is None or self.process.poll() is None:
            return ""
        code, self.process = self.process.returncode, None
        delay = self._backoff.after(time.monotonic() - self._started_at)
        self.start_at = time.monotonic() + delay
        reason = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {reason}; it starts again in {delay:g} s"

    def signal(self, number: int) -> None:
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number) if number == signal.SIGKILL else self.process.send_signal(number)


class DatabaseKeeper:
    """Starts the embedded server again when it is gone; in a thread, since recovery may take a while."""

    def __init__(self, server: EmbeddedPostgres, say: Callable[[str], None]) -> None:
        self._server = server
        self._say = say
        self._backoff = Backoff()
        self._thread: threading.Thread | None = None
        self._start_at = 0.0
        self._started_at = time.monotonic()

    def check(self) -> None:
        if (self._thread and self._thread.is_alive()) or time.monotonic() < self._start_at or self._server.is_running():
            return
        delay = self._backoff.after(time.monotonic() - self._started_at)
        self._start_at = time.monotonic() + delay
        self._say("the database ended; starting it again")
        self._thread = threading.Thread(target=self._start, daemon=True)
        self._thread.start()

    def _start(self) -> None:
        try:
            self._server.start()
        except EmbeddedPostgresError as exc:
            self._say(str(exc))
        else:
            self._say("the database is back")
        self._started_at = time.monotonic()


class Supervisor:
    def __init__(
        self,
        children: Sequence[Child],
        output: Output,
        *,
        grace_seconds: float,
        database: EmbeddedPostgres | None = None,
        ready_port: tuple[str, int] = ("", 0),
        ready_text: str = "",
    ) -> None:
        self._children = children
        self._output = output
        self._grace = grace_seconds
        self._database = database
        self._keeper = DatabaseKeeper(database, output.say) if database else None
        self._ready_port = ready_port
        self._ready_text = ready_text
        self._selector = selectors.DefaultSelector()
        self._stops = 0

    def run(self) -> int:
        self._catch_signals()
        while not self._stops:
            self._look_after_children()
            self._announce()
            self._read_output(POLL_SECONDS)
        self._stop()
        return 0

    def _catch_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._wakeup = (reader, writer)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._count_stop)

    def _count_stop(self, *_: object) -> None:
        self._stops += 1

    def _look_after_children(self) -> None:
        if self._keeper:
            self._keeper.check()
        for child in self._children:
            if reason := child.ended():
                self._output.say(reason)
            if child.process is None and time.monotonic() >= child.start_at:
                child.start()
                self._watch(child)

    def _watch(self, child: Child) -> None:
        assert child.process and child.process.stdout  # noqa: S101 - just started with a pipe
        os.set_blocking(child.process.stdout.fileno(), False)
        self._selector.register(child.process.stdout, selectors.EVENT_READ, (child.name, child.process.stdout))

    def _announce(self) -> None:
        if self._ready_text and _answers(*self._ready_port):
            self._output.plain(self._ready_text)
            self._ready_text = ""

    def _read_output(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._wakeup[0].recv(1024)
                continue
            name, pipe = key.data
            if chunk := pipe.read1(65_536):
                self._output.feed(name, chunk)
            else:
                self._selector.unregister(pipe)
                pipe.close()

    def _stop(self) -> None:
        self._output.say("stopping; once more Ctrl-C ends everything at once")
        for child in self._children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace + STOP_MARGIN_SECONDS
        while self._running() and time.monotonic() < deadline and self._stops < 2:
            self._read_output(0.1)
        for child in self._running():
            self._output.say(f"{child.name} did not stop in time and is killed")
            child.signal(signal.SIGKILL)
        self._read_output(0)
        if self._database:
            self._database.release()
        self._output.say("stopped")

    def _running(self) -> list[Child]:
        return [child for child in self._children if child.process and child.process.poll() is None]


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def main() -> int:
    options = _arguments()
    output = Output(as_json=options.log_format == "json")
    database = EmbeddedPostgres(options.data_dir) if options.embedded else None
    if database:
        database.start()
        os.close(options.use)  # what `up` held for us until now
    try:
        return Supervisor(
            _children(options),
            output,
            grace_seconds=options.grace,
            database=database,
            ready_port=(options.reach, options.port),
            ready_text=os.environ.pop(READY_TEXT_VARIABLE, ""),
        ).run()
    finally:
        if database:
            database.release()


def _children(options: argparse.Namespace) -> list[Child]:
    def child(name: str, role: str, command: list[str]) -> Child:
        return Child(name, command, servers.process_environment(role, options.host))

    web = servers.web_command(
        host=options.host, port=options.port, workers=options.web_workers, threads=options.web_threads
    )
    names = ["worker"] if options.workers == 1 else [f"worker{number}" for number in range(1, options.workers + 1)]
    return [
        child("web", "web", web),
        child("live", "live", servers.live_command(host=options.host, port=options.live_port)),
        *(child(name, "worker", servers.worker_command()) for name in names),
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("host", "reach", "log-format"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "live-port", "workers", "web-workers", "web-threads", "grace"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--use", type=int, default=-1, help="descriptor of the database use that `up` took")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
