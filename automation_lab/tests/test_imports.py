"""Imports go one way: apps use the core, workflows uses inbox and tasks, and nothing looks upward or sideways."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from automation_lab import settings

APPS = ("inbox", "tasks", "workflows", "apilogs")
ALLOWED: dict[str, set[str]] = {
    "automation_lab.core": set(),
    "apilogs": {"automation_lab.core"},
    "inbox": {"automation_lab.core"},
    "tasks": {"automation_lab.core"},
    "workflows": {"automation_lab.core", "inbox", "tasks"},
}


def modules(package: str) -> Iterator[Path]:
    for path in (settings.BASE_DIR / package.replace(".", "/")).rglob("*.py"):
        if not {"tests", "migrations"} & set(path.parts):
            yield path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package):
    allowed = ALLOWED[package] | {package}
    ours = [*APPS, "automation_lab"]

    wrong = {
        f"{path.relative_to(settings.BASE_DIR)} imports {name}"
        for path in modules(package)
        for name in imported(path)
        if any(is_within(name, own) for own in ours) and not any(is_within(name, own) for own in allowed)
    }

    assert wrong == set()


def test_every_module_of_an_app_is_looked_at():
    assert all(len(list(modules(package))) > 5 for package in ALLOWED)
