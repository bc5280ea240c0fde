"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")


def eventually(check: Callable[[], T | None], *, seconds: float = 30) -> T:
    """What `check` returns as soon as it is true; fails after `seconds`, which is for machines that do much else."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return found


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended; it may do so at any moment of the look, and stay a zombie where nobody reaps it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
