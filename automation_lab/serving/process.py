"""Ties between processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded here, since between fork and exec it might meet a lock that another thread held


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Let the kernel end this process when its parent dies, by kill -9 too. Linux only; elsewhere such orphans stay."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, number)


def end_with_server() -> None:
    """For the modules that granian loads in its worker processes; not where tests or commands import them."""
    if os.environ.get("LAB_PROCESS_ROLE") in ("web", "live"):
        end_with_parent()


def become(command: Sequence[str], environment: Mapping[str, str], *, folder: Path) -> NoReturn:
    """Replace this process by `command`, with `environment` on top of its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(folder)
    os.execve(command[0], [*command], {**os.environ, **environment})  # noqa: S606 - an argv list of our own
