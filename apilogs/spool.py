"""Rows on disk until the database has them, so that a killed process loses only the requests in flight.

A segment is a file of rows, one JSON list a line, locked by the process that writes it. Whoever gets the lock of a
segment found lying about loads it: its writer is gone. A crash between commit and deletion loads a segment twice, which
the key of each row makes harmless. Rows are redacted before they come here, and are without bodies. Written to the
operating system, not flushed to the disk: this guards against the death of a process, not of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import orjson

from apilogs.rows import BODY_COLUMNS, COLUMNS, Row

SUFFIX = ".segment"
LOAD_ROWS = 1000
UNREADABLE = "unreadable line in the spool"

Store = Callable[[list[Row], dict[str, int]], None]


class Segment:
    """One file, open and locked as long as this object lives."""

    def __init__(self, directory: Path) -> None:
        name = f"{os.getpid()}-{uuid.uuid4().hex}"
        draft = directory / f".{name}"
        self.path = directory / f"{name}{SUFFIX}"
        self._file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        draft.rename(self.path)  # under its own name only when locked: nobody can take it for an abandoned one

    def append(self, row: Row) -> None:
        os.write(self._file, orjson.dumps(row) + b"\n")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        os.close(self._file)


class Spool:
    """The segments of one process. Not locked: the writer holds its lock around every call."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._segment: Segment | None = None

    def append(self, row: Row) -> None:
        if self._segment is None:
            self._segment = Segment(self._directory)
        self._segment.append(row)

    def rotate(self) -> Segment | None:
        """The segment written so far, to be removed once its rows are stored; the next row starts another."""
        segment, self._segment = self._segment, None
        return segment


def has_segments(directory: Path) -> bool:
    return any(directory.glob(f"*{SUFFIX}"))


def load_abandoned(directory: Path, store: Store) -> int:
    """Store the rows of every segment whose process is gone; the number of lines read."""
    if not directory.is_dir():
        return 0
    return sum(_load(path, store) for path in sorted(directory.glob(f"*{SUFFIX}")))


def _load(path: Path, store: Store) -> int:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            return 0  # loaded by somebody else meanwhile, or its writer lives
        if os.fstat(file.fileno()).st_nlink == 0:
            return 0  # opened before, locked after somebody else removed it
        lines = 0
        while chunk := list(islice(file, LOAD_ROWS)):
            rows = list(_readable(chunk))
            store(rows, {UNREADABLE: len(chunk) - len(rows)} if len(rows) < len(chunk) else {})
            lines += len(chunk)
        path.unlink()
        return lines


def _readable(lines: list[bytes]) -> Iterator[Row]:
    """The rows that are whole: the last line may have been cut off by the kill."""
    for line in lines:
        with contextlib.suppress(orjson.JSONDecodeError):
            row = orjson.loads(line)
            if isinstance(row, list) and len(row) == len(COLUMNS) - BODY_COLUMNS:
                yield (*row, None, None)
