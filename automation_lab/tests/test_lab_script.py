"""`lab` and the installation it starts, without downloading anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from automation_lab import bootstrap

BASE_DIR = Path(__file__).resolve().parent.parent.parent
FILES = (
    "lab",
    "manage.py",
    "requirements.txt",
    "requirements-dev.txt",
    "constraints.txt",
    "automation_lab/bootstrap.py",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `lab` needs of a clone, in a folder whose name has a space."""
    folder = tmp_path / "a clone"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(BASE_DIR / name, folder / name)
    return folder


def programs(folder: Path, **scripts: str) -> str:
    """A PATH with `dirname` and the given scripts only."""
    folder.mkdir()
    (folder / "dirname").symlink_to(shutil.which("dirname") or "")
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def run(clone: Path, path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "HOME": str(clone)}
    return subprocess.run([clone / "lab", *arguments], env=environment, cwd="/", capture_output=True, text=True)


def fake_venv(clone: Path, script: str) -> None:
    """A `.venv` with everything installed, whose Python prints or fails as `script` says."""
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").write_text(f'#!/bin/sh\ncase "$*" in -c*|*bootstrap.py*) exit 0;; esac\n{script}\n')
    (clone / ".venv/bin/python").chmod(0o755)


def test_a_machine_without_python_is_told_what_to_install(clone, tmp_path):
    done = run(clone, programs(tmp_path / "bin"), "up")

    assert done.returncode == 1
    assert "needs Python 3.11 to 3.14" in done.stderr
    assert "apt install python3" in done.stderr


def test_a_python_that_is_too_old_is_passed_over(clone, tmp_path):
    done = run(clone, programs(tmp_path / "bin", python3="exit 1"), "up")

    assert "none was found" in done.stderr


def test_a_command_and_its_arguments_reach_the_project(clone, tmp_path):
    fake_venv(clone, "printf '%s|' \"$@\"")

    done = run(clone, programs(tmp_path / "bin"), "shell", "-c", "two words")

    assert done.stdout == f"{clone}/manage.py|shell|-c|two words|"


def test_without_arguments_it_shows_the_help(clone, tmp_path):
    fake_venv(clone, "printf '%s|' \"$@\"")

    assert run(clone, programs(tmp_path / "bin")).stdout.endswith("manage.py|help|")


@pytest.mark.parametrize(
    ("parallel", "serial", "expected"),
    [(0, 0, 0), (1, 0, 1), (0, 1, 1), (5, 0, 0), (0, 5, 0), (5, 5, 5), (1, 5, 1), (5, 1, 1), (3, 1, 3)],
)
def test_both_test_runs_count(clone, tmp_path, parallel, serial, expected):
    fake_venv(clone, f'case "$*" in *"not processes"*) exit {parallel};; *) exit {serial};; esac')

    assert run(clone, programs(tmp_path / "bin"), "test").returncode == expected


def test_arguments_of_the_tests_reach_both_runs(clone, tmp_path):
    fake_venv(clone, "printf '%s|' \"$@\"; echo")

    lines = run(clone, programs(tmp_path / "bin"), "test", "inbox", "-k", "a or b").stdout.splitlines()

    assert lines == ["-m|pytest|-n|2|-m|not processes|inbox|-k|a or b|", "-m|pytest|-m|processes|inbox|-k|a or b|"]


def test_a_changed_list_of_packages_is_installed_again(clone, monkeypatch):
    monkeypatch.setattr(bootstrap, "HERE", clone)
    monkeypatch.setattr(bootstrap, "VENV", clone / ".venv")
    (clone / ".venv").mkdir()
    stamp = clone / ".venv" / ".requirements.txt.installed"

    before = bootstrap._is_installed("requirements.txt")
    stamp.write_text(bootstrap._wanted("requirements.txt"))
    stamped = bootstrap._is_installed("requirements.txt")
    with (clone / "constraints.txt").open("a") as file:
        file.write("idna==3.20\n")

    assert (before, stamped, bootstrap._is_installed("requirements.txt")) == (False, True, False)


def test_a_failed_installation_shows_its_output_and_leaves_no_stamp(clone, tmp_path):
    (clone / "requirements.txt").write_text("./no-such-package\n")
    (clone / "constraints.txt").write_text("")
    environment = {**os.environ, "PIP_NO_INDEX": "1"}

    done = subprocess.run(
        [sys.executable, clone / "automation_lab/bootstrap.py", "requirements.txt"],
        env=environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "no-such-package" in done.stderr
    assert "could not be installed" in done.stderr
    assert not (clone / ".venv" / ".requirements.txt.installed").exists()


def test_a_system_without_the_embedded_database_is_told_of_the_containers(monkeypatch):
    monkeypatch.setattr(bootstrap.platform, "libc_ver", lambda: ("musl", "1.2"))
    monkeypatch.setattr(bootstrap.platform, "system", lambda: "Linux")

    with pytest.raises(SystemExit, match=r"without glibc.*docker compose up"):
        bootstrap._check_platform()
