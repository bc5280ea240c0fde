"""The lines of several processes on one terminal."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

COLOURS = {"lab": "1", "web": "36", "live": "35", "worker": "33"}
WIDTH = 8
LEVEL = re.compile(r"\[(WARNING|ERROR|CRITICAL)\] ")  # as granian begins its lines


class Output:
    """Whole lines, each marked with the process that wrote it; as JSON, those that are no objects yet become some."""

    def __init__(self, *, as_json: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._as_json = as_json
        self._coloured = self._stream.isatty() and not as_json
        self._rest: dict[str, bytes] = {}

    def feed(self, name: str, chunk: bytes) -> None:
        *lines, self._rest[name] = (self._rest.get(name, b"") + chunk).split(b"\n")
        for line in lines:
            self._line(name, line.decode("utf-8", "replace").rstrip("\r"))

    def say(self, text: str) -> None:
        """A line of the supervisor itself."""
        if self._as_json:
            self._write(_as_object("automation_lab.serving.supervisor", text))
            return
        for line in text.splitlines():
            self._line("lab", line)

    def plain(self, text: str) -> None:
        if self._as_json:
            self.say(text)
        else:
            self._write(text)

    def _line(self, name: str, line: str) -> None:
        if self._as_json:
            self._write(line if line.startswith("{") else _as_object(name, line))
            return
        mark = f"{name:<{WIDTH}}|"
        if self._coloured:
            mark = f"\x1b[{COLOURS.get(name.rstrip('0123456789'), '0')}m{mark}\x1b[0m"
        self._write(f"{mark} {line}")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a closed terminal is no reason to stop
            print(text, file=self._stream, flush=True)


def _as_object(logger: str, text: str) -> str:
    """In the form of `core.correlation.JsonFormatter`, which the programs without Django do not import."""
    level = LEVEL.match(text)
    fields = {
        "ts": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level[1].lower() if level else "info",
        "logger": logger,
        "event": text[level.end() :] if level else text,
        "correlation_id": "",
    }
    return json.dumps(fields, ensure_ascii=False)
