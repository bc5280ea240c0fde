"""The whole lab as a user starts it, in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from automation_lab.serving.embedded_postgres import EmbeddedPostgres
from automation_lab.tests.waiting import is_gone

pytestmark = pytest.mark.processes
BASE_DIR = Path(__file__).resolve().parent.parent.parent


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def wait_until(condition: Callable[[], object], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


class Lab:
    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.port, self.live_port = free_ports(2)
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "automation_lab.settings", **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(BASE_DIR / "manage.py"), *arguments]

    def up(self, *arguments: str) -> subprocess.Popen[bytes]:
        ports = ("--port", str(self.port), "--live-port", str(self.live_port), "--data-dir", str(self.data_dir))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("up", *ports, *arguments), env=self.environment, stdout=log, stderr=log, cwd="/"
            )
        wait_until(lambda: self.is_ready() or self.process.poll() is not None)
        return self.process

    def text(self) -> str:
        return self.log.read_text()

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=15) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read()
        except OSError:
            return 0, b""

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def children(self) -> dict[str, psutil.Process]:
        assert self.process
        names = {"wsgi": "web", "asginl": "live", "worker": "worker"}
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ends right now
                words = child.cmdline()
                found |= {name: child for word, name in names.items() if word in words}
        return found

    def processes(self) -> list[psutil.Process]:
        assert self.process
        parent = psutil.Process(self.process.pid)
        pid = EmbeddedPostgres(self.data_dir).postmaster_pid()
        database = [psutil.Process(pid)] if pid else []
        return [parent, *parent.children(recursive=True), *database, *(process.parent() for process in database)]

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def make_lab() -> Iterator[Callable[..., Lab]]:
    labs: list[Lab] = []
    with tempfile.TemporaryDirectory(prefix="lab test ") as folder:
        Path(folder).chmod(0o711)

        def make(**environment: str) -> Lab:
            labs.append(Lab(Path(folder) / f"data {len(labs)}", **environment))
            return labs[-1]

        yield make
        for lab in labs:
            if lab.process and lab.process.poll() is None:
                lab.stop()
            server = EmbeddedPostgres(lab.data_dir)
            wait_until(lambda: not server.is_running())  # noqa: B023 - called at once


def all_gone(processes: list[psutil.Process]) -> bool:
    return all(is_gone(process) for process in processes)


def post_webhook(lab: Lab) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{lab.port}/v1/webhooks/inbox/hello",
        data=json.dumps({"message": "hello"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.status


def test_the_first_start_shows_credentials_that_work_and_later_ones_do_not(make_lab):
    lab = make_lab()

    lab.up()
    wait_until(lambda: "Send a first webhook" in lab.text())
    first = lab.text()

    assert post_webhook(lab) == 201
    token = re.search(r"API token +(lab_\w+)", first)
    assert token and re.search(r"password +\S{12,}", first)
    request = urllib.request.Request(f"http://127.0.0.1:{lab.port}/v1/webhooks/inbox")
    request.add_header("Authorization", f"Bearer {token[1]}")
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response)["results"][0]["source"] == "hello"
    assert f"curl -X POST http://127.0.0.1:{lab.port}/v1/webhooks/inbox/hello" in first
    assert lab.stop() == 0

    lab.log.unlink()
    lab.up()
    wait_until(lambda: "console" in lab.text())

    assert "password" not in lab.text()
    assert "API token" not in lab.text()
    assert "curl" not in lab.text()


def test_a_stop_leaves_no_process_and_no_database(make_lab):
    lab = make_lab()
    lab.up()
    processes = lab.processes()
    assert len(processes) >= 6

    assert lab.stop() == 0

    wait_until(lambda: all_gone(processes), seconds=10)
    assert not EmbeddedPostgres(lab.data_dir).is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_killed_supervisor_leaves_nothing_and_the_next_start_goes_on(make_lab):
    lab = make_lab()
    lab.up()
    post_webhook(lab)
    processes = lab.processes()
    assert lab.process

    lab.process.kill()
    lab.process.wait()

    wait_until(lambda: all_gone(processes))
    lab.up()
    assert lab.is_ready()


def test_every_part_that_is_killed_comes_back(make_lab):
    lab = make_lab()
    lab.up()
    before = lab.children()

    for name in ("web", "worker"):
        before[name].kill()
        wait_until(lambda name=name: f"{name} was ended by signal 9" in lab.text())
        wait_until(lambda name=name: lab.children().get(name, before[name]) != before[name])
    wait_until(lab.is_ready)

    pid = EmbeddedPostgres(lab.data_dir).postmaster_pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "the database is back" in lab.text())
    wait_until(lab.is_ready)
    assert post_webhook(lab) == 201


def test_a_second_lab_on_the_same_folder_is_refused(make_lab):
    lab = make_lab()
    lab.up()
    ports = [str(port) for port in free_ports(2)]

    second = subprocess.run(
        lab.command("up", "--port", ports[0], "--live-port", ports[1], "--data-dir", str(lab.data_dir)),
        env=lab.environment,
        capture_output=True,
        text=True,
    )

    assert second.returncode == 1
    assert f"A lab runs on {lab.data_dir.resolve()} already at http://127.0.0.1:{lab.port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_two_labs_run_side_by_side(make_lab):
    one, two = make_lab(), make_lab()
    one.up()
    two.up()

    assert (post_webhook(one), post_webhook(two)) == (201, 201)

    assert one.stop() == 0
    assert two.is_ready()


def test_a_server_of_ones_own_is_used_instead(make_lab):
    with tempfile.TemporaryDirectory(prefix="lab-own-") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder))
        server.start()
        lab = make_lab(DATABASE_URL=f"postgresql+asyncpg://postgres@/automation_lab?host={server.socket_dir}")

        lab.up()

        assert post_webhook(lab) == 201
        assert not (lab.data_dir / "postgres").exists()
        assert lab.stop() == 0
        assert server.is_running()
        server.release()


def test_a_database_that_does_not_answer_stops_the_start_with_a_sentence(make_lab):
    lab = make_lab(DATABASE_URL=f"postgresql://lab:hunter2@127.0.0.1:{free_ports(1)[0]}/lab")

    process = lab.up()

    assert process.returncode == 1
    assert "The database of DATABASE_URL does not answer" in lab.text()
    assert "hunter2" not in lab.text()
    assert "Traceback" not in lab.text()


def test_a_command_runs_beside_the_lab_and_without_it(make_lab):
    lab = make_lab(DATA_DIR="")
    lab.environment["DATA_DIR"] = str(lab.data_dir)
    code = "from inbox.models import Webhook; print('rows', Webhook.objects.count())"
    run = lambda *arguments: subprocess.run(  # noqa: E731
        lab.command(*arguments), env=lab.environment, capture_output=True, text=True
    )
    lab.up()
    post_webhook(lab)

    beside = run("shell", "--no-imports", "-c", code)
    assert lab.is_ready()
    lab.stop()
    without = run("shell", "--no-imports", "-c", code)
    checked = run("check", "--database", "default")

    assert "rows 1" in beside.stdout
    assert "rows 1" in without.stdout
    assert "no issues" in checked.stdout
    assert not EmbeddedPostgres(lab.data_dir).is_running()


def test_up_with_demo_starts_a_filled_lab_and_starts_it_again(make_lab):
    lab = make_lab()

    lab.up("--demo")
    assert "workflow runs" in lab.text()
    assert lab.stop() == 0
    lab.log.unlink()
    lab.up("--demo")

    assert lab.is_ready()
    assert "no demo is added" in lab.text()
