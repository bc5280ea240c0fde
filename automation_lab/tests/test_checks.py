from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.checks import CheckMessage

from automation_lab import checks, environment
from automation_lab.environment import Problem


def texts(messages: list[CheckMessage]) -> str:
    return "\n".join(f"{message.id} {message.msg} {message.hint}" for message in messages)


def all_messages() -> list[CheckMessage]:
    functions: list[Any] = [
        checks.check_values,
        checks.check_outbound,
        checks.check_encryption_keys,
        checks.check_trusted_proxies,
        checks.check_rate_limit,
        checks.check_addresses,
        checks.check_credentials,
        checks.check_exposure,
        checks.check_files,
    ]
    return [message for function in functions for message in function()]


def test_the_defaults_are_free_of_errors():
    assert [message for message in all_messages() if message.is_serious()] == []


def test_a_value_that_could_not_be_read_is_reported_with_its_hint(monkeypatch):
    monkeypatch.setattr(environment, "problems", [Problem("DEBUG", "DEBUG: 'ture' cannot be used.", "Write 1 or 0.")])

    assert "automation_lab.E001 DEBUG: 'ture' cannot be used. Write 1 or 0." in texts(checks.check_values())


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("OUTBOUND_ALLOW", "10.0.0.1", 2),
        ("OUTBOUND_PORTS", "eighty", 2),
        ("ENCRYPTION_KEYS", "k1:tooshort", 3),
        ("TRUSTED_PROXIES", "10.0.0.0/33", 4),
        ("TRUSTED_PROXIES", "proxy.example", 4),
        ("INBOX_RATE_LIMIT", "6000", 5),
        ("INBOX_RATE_LIMIT", "6000/day", 5),
        ("INBOX_RATE_LIMIT", "-1/minute", 5),
        ("PUBLIC_URL", "lab.example.com", 6),
        ("PUBLIC_URL", "https://lab.example.com/lab", 6),
        ("PUBLIC_URL", "https://lab.example.com:99999", 6),
        ("LIVE_URL", "ftp://lab.example.com", 6),
        ("API_TOKEN", "short", 7),
        ("SECRET_KEY", "changeme", 7),
        ("ADMIN_PASSWORD", "password", 8),
        ("ADMIN_USERNAME", "two words", 8),
        ("COMMANDS_FILE", "/nowhere/commands.json", 10),
        ("API_LOG_SPOOL", "/nowhere/spool/here", 10),
    ],
)
def test_a_wrong_value_is_an_error_with_a_hint(settings, name, value, number):
    setattr(settings, name, value)

    found = [message for message in all_messages() if message.is_serious()]

    assert [message.id for message in found] == [f"automation_lab.E{number:03}"]
    assert name in found[0].msg
    assert found[0].hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUTBOUND_ALLOW", "127.0.0.1:9000, 10.1.0.0/16:443, internal.example:*"),
        ("OUTBOUND_PORTS", "*"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8"),
        ("INBOX_RATE_LIMIT", "0"),
        ("INBOX_RATE_LIMIT", "10/second"),
        ("PUBLIC_URL", "https://lab.example.com:8443"),
        ("LIVE_URL", "wss://live.example.com"),
        ("API_TOKEN", "x" * 32),
        ("SECRET_KEY", "x" * 32),
        ("ADMIN_PASSWORD", "correct horse battery"),
    ],
)
def test_a_right_value_is_none(settings, name, value):
    setattr(settings, name, value)

    assert [message for message in all_messages() if message.is_serious()] == []


@pytest.mark.parametrize("name", ["API_TOKEN", "SECRET_KEY", "ADMIN_PASSWORD", "ENCRYPTION_KEYS"])
def test_no_message_repeats_a_secret(settings, name):
    setattr(settings, name, "hunter2")

    assert "hunter2" not in texts(all_messages())


@pytest.mark.parametrize("name", ["API_OPEN", "DEBUG"])
@pytest.mark.parametrize(
    ("host", "refused"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("10.0.0.5", True)],
)
def test_what_opens_the_lab_is_refused_where_others_can_reach_it(settings, name, host, refused):
    setattr(settings, name, True)

    assert (name in checks.exposure_problem(host)) is refused


def test_debug_is_refused_with_a_foreign_host_name(settings):
    settings.DEBUG = True
    settings.ALLOWED_HOSTS = ["lab.example.com", "localhost"]

    assert "lab.example.com" in texts(checks.check_exposure())


def test_a_commands_file_that_is_no_json_is_an_error(settings, tmp_path):
    file = tmp_path / "commands.json"
    file.write_text("{not json")
    settings.COMMANDS_FILE = str(file)

    assert "is not JSON" in texts(checks.check_files())

    file.write_text(json.dumps({}))

    assert checks.check_files() == []


def test_a_command_that_is_given_a_secret_of_the_lab_is_an_error(settings, tmp_path):
    file = tmp_path / "commands.json"
    file.write_text(json.dumps({"commands": {"it": {"argv": ["/bin/echo"], "env": ["SECRET_KEY", "HOME"]}}}))
    settings.COMMANDS_FILE = str(file)

    assert "it is given SECRET_KEY, a secret of this lab." in texts(checks.check_files())


@pytest.mark.django_db
def test_the_database_of_the_tests_is_new_enough():
    assert checks.database_problem() == ""


@pytest.mark.django_db
def test_more_connections_than_the_server_accepts_are_warned_about(settings):
    settings.WEB_WORKERS = 500

    assert [message.id for message in checks.check_database(databases=["default"])] == ["automation_lab.W002"]
