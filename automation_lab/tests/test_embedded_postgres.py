from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from automation_lab.serving.embedded_postgres import DATABASE, USER, EmbeddedPostgres, EmbeddedPostgresError, socket_dir
from automation_lab.tests.waiting import eventually, is_gone

pytestmark = pytest.mark.processes
FAST = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "20"}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not below pytest's own folder, whose mode other sessions of pytest reset: the server's user must pass through."""
    with tempfile.TemporaryDirectory(prefix="lab-test-") as place:
        folder = Path(place) / "a folder, with 'odd' characters"
        folder.mkdir(mode=0o700)
        yield folder


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir, options=FAST)
    yield server
    server.release()


def ask(server: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(host=str(server.socket_dir), user=USER, dbname=DATABASE) as connection:
        row = connection.execute(query).fetchone()
    assert row
    return row[0]


def change(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(host=str(server.socket_dir), user=USER, dbname=DATABASE) as connection:
        connection.execute(statement)


def user_program(server: EmbeddedPostgres, *, after: str) -> subprocess.Popen[bytes]:
    """Another process that uses the database, then does `after`."""
    script = (
        "import sys, time, pathlib; from automation_lab.serving.embedded_postgres import EmbeddedPostgres; "
        f"server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), options={FAST!r}); server.start(); print('up', flush=True); "
    )
    return subprocess.Popen(
        [sys.executable, "-c", script + after, str(server.data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_the_first_start_makes_a_database_in_utf8_that_keeps_its_rows(server):
    assert server.start() is True
    change(server, "CREATE TABLE kept AS SELECT 'ä' AS letter")
    server.release()
    assert not server.is_running()

    server.start()

    assert ask(server, "SELECT upper(letter) FROM kept") == "Ä"
    assert ask(server, "SHOW server_encoding") == "UTF8"


def test_nobody_else_can_read_the_data_or_reach_the_socket(server):
    server.start()

    assert server.data.stat().st_mode & 0o077 == 0
    assert server.socket_dir.stat().st_mode & 0o077 == 0
    assert ask(server, "SHOW listen_addresses") == ""


def test_the_second_user_gets_the_running_server(server, data_dir):
    server.start()
    pid = server.postmaster_pid()
    other = EmbeddedPostgres(data_dir, options=FAST)

    assert other.start() is False
    assert other.postmaster_pid() == pid
    other.release()
    assert server.is_running()


def test_the_server_stays_for_the_others_when_the_one_that_started_it_leaves(server):
    program = user_program(server, after="sys.stdin.read(); server.release()")
    assert program.stdout
    program.stdout.readline()
    server.start()
    pid = server.postmaster_pid()

    program.communicate(timeout=30)

    assert program.returncode == 0
    assert ask(server, "SELECT 1") == 1
    assert server.postmaster_pid() == pid


def test_the_server_ends_when_its_only_user_is_killed(server):
    program = user_program(server, after="time.sleep(60)")
    assert program.stdout
    program.stdout.readline()
    assert server.is_running()

    program.kill()
    program.communicate()

    eventually(lambda: not server.is_running())


def test_processes_that_start_together_share_one_server(server):
    programs = [
        user_program(server, after="print(server.postmaster_pid(), flush=True); sys.stdin.read()") for _ in range(3)
    ]

    assert all(program.stdout for program in programs)
    lines = [[program.stdout.readline() for _ in range(2)] for program in programs]  # each stays until all are there
    for program in programs:
        program.communicate(timeout=30)

    assert len({pid for _, pid in lines}) == 1


@pytest.mark.parametrize("victim", ["postmaster", "watcher"])
def test_a_killed_server_is_started_again_with_its_rows(server, victim):
    server.start()
    change(server, "CREATE TABLE kept AS SELECT 7 AS number")
    pid = server.postmaster_pid()
    assert pid
    postmaster = psutil.Process(pid)
    watcher = postmaster.parent()
    assert watcher and "postgres_watcher.py" in " ".join(watcher.cmdline())

    (postmaster if victim == "postmaster" else watcher).kill()
    eventually(lambda: not server.is_running())

    assert server.start() is True
    assert ask(server, "SELECT number FROM kept") == 7
    assert is_gone(postmaster)


@pytest.mark.parametrize("content", ["", "garbage\n", f"{os.getpid()}\n/elsewhere\n1\n5432\n/tmp\n\n 1 1\nready\n"])
def test_a_pid_file_left_behind_does_not_stop_the_start(server, content):
    server.start()
    server.release()
    (server.data / "postmaster.pid").write_text(content)
    server.socket_dir.mkdir(mode=0o700)
    (server.socket_dir / ".s.PGSQL.5432").touch()

    assert server.start() is True
    assert ask(server, "SELECT 1") == 1


def test_a_first_start_that_was_interrupted_is_begun_anew(server, data_dir):
    (data_dir / "postgres.new").mkdir()
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")

    server.start()

    assert ask(server, "SELECT 1") == 1
    assert not (data_dir / "postgres.new").exists()


def test_data_of_another_version_is_refused(server):
    server.start()
    server.release()
    (server.data / "PG_VERSION").write_text("16\n")

    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 16"):
        server.start()


def test_a_folder_with_other_files_is_refused(server):
    server.data.mkdir()
    (server.data / "notes.txt").write_text("mine")

    with pytest.raises(EmbeddedPostgresError, match="no PostgreSQL database"):
        server.start()

    assert (server.data / "notes.txt").read_text() == "mine"


def test_a_start_that_fails_shows_the_end_of_the_log(data_dir):
    server = EmbeddedPostgres(data_dir, options={**FAST, "shared_buffers": "nonsense"})

    with pytest.raises(EmbeddedPostgresError, match="shared_buffers"):
        server.start()

    server.release()


def test_a_long_log_is_moved_aside_at_the_start(server):
    server.log.write_bytes(b"x" * 10_000_001)

    server.start()

    assert server.log.stat().st_size < 10_000
    assert server.log.with_suffix(".log.1").exists()


@pytest.mark.parametrize("name", ["var", "with space"])
def test_a_short_path_has_its_socket_beside_the_data(name):
    assert socket_dir(Path("/srv") / name) == Path("/srv") / name / "postgres-socket"


@pytest.mark.parametrize("name", ["x" * 120, "ä" * 60, "a,b", 'a"b'])
def test_a_path_that_no_socket_address_can_hold_has_it_elsewhere(name):
    place = socket_dir(Path("/srv") / name)

    assert len(os.fsencode(place)) < 60
    assert place == socket_dir(Path("/srv") / name)
    assert place != socket_dir(Path("/srv") / f"{name}y")


def test_a_socket_folder_of_somebody_else_is_not_used(data_dir):
    server = EmbeddedPostgres(data_dir / ("x" * 100), options=FAST)
    server.socket_dir.symlink_to(data_dir)
    try:
        with pytest.raises(EmbeddedPostgresError, match="somebody else"):
            server.start()
    finally:
        server.socket_dir.unlink()
        server.release()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(server):
    server.start()
    pid = server.postmaster_pid()
    assert pid

    assert os.getpgid(pid) != os.getpgrp()
    os.kill(psutil.Process(pid).ppid(), signal.SIGINT)

    assert ask(server, "SELECT 1") == 1
