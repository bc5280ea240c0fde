"""The one thread per process that stores the log: requests only append to its queue and never wait for it."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TypedDict

import psycopg
from django.conf import settings
from django.db import connections

from apilogs import spool, storage
from apilogs.backlog import Backlog, Waiting
from apilogs.rows import Entry, Row, build_bodies, build_head
from automation_lab.core.redaction import redact_text

logger = logging.getLogger(__name__)

FLUSH_ROWS = 500
FLUSH_SECONDS = 0.5
ROWS_IN_ONE_GO = 5
CHUNK_ROWS = 2000  # of one COPY, when rows have piled up
MAX_ROWS = 20_000
MAX_BYTES = 64 * 1024 * 1024
EXIT_SECONDS = 5.0
EXIT_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
FAULTY = "fault in the log itself"


class Counters(TypedDict):
    """Of this process since its start: `held` rows wait, the others were stored or dropped."""

    held: int
    stored: int
    dropped: int


@dataclass(frozen=True)
class Batch:
    taken: list[Waiting]
    drops: dict[str, int]
    segment: spool.Segment | None


class LogWriter:
    """Queue, thread and connection. Requests call `put`; everything from `_run` on belongs to the writer's own thread."""

    def __init__(self, *, spool_directory: Path | None, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self._backlog = Backlog(max_rows=max_rows, max_bytes=max_bytes)
        self._wake = threading.Condition()  # guards the backlog, the spool and the counters
        self._stop_at: float | None = None
        self._stored = self._dropped = 0
        self._connection: psycopg.Connection | None = None
        self._spool: spool.Spool | None = None
        self._spool_directory = spool_directory
        self._abandoned = spool_directory  # to be looked through for what killed processes left
        self._thread = threading.Thread(target=self._run, name="api-log-writer", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        head = build_head(entry, str(uuid.uuid4())) if self._spool else None
        with self._wake:
            if not self._backlog.add(Waiting(entry, head)):
                return
            if head is not None:
                self._append_to_spool(head)
            if len(self._backlog) == 1 or len(self._backlog) >= FLUSH_ROWS:
                self._wake.notify()

    def _append_to_spool(self, head: Row) -> None:
        try:
            if self._spool:
                self._spool.append(head)
        except OSError:  # a full disk costs the safety net, not the log
            logger.exception("The API log spool cannot be written; it is off until this process restarts.")
            self._spool = None

    def counters(self) -> Counters:
        with self._wake:
            dropped = self._dropped + self._backlog.drops.total()
            return {"held": self._backlog.held, "stored": self._stored, "dropped": dropped}

    def close(self, timeout: float = EXIT_SECONDS) -> None:
        """Store what waits and end the thread, or give up after `timeout` seconds and log how many rows are left."""
        with self._wake:
            self._stop_at = time.monotonic() + timeout
            self._wake.notify()
        self._thread.join(timeout)
        if left := self._backlog.held:
            where = "the next start loads them from the spool" if self._spool else "they are lost"
            logger.error("%d API log rows could not be stored before the exit; %s.", left, where)

    # --- the writer's own thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._open_spool()
            self._load_abandoned()
            while batch := self._next_batch():
                if not self._finish(batch):
                    break
                self._load_abandoned()
        finally:
            self._disconnect()

    def _open_spool(self) -> None:
        if not self._spool_directory:
            return
        redact_text("")  # asks for the live secrets, so that no row reaches the disk before they are known
        connections.close_all()
        try:
            opened = spool.Spool(self._spool_directory)
        except OSError:
            logger.exception("The API log works without its spool: the folder cannot be made.")
            return
        with self._wake:
            self._spool = opened
            self._backlog.replace(self._spooled)

    def _spooled(self, waiting: Waiting) -> Waiting:
        """A row that came before the spool was open."""
        try:
            head = build_head(waiting.entry, str(uuid.uuid4()))
        except Exception:
            logger.exception("An API log row could not be built.")
            return waiting
        self._append_to_spool(head)
        return waiting._replace(head=head)

    def _load_abandoned(self) -> None:
        if not self._abandoned:
            return
        try:
            lines = spool.load_abandoned(self._abandoned, self._merge)
            self._abandoned = None
        except (psycopg.Error, OSError):  # tried again after the next batch
            logger.exception("What a killed process left in the API log spool could not be loaded yet.")
            self._disconnect()
        else:
            if lines:
                logger.info("%d API log rows of a killed process were loaded from the spool.", lines)

    def _merge(self, rows: list[Row], drops: dict[str, int]) -> None:
        storage.store_each(self._connected(), rows, drops, storage.merge)

    def _next_batch(self) -> Batch | None:
        """Everything that waits, once that is much or has waited long enough; None when there is nothing more to come."""
        with self._wake:
            self._wake.wait_for(lambda: len(self._backlog) or self._backlog.drops or self._stop_at is not None)
            self._wake.wait_for(
                lambda: len(self._backlog) >= FLUSH_ROWS or self._stop_at is not None, timeout=FLUSH_SECONDS
            )
            if not len(self._backlog) and not self._backlog.drops:
                return None
            segment = self._spool.rotate() if self._spool else None
            drops = self._backlog.take_drops()
            self._dropped += sum(drops.values())
            return Batch(self._backlog.take(), drops, segment)

    def _finish(self, batch: Batch) -> bool:
        """Store `batch`, however long the database is away; False when the time to exit came first."""
        try:
            rows, drops = self._build(batch)
            refused = self._store(rows, drops)
            if refused is None:
                if batch.segment:
                    batch.segment.close()
                return False
        except Exception:
            logger.exception("A fault in the API log: %d rows are lost.", len(batch.taken))
            self._settle(batch, stored=0)
        else:
            self._settle(batch, stored=len(rows) - refused)
        if batch.segment:
            batch.segment.remove()
        return True

    def _settle(self, batch: Batch, *, stored: int) -> None:
        with self._wake:
            self._backlog.done(batch.taken)
            self._stored += stored
            self._dropped += len(batch.taken) - stored

    def _build(self, batch: Batch) -> tuple[list[Row], dict[str, int]]:
        redact_text("")  # asks for the live secrets when those known have grown old
        try:
            rows = self._rows(batch.taken)
        finally:
            connections.close_all()
        unbuilt = len(batch.taken) - len(rows)
        return rows, {**batch.drops, FAULTY: unbuilt} if unbuilt else batch.drops

    def _rows(self, taken: list[Waiting]) -> list[Row]:
        """Lets requests run between rows, who would each wait for the interpreter's lock, unless it has to catch up."""
        rows = []
        polite = len(taken) < 2 * FLUSH_ROWS
        for number, waiting in enumerate(taken):
            if row := _row(waiting):
                rows.append(row)
            if polite and number % ROWS_IN_ONE_GO == 0:
                time.sleep(0)
        return rows

    def _store(self, rows: list[Row], drops: dict[str, int]) -> int | None:
        """In pieces, so that a long outage ends in several short transactions; a piece is repeated until it is stored.

        The number of rows that the database refused for good; None when the time to exit came first.
        """
        start = refused = 0
        pause = 0.0
        while start < len(rows) or drops:
            try:
                piece = rows[start : start + CHUNK_ROWS]
                refused += storage.store_each(self._connected(), piece, drops, storage.store)
            except psycopg.Error as exc:
                self._disconnect()
                logger.warning("API log: the database does not take rows now (%s); they wait.", type(exc).__name__)
                if not self._may_go_on_after(pause):
                    return None
                pause = min(max(pause * 2, 0.5), LONGEST_PAUSE_SECONDS)
            else:
                start, drops, pause = start + CHUNK_ROWS, {}, 0.0
        return refused

    def _may_go_on_after(self, seconds: float) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._stop_at is not None, timeout=seconds)
        if self._stop_at is None:
            return True
        time.sleep(EXIT_PAUSE_SECONDS)
        return time.monotonic() < self._stop_at

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = storage.connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


def _row(waiting: Waiting) -> Row | None:
    try:
        return (waiting.head or build_head(waiting.entry)) + build_bodies(waiting.entry)
    except Exception:
        logger.exception("An API log row could not be built.")
        return None


# --- the writer of this process ---------------------------------------------------------------------------------------

_writer: LogWriter | None = None
_starting = threading.Lock()


def record(entry: Entry) -> None:
    """Hand `entry` over to be stored soon. The first one starts the thread, in the process that serves and not before."""
    (_writer or _start()).put(entry)


def _start() -> LogWriter:
    global _writer
    with _starting:
        if _writer is None:
            folder = settings.API_LOG_SPOOL
            _writer = LogWriter(spool_directory=Path(folder) if folder else None)
            # Granian's workers end without atexit; this is the one hook that every kind of normal exit runs.
            Finalize(None, shutdown, exitpriority=10)
        return _writer


def shutdown(timeout: float = EXIT_SECONDS) -> None:
    """Store what waits, in at most `timeout` seconds."""
    global _writer
    writer, _writer = _writer, None
    if writer:
        writer.close(timeout)


def counters() -> Counters:
    """Of this process, since its writer started."""
    return _writer.counters() if _writer else {"held": 0, "stored": 0, "dropped": 0}


def _forget() -> None:
    """A forked child has neither the thread nor a sound lock of its parent, and must not touch its connection."""
    global _writer, _starting
    _writer = None
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_forget)
