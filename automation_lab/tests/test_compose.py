"""`docker-compose.yml` and `Dockerfile` against the commands, settings and addresses that exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class
from django.urls import resolve

from automation_lab import environment

BASE_DIR = Path(environment.__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OWN = [name for name in SERVICES if name != "postgres"]


def parse(command: list[str]) -> None:
    """Fails as `manage.py` would on an unknown command or option."""
    program, script, name, *arguments = command
    assert (program, script) == ("python", "manage.py")
    application = get_commands()[name]
    instance = load_command_class(application, name) if isinstance(application, str) else application
    instance.create_parser("manage.py", name).parse_args(arguments)


@pytest.mark.parametrize("service", OWN)
def test_every_command_and_option_exists(service):
    parse(shlex.split(SERVICES[service]["command"]))


def test_the_default_command_of_the_image_exists():
    command = re.search(r"^CMD (\[.*\])$", (BASE_DIR / "Dockerfile").read_text(), re.MULTILINE)
    assert command

    parse(json.loads(command[1]))


def test_the_parts_of_the_design_are_there():
    assert list(SERVICES) == ["postgres", "migrate", "web", "live", "worker"]


def test_the_database_is_published_to_this_machine_only():
    assert SERVICES["postgres"]["ports"] == ["127.0.0.1:5433:5432"]


def test_the_data_of_the_database_is_a_named_volume_at_the_place_of_this_image():
    volume, folder = SERVICES["postgres"]["volumes"][0].split(":")

    assert volume in COMPOSE["volumes"]
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert folder == "/var/lib/postgresql"  # 18 and later; older images want .../data


def test_everything_waits_for_the_migration_and_that_for_the_database():
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("web", "live", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully", name


@pytest.mark.parametrize("service", ["web", "live", "worker"])
def test_long_running_services_have_a_health_check_and_time_to_stop(service):
    check = SERVICES[service]["healthcheck"]["test"]

    assert check[:4] == ["CMD", "python", "-m", "automation_lab.probe"]
    assert SERVICES[service]["stop_grace_period"] == "40s"
    if service != "live":
        assert resolve(check[4].split("8000")[1])


@pytest.mark.parametrize("service", OWN)
def test_containers_run_with_few_rights(service):
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["init"] is True


@pytest.mark.parametrize("service", OWN)
def test_only_known_settings_are_set(service):
    assert set(SERVICES[service]["environment"]) <= set(environment.SETTINGS)


def test_variables_that_the_file_reads_are_settings_or_may_stand_beside_them():
    read = set(re.findall(r"(?<!\$)\$\{(\w+)", (BASE_DIR / "docker-compose.yml").read_text()))

    unknown = [
        name for name in read if name not in environment.SETTINGS and not name.startswith(environment.FOREIGN_PREFIXES)
    ]
    assert unknown == []


def test_the_image_does_not_run_as_root_and_holds_every_package():
    lines = (BASE_DIR / "Dockerfile").read_text().splitlines()

    assert [line for line in lines if line.startswith("USER")] == ["USER lab"]
    copied = " ".join(line for line in lines if line.startswith("COPY"))
    for package in ("automation_lab", "inbox", "tasks", "workflows", "apilogs"):
        assert f" {package} " in f"{copied} "
