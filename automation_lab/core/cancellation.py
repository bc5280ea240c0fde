"""A request to stop that reaches running work from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Cancellation:
    """Cancelled once, for one reason; callbacks run in the thread that cancels and must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        return self._reason is not None

    @property
    def reason(self) -> str:
        """Why, or an empty string while nothing was cancelled."""
        return self._reason or ""

    def cancel(self, reason: str) -> None:
        """Stop the work; only the first call counts."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            callbacks, self._callbacks = self._callbacks, []
        # Outside the lock: a callback may remove itself or ask for `cancelled`.
        for callback in callbacks:
            callback()

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` when cancelled: at once if that has happened already."""
        with self._lock:
            if self._reason is None:
                self._callbacks.append(callback)
                return
        callback()

    def remove_callback(self, callback: Callable[[], None]) -> None:
        """Forget `callback`; nothing happens if it is unknown or has run."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
