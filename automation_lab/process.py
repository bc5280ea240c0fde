"""Ties between processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Let the kernel end this process when its parent dies, by kill -9 too. Linux only; elsewhere such orphans stay."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end_with_server() -> None:
    """For the modules that granian loads in its worker processes; not where tests or commands import them."""
    if os.environ.get("LAB_PROCESS_ROLE") in ("web", "live"):
        end_with_parent()
