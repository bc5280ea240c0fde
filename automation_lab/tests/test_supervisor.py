from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from automation_lab.serving.console_output import Output
from automation_lab.serving.supervisor import LONGEST_DELAY_SECONDS, STABLE_SECONDS, Backoff

BASE_DIR = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import sys
from automation_lab.serving.console_output import Output
from automation_lab.serving.supervisor import Child, Supervisor
children = [Child(name, [sys.executable, "-u", "-c", code], {"MARK": name}) for name, code in %s.items()]
sys.exit(Supervisor(children, Output(), grace_seconds=%s).run())
"""
SLEEPER = "import os, time; print(os.environ['MARK'], os.getpid()); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(600)"


class Running:
    """A supervisor in a process of its own, and its lines."""

    def __init__(self, children: dict[str, str], grace_seconds: float) -> None:
        program = textwrap.dedent(PROGRAM) % (repr(children), grace_seconds)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=BASE_DIR, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def line_with(self, text: str) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r}")

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.finish()

    def finish(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(children: dict[str, str], grace_seconds: float = 5) -> Running:
        started.append(Running(children, grace_seconds))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.communicate()


def pid_of(line: str) -> int:
    return int(line.split()[-1])


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.processes
def test_lines_carry_the_name_of_their_process(start):
    lab = start({"web": SLEEPER})

    assert lab.line_with("| web ").startswith("web     | web ")


@pytest.mark.processes
def test_a_killed_child_is_started_again_and_said_so(start):
    lab = start({"web": SLEEPER})
    first = pid_of(lab.line_with("| web "))

    os.kill(first, signal.SIGKILL)

    assert "web was ended by signal 9; it starts again in 0.5 s" in lab.line_with("lab ")
    assert pid_of(lab.line_with("| web ")) != first


@pytest.mark.processes
def test_a_child_that_keeps_failing_is_started_less_and_less_often(start):
    lab = start({"web": "raise SystemExit(3)"})

    delays = [lab.line_with("exit code 3").split(" in ")[1].strip() for _ in range(3)]

    assert delays == ["0.5 s", "1 s", "2 s"]


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_ends_the_children_and_returns_success(start, number):
    lab = start({"web": SLEEPER, "worker": SLEEPER})
    pids = [pid_of(lab.line_with("| w")), pid_of(lab.line_with("| w"))]

    lab.process.send_signal(number)
    code, output = lab.finish()

    assert code == 0
    assert output.splitlines()[-1].endswith("stopped")
    assert all(is_gone(pid) for pid in pids)


@pytest.mark.processes
def test_a_child_that_does_not_stop_is_killed_after_the_grace(start):
    lab = start({"worker": DEAF}, grace_seconds=-9)
    lab.line_with("deaf")

    code, output = lab.stop()

    assert code == 0
    assert "worker did not stop in time and is killed" in output


@pytest.mark.processes
def test_a_second_ctrl_c_does_not_wait_for_the_grace(start):
    lab = start({"worker": DEAF}, grace_seconds=600)
    lab.line_with("deaf")

    lab.process.send_signal(signal.SIGINT)
    lab.line_with("stopping")
    lab.process.send_signal(signal.SIGINT)

    assert lab.finish()[0] == 0


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_the_children_of_a_killed_supervisor_end(start):
    lab = start({"web": SLEEPER})
    child = pid_of(lab.line_with("| web "))

    lab.process.kill()

    wait_until(lambda: is_gone(child))


@pytest.mark.processes
def test_the_last_lines_of_a_stopping_child_are_shown(start):
    farewell = "import signal, sys, time\nsignal.signal(15, lambda *_: (print('bye'), sys.exit(0)))\nprint('up')\ntime.sleep(600)"
    lab = start({"worker": farewell})
    lab.line_with("up")

    assert "bye" in lab.stop()[1]


def test_delays_double_up_to_a_limit_and_start_over_after_a_long_life():
    backoff = Backoff()

    delays = [backoff.after(1) for _ in range(10)]

    assert delays[:3] == [0.5, 1, 2]
    assert delays[-1] == LONGEST_DELAY_SECONDS
    assert backoff.after(STABLE_SECONDS) == 0.5


def test_a_line_that_comes_in_pieces_is_printed_once_and_whole():
    stream = io.StringIO()
    output = Output(stream=stream)

    for chunk in (b"one\ntw", b"o\n", "hé".encode()[:2], "hé".encode()[2:] + b"\n"):
        output.feed("web", chunk)

    assert stream.getvalue().splitlines() == ["web     | one", "web     | two", "web     | hé"]


def test_json_lines_of_the_processes_stay_as_they_are():
    stream = io.StringIO()
    output = Output(as_json=True, stream=stream)

    output.feed("web", b'{"message": "hello"}\n')
    output.say("stopping")

    first, second = stream.getvalue().splitlines()
    assert first == '{"message": "hello"}'
    assert json.loads(second)["event"] == "stopping"


def test_other_lines_of_the_processes_become_objects_of_the_same_form():
    stream = io.StringIO()
    output = Output(as_json=True, stream=stream)

    output.feed("web", b"[ERROR] Unexpected exit from worker-1\n[1, 2]\n")

    error, other = map(json.loads, stream.getvalue().splitlines())
    assert (error["level"], error["logger"], error["event"]) == ("error", "web", "Unexpected exit from worker-1")
    assert (other["level"], other["event"]) == ("info", "[1, 2]")
    assert error.keys() >= {"ts", "correlation_id"}


def test_a_closed_terminal_is_no_error():
    stream = open(os.devnull)  # noqa: SIM115 - not writable, as a terminal that went away

    Output(stream=stream).say("hello")

    stream.close()
