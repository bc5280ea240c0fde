"""Runs the program of a named command: no shell, a clean environment, a bounded output, and an end in any case."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from automation_lab.core.cancellation import Cancellation
from tasks.commands.declared import Command

CHILD = Path(__file__).with_name("child.py")
PATIENCE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""
LAST_SECONDS = 3.0
BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
CHUNK_BYTES = 65_536


@dataclass(frozen=True)
class Ended:
    """How the program ended. `stopped` is why it was made to: "" (by itself), "timeout" or "cancelled"."""

    exit_code: int | None
    signal: int | None
    error: str
    stopped: str
    stdout: str
    stderr: str
    elapsed_ms: int


def run(command: Command, argv: Sequence[str], *, timeout_seconds: float, cancellation: Cancellation) -> Ended:
    """Run `argv` as `command` says and wait for its end, at most `timeout_seconds` and the patience after it."""
    started = time.monotonic()
    with _folder(command) as folder, contextlib.closing(_Pipe()) as report, contextlib.closing(_Pipe()) as wake:
        process = _start(command, argv, folder, report)
        outputs = [_Output(stream, command.output_limit_bytes) for stream in (process.stdout, process.stderr)]
        cancellation.add_callback(wake.ring)
        try:
            stopped = _wait(report, wake, timeout_seconds)
            if stopped:
                _stop(process, report)
            found = report.read_all()
        finally:
            cancellation.remove_callback(wake.ring)
            _make_sure(process)
        stdout, stderr = (output.text() for output in outputs)
    ended: dict[str, Any] = json.loads(found.splitlines()[0]) if found else {"signal": int(signal.SIGKILL)}
    return Ended(
        exit_code=ended.get("exit_code"),
        signal=ended.get("signal"),
        error=ended.get("error", ""),
        stopped=stopped,
        stdout=stdout,
        stderr=stderr,
        elapsed_ms=round((time.monotonic() - started) * 1000),
    )


@contextlib.contextmanager
def _folder(command: Command) -> Iterator[str]:
    """The command's own folder, or one for this run alone."""
    if command.cwd:
        yield command.cwd
        return
    with tempfile.TemporaryDirectory(prefix="lab-command-", ignore_cleanup_errors=True) as folder:
        yield folder


def _start(command: Command, argv: Sequence[str], folder: str, report: _Pipe) -> subprocess.Popen[bytes]:
    given = {name: os.environ[name] for name in command.env if name in os.environ}
    options = {"parent": os.getpid(), "patience_seconds": PATIENCE_SECONDS, "limits": command.limits}
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(CHILD), str(report.writer), json.dumps(options), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**BASE_ENVIRONMENT, "HOME": folder, **given},
            cwd=folder,
            start_new_session=True,
            pass_fds=[report.writer],
        )
    finally:
        report.close_writer()


def _wait(report: _Pipe, wake: _Pipe, timeout_seconds: float) -> str:
    """Until the report comes, somebody cancels, or the time is up: the reason to stop, if any."""
    with selectors.DefaultSelector() as selector:
        selector.register(report.reader, selectors.EVENT_READ)
        selector.register(wake.reader, selectors.EVENT_READ)
        ready = {key.fd for key, _ in selector.select(max(0.0, timeout_seconds))}
    if report.reader in ready:
        return ""
    return "cancelled" if wake.reader in ready else "timeout"


def _stop(process: subprocess.Popen[bytes], report: _Pipe) -> None:
    process.send_signal(signal.SIGTERM)
    with selectors.DefaultSelector() as selector:
        selector.register(report.reader, selectors.EVENT_READ)
        if not selector.select(PATIENCE_SECONDS + LAST_SECONDS):
            process.kill()  # its child is killed by the kernel then


def _make_sure(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(LAST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._lock = threading.Lock()

    def ring(self) -> None:
        """May be called late, when the number of the descriptor already means another file."""
        with self._lock:
            if self.writer >= 0:
                os.write(self.writer, b"!")

    def read_all(self) -> bytes:
        return b"".join(iter(lambda: os.read(self.reader, CHUNK_BYTES), b""))

    def close_writer(self) -> None:
        with self._lock:
            if self.writer >= 0:
                os.close(self.writer)
                self.writer = -1

    def close(self) -> None:
        self.close_writer()
        os.close(self.reader)


class _Output:
    """Reads a stream to its end in a thread of its own and keeps its beginning and its end."""

    def __init__(self, stream: IO[bytes] | None, limit: int) -> None:
        assert stream is not None  # noqa: S101 - a pipe was asked for
        self._stream = stream
        self._half = max(1, limit // 2)
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = self._left_out = 0
        self._thread = threading.Thread(target=self._read, name="command-output", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            while chunk := self._stream.read1(CHUNK_BYTES):  # type: ignore[attr-defined]  # a BufferedReader
                self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        room = self._half - len(self._head)
        self._head += chunk[: max(0, room)]
        rest = chunk[max(0, room) :]
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
        while self._tail and self._tail_size - len(self._tail[0]) >= self._half:
            gone = len(self._tail.popleft())
            self._tail_size -= gone
            self._left_out += gone

    def text(self) -> str:
        self._thread.join(LAST_SECONDS)
        tail = b"".join(self._tail)
        left_out = self._left_out + max(0, len(tail) - self._half)
        tail = tail[-self._half :]
        mark = f"\n[… {left_out} bytes left out …]\n" if left_out else ""
        return f"{self._head.decode(errors='replace')}{mark}{tail.decode(errors='replace')}"
