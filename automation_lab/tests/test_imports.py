"""Imports go one way: apps use the core, workflows uses inbox and tasks, and nothing looks upward or sideways."""

from __future__ import annotations

import ast
import pkgutil
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
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield from (f"{source}.{alias.name}" for alias in node.names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def is_outermost(name: str) -> bool:
    """Whether `name` is in a module that speaks HTTP or draws pages: each app has its own."""
    return any(part in ("viewsets", "serializers") or part.endswith("admin") for part in name.split(".")[1:])


def imports_of(package: str) -> Iterator[tuple[str, str]]:
    """Each module of `package` with each of the names that it imports."""
    for path in modules(package):
        for name in imported(path):
            yield str(path.relative_to(settings.BASE_DIR)), name


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package):
    allowed = ALLOWED[package] | {package}
    ours = [*APPS, "automation_lab"]

    wrong = {
        f"{module} imports {name}"
        for module, name in imports_of(package)
        if any(is_within(name, own) for own in ours) and not any(is_within(name, own) for own in allowed)
    }

    assert wrong == set()


@pytest.mark.parametrize("package", [*APPS, "automation_lab"])
def test_names_are_imported_in_full(package):
    assert {f"{module} imports {name}" for module, name in imports_of(package) if name.startswith(".")} == set()


@pytest.mark.parametrize("package", APPS)
def test_an_app_leaves_the_outermost_layer_of_others_alone(package):
    others = set(APPS) - {package}

    wrong = {
        f"{module} imports {name}"
        for module, name in imports_of(package)
        if name.split(".")[0] in others and is_outermost(name)
    }

    assert wrong == set()


@pytest.mark.parametrize("package", ALLOWED)
def test_every_module_of_a_package_is_looked_at(package):
    folder = settings.BASE_DIR / package.replace(".", "/")
    found = {info.name for info in pkgutil.walk_packages([str(folder)], prefix=f"{package}.") if not info.ispkg}
    looked_at = {".".join(path.relative_to(settings.BASE_DIR).with_suffix("").parts) for path in modules(package)}

    assert {name for name in found - looked_at if not {"tests", "migrations"} & set(name.split("."))} == set()
    assert len(looked_at) > 5
