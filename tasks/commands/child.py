"""The process between a worker and a named command; a script for a bare Python, standard library only.

It starts the command in a process group of its own, with limits, and outlives it only to see that nothing is left of
it: children that the command has detached are adopted and killed as well. SIGTERM ends the command (SIGTERM, some
seconds, SIGKILL); SIGUSR1, which the kernel sends when the worker dies, kills it at once.

Arguments: the descriptor for the report, the options as JSON, and the command.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL_SECONDS = 0.02
SWEEP_SECONDS = 2.0
LINUX = sys.platform == "linux"


def main() -> None:
    report, options, argv = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    os.set_inheritable(report, False)
    asked: dict[str, float] = {}
    signal.signal(signal.SIGTERM, lambda *_: asked.setdefault("stop", time.monotonic()))
    signal.signal(signal.SIGUSR1, lambda *_: asked.setdefault("kill", time.monotonic()))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != options["parent"]:
        return  # the worker died before the kernel was asked to tell
    child = os.fork()
    if child == 0:
        _become(argv, options["limits"], report)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    ended = _wait(child, asked, options)
    _kill_the_rest()
    with contextlib.suppress(OSError):  # nobody reads it when the worker is dead
        os.write(report, f"{json.dumps(ended)}\n".encode())


def _become(argv: list[str], limits: dict[str, int], report: int) -> None:
    try:
        os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that would be inherited
        for name, limit in limits.items():
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (limit, limit) if hard == resource.RLIM_INFINITY else (min(limit, hard), hard))
        os.execv(argv[0], argv)  # noqa: S606 - an argv list without a shell is the point
    except OSError as error:
        reason = json.dumps({"error": error.strerror or type(error).__name__})
        os.write(report, f"{reason}\n".encode())
    finally:
        os._exit(127)


def _wait(child: int, asked: dict[str, float], options: dict[str, float]) -> dict[str, int]:
    told = False
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return {"exit_code": code} if code >= 0 else {"signal": -code}
        if os.getppid() != options["parent"]:
            asked.setdefault("kill", time.monotonic())
        if "kill" in asked or ("stop" in asked and time.monotonic() > asked["stop"] + options["patience_seconds"]):
            _signal_group(child, signal.SIGKILL)
        elif "stop" in asked and not told:
            _signal_group(child, signal.SIGTERM)
            told = True
        time.sleep(POLL_SECONDS)


def _kill_the_rest() -> None:
    """Whatever the command has left behind is a child of this process now."""
    give_up_at = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < give_up_at:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(POLL_SECONDS)
        except ChildProcessError:
            return


def _children() -> list[int]:
    if not LINUX:
        return []
    found, me = [], str(os.getpid())
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            if file.read().rpartition(")")[2].split()[1] == me:
                found.append(int(name))
    return found


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    main()
