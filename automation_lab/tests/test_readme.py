"""What the README says is so: its commands work in the order printed, its tables are those of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import get_commands, load_command_class

from automation_lab import environment, tokens
from automation_lab.serving import servers
from automation_lab.tests.servers import database_environment, granian_server, worker_process
from automation_lab.tests.waiting import eventually
from inbox.presets import PRESETS
from workflows.models import WorkflowExecution
from workflows.steps.base import step_types

README = (servers.BASE_DIR / "README.md").read_text()
SHELL, CURL = shutil.which("sh"), shutil.which("curl")
OUR_APPS = ("automation_lab", "inbox", "tasks", "workflows", "apilogs")
# The commands of the document as a shell runs them, but an answer from 400 on ends it.
PRELUDE = f"""
set -eu
curl() {{ command curl --fail-with-body --silent --show-error "$@" && echo; }}
lab() {{ "{sys.executable}" manage.py "$@"; }}
"""


def blocks(info: str) -> list[str]:
    """The fenced blocks that begin with "```info"."""
    return re.findall(rf"^```{re.escape(info)}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def settings_table() -> str:
    rows = [f"| `{name}` | {_default(name, item)} | {_meaning(item)} |" for name, item in environment.SETTINGS.items()]
    return "\n".join(["| setting | default | |", "|---|---|---|", *rows])


def _default(name: str, item: environment.Setting) -> str:
    if name == "WEB_WORKERS":
        return ""  # depends on the machine
    if isinstance(item.default, bool):
        return f"`{int(item.default)}`"
    text = ",".join(item.default) if isinstance(item.default, list) else str(item.default)
    return f"`{text}`" if text else ""


def _meaning(item: environment.Setting) -> str:
    return f"{item.help} One of {', '.join(item.choices)}." if item.choices else item.help


def commands_table() -> str:
    commands = {name: app for name, app in get_commands().items() if app in OUR_APPS}
    rows = [f"| `{name}` | {_help(app, name)} |" for name, app in sorted(commands.items())]
    return "\n".join(["| command | |", "|---|---|", *rows])


def _help(app: Any, name: str) -> str:
    if name == "migrate":
        return "Bring the tables up to date; safe to run on several machines at once."  # Django's own help otherwise
    return load_command_class(app, name).help


def test_every_setting_is_in_the_table():
    assert settings_table() in README, f"Put this into the README:\n{settings_table()}"


def test_every_command_is_in_the_table():
    assert commands_table() in README, f"Put this into the README:\n{commands_table()}"


def test_every_setting_is_in_the_example_file():
    example = (servers.BASE_DIR / ".env.example").read_text()

    names = re.findall(r"^# ([A-Z_]+)=", example, re.MULTILINE)

    assert set(environment.SETTINGS) == {name for name in names if not name.startswith(environment.FOREIGN_PREFIXES)}
    assert len(names) == len(set(names))


def test_every_link_within_it_leads_somewhere():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", README, re.M)
    }
    links = re.findall(r"\]\(#([^)]+)\)", README)

    assert links
    assert set(links) <= headings
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (servers.BASE_DIR / path).exists(), path


def test_every_address_of_the_api_exists(client):
    document = client.get("/openapi.json").json()
    known = {re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]}

    named = {re.sub(r"\{\w+\}", "{}", path) for path in re.findall(r"`(?:POST |GET )?(/v1/[^`? ]+)`", README)}

    assert len(named) > 20
    assert named <= known


def test_every_scheme_is_named():
    section = README[README.index("- **Schemes**") : README.index("- **Event type**")]

    assert set(PRESETS) <= set(re.findall(r"[a-z_]+", section))


def test_every_step_type_is_in_its_table():
    section = README[README.index("| steps | |") : README.index("`{{ … }}` holds")]

    assert set(re.findall(r"`(\w+)`", section)) == set(step_types)


@pytest.mark.processes
@pytest.mark.skipif(not (SHELL and CURL), reason="needs sh and curl")
@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_the_commands_of_the_readme_work_in_order():
    user = User.objects.create_superuser("root")
    token = tokens.create_token(user=user, name="readme", expires_at=None)[1]
    script = PRELUDE + "\n".join(blocks("sh run")).replace("./lab ", "lab ")

    with granian_server() as server, worker_process():
        variables = {**database_environment(), "LAB": server.url, "TOKEN": token}
        done = subprocess.run(
            [SHELL, "-c", script], env=variables, cwd=servers.BASE_DIR, capture_output=True, text=True, timeout=120
        )
        run = eventually(lambda: WorkflowExecution.objects.filter(workflow__name="Measure", status="success").first())

    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    assert run.variables == {"size": 12, "verdict": "large"}
    assert len(done.stdout) > 5_000
