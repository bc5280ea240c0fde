"""The parent process of the embedded PostgreSQL server; started by `embedded_postgres`, run as a script, standard library only.

It ends the server when the last user of the database is gone, however that user ended: users hold a shared lock that the
kernel releases. It holds the server lock, inherited from its starter, for as long as the server may be running.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> int:
    options = _arguments()
    if os.fork():
        return 0  # the starter waits for this, and has no child left to reap later
    # Ctrl-C in the terminal is for the users of the database; the server goes when they have gone.
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    server = _start(options)
    # pg_ctl and kill by pid still work: the server ends, `wait` returns.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(server.pid, signal.SIGINT))
    threading.Thread(target=_stop_when_unused, args=(options.users_lock, server.pid), daemon=True).start()
    code = server.wait()
    with contextlib.suppress(OSError):
        os.rmdir(options.socket_dir)
    if options.remove:
        shutil.rmtree(options.remove, ignore_errors=True)
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users-lock", required=True)
    parser.add_argument("--user", default="", help="system user of the server, when started by root")
    parser.add_argument("--socket-dir", required=True, help="removed at the end, when empty")
    parser.add_argument("--remove", default="", help="folder to delete at the end")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _start(options: argparse.Namespace) -> subprocess.Popen[bytes]:
    identity: dict[str, Any] = {}
    if options.user:
        entry = pwd.getpwnam(options.user)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return subprocess.Popen(options.command, cwd="/", preexec_fn=_prepare, **identity)


def _prepare() -> None:
    for inherited in (signal.SIGINT, signal.SIGHUP):
        signal.signal(inherited, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)  # SIGINT is PostgreSQL's fast shutdown


def _stop_when_unused(users_lock: str, server: int) -> None:
    descriptor = os.open(users_lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # kept until the process ends: who comes now waits, then starts anew
    os.kill(server, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
