"""Waiting that ends when the process is told to stop, so that a server need not outwait its long requests.

Python writes a byte to the wakeup descriptor for every signal that has a handler, whoever has set that handler and will
set another one. The byte is never read: everybody who waits is to see it, then and later.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time

_arrived: int | None = None


def watch_signals() -> None:
    """Once, in the main thread of a server process."""
    global _arrived
    if _arrived is not None or threading.current_thread() is not threading.main_thread():
        return
    _arrived, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)


def pause(seconds: float) -> None:
    """Sleep, but not beyond a signal."""
    if _arrived is None:
        time.sleep(seconds)
    else:
        select.select([_arrived], [], [], seconds)


def is_told() -> bool:
    """Whether a signal has arrived."""
    return _arrived is not None and bool(select.select([_arrived], [], [], 0)[0])
