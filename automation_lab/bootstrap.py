"""Installs the packages into `.venv`; run by `lab` with any Python that is new enough, standard library only.

Arguments: the requirement files wanted. A stamp, written last, says which contents of a file are installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"


def main(names: list[str]) -> int:
    if all(_is_installed(name) for name in names) and _runs_in_venv():
        return 0
    try:
        _check_platform()
        _lock()
        _install(names)
    except PermissionError as exc:
        sys.exit(f"{exc.filename or VENV} cannot be written: start as the user who owns {HERE}.")
    except KeyboardInterrupt:
        return 130
    return 0


def _runs_in_venv() -> bool:
    return Path(sys.prefix).resolve() == VENV


def _wanted(name: str) -> str:
    digest = hashlib.sha256()
    for file in (name, "requirements.txt", "constraints.txt"):
        digest.update((HERE / file).read_bytes())
    return digest.hexdigest()


def _stamp(name: str) -> Path:
    return VENV / f".{name}.installed"


def _is_installed(name: str) -> bool:
    try:
        return _stamp(name).read_text() == _wanted(name)
    except FileNotFoundError:
        return False


def _check_platform() -> None:
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(f"Python's venv module is missing: install it (Debian, Ubuntu: apt install python{version}-venv).")
    system, machine = platform.system(), platform.machine().lower()
    glibc = platform.libc_ver()[0] == "glibc"
    if system == "Darwin" or (system == "Linux" and glibc and machine in ("x86_64", "aarch64")):
        return
    where = f"{system} on {machine}" + (", without glibc" if system == "Linux" and not glibc else "")
    sys.exit(
        "The embedded PostgreSQL exists for Linux with glibc (x86_64, aarch64) and for macOS; "
        f"this is {where}. Use the containers instead: docker compose up"
    )


def _lock() -> None:
    """One installation at a time. The lock goes with this process and its pip, which inherits it, however they end."""
    import fcntl

    descriptor = os.open(HERE, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _install(names: list[str]) -> None:
    if not _runs_in_venv() and not _venv_works():
        print("Making .venv ...", file=sys.stderr, flush=True)
        _run(sys.executable, "-m", "venv", "--clear", str(VENV))
    if subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode:
        _run(str(PYTHON), "-m", "ensurepip")
    for name in names:
        if not _is_installed(name):
            print(f"Installing {name} into .venv ...", file=sys.stderr, flush=True)
            _run(
                *(str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
                "-r",
                str(HERE / name),
            )
            _stamp(name).write_text(_wanted(name))


def _venv_works() -> bool:
    """Whether another process made it while this one waited for the lock."""
    check = "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))"
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", check], capture_output=True).returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, close_fds=False)
    if done.returncode:
        print(done.stdout.strip(), file=sys.stderr)
        sys.exit("The packages could not be installed; the lines above say why. Start again when that is solved.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
