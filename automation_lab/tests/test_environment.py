from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from automation_lab import environment
from automation_lab.environment import Problem


def read(environ: dict[str, str], dotenv: str = "", *, folder: Path) -> tuple[environment.Env, list[Problem]]:
    file = folder / "settings.env"
    file.write_text(dotenv)
    found: list[Problem] = []
    return environment.load(file, environ, found), found


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "yes", "on"])
def test_a_yes_is_read_as_true(text, tmp_path):
    env, found = read({"API_OPEN": text}, folder=tmp_path)

    assert env.bool("API_OPEN") is True
    assert not found


@pytest.mark.parametrize("text", ["ture", "2", "-1", "enabled", "1 # yes"])
def test_a_misspelt_boolean_is_a_problem_and_counts_as_the_default(text, tmp_path):
    env, found = read({"INBOX_ACCEPT_UNKNOWN": text}, folder=tmp_path)

    assert env.bool("INBOX_ACCEPT_UNKNOWN") is True
    assert [problem.name for problem in found] == ["INBOX_ACCEPT_UNKNOWN"]
    assert found[0].hint == "Write 1 for yes or 0 for no."


@pytest.mark.parametrize("text", ["many", "-5", "1.5", "10s", "0"])
def test_a_number_out_of_range_is_a_problem(text, tmp_path):
    env, found = read({"TASKS_CONCURRENCY": text}, folder=tmp_path)

    assert env.int("TASKS_CONCURRENCY") == 20
    assert "1 or greater" in found[0].hint


@pytest.mark.parametrize(("name", "highest"), [("RETENTION_API_LOGS_DAYS", 36_500), ("TASKS_GRACE_SECONDS", 86_400)])
def test_a_period_beyond_the_calendar_is_a_problem(name, highest, tmp_path):
    env, found = read({name: str(highest + 1)}, folder=tmp_path)

    assert env.int(name) == environment.SETTINGS[name].default
    assert f"from 0 to {highest}," in found[0].hint


def test_a_choice_is_checked_and_read_in_lower_case(tmp_path):
    env, found = read({"LOG_LEVEL": "WARNING", "API_LOG_BODIES": "some"}, folder=tmp_path)

    assert env.str("LOG_LEVEL") == "warning"
    assert env.str("API_LOG_BODIES") == "errors"
    assert found[0].hint == "Write one of off, errors, all."


def test_an_empty_value_means_the_default(tmp_path):
    env, found = read({"WEB_THREADS": "", "API_OPEN": " "}, folder=tmp_path)

    assert env.int("WEB_THREADS") == 4
    assert env.bool("API_OPEN") is False
    assert not found


def test_a_password_that_starts_with_a_dollar_sign_is_itself(tmp_path):
    env, _ = read({"ADMIN_PASSWORD": "$ecret-word"}, folder=tmp_path)

    assert env.str("ADMIN_PASSWORD") == "$ecret-word"


def test_the_environment_wins_over_the_file(tmp_path):
    env, _ = read({"WEB_THREADS": "6"}, "WEB_THREADS=2\nWEB_WORKERS=3\n", folder=tmp_path)

    assert env.int("WEB_THREADS") == 6
    assert env.int("WEB_WORKERS") == 3


def test_an_unknown_key_of_the_file_is_a_problem_that_names_the_likely_one(tmp_path):
    _, found = read({}, "WEB_THREAD=2\n", folder=tmp_path)

    assert "WEB_THREAD" in found[0].message
    assert found[0].hint == "Do you mean WEB_THREADS?"


def test_names_of_docker_compose_may_stand_in_the_file(tmp_path):
    _, found = read({}, "POSTGRES_PASSWORD=x\nCOMPOSE_PROJECT_NAME=lab\n", folder=tmp_path)

    assert not found


def test_a_line_without_an_assignment_is_a_problem_with_its_number(tmp_path):
    _, found = read({}, "# comment\n\nDEBUG: 1\n", folder=tmp_path)

    assert "Line 3" in found[0].message


def test_a_secret_can_be_in_a_file_and_loses_its_newline(tmp_path):
    file = tmp_path / "token"
    file.write_text("t" * 40 + "\n")
    env, found = read({"API_TOKEN_FILE": str(file)}, folder=tmp_path)

    assert env.str("API_TOKEN") == "t" * 40
    assert not found


def test_a_missing_secret_file_is_a_problem(tmp_path):
    _, found = read({"SECRET_KEY_FILE": str(tmp_path / "none")}, folder=tmp_path)

    assert found[0].name == "SECRET_KEY_FILE"
    assert "cannot be read" in found[0].message


def test_a_secret_given_twice_is_a_problem(tmp_path):
    file = tmp_path / "token"
    file.write_text("t" * 40)
    _, found = read({"API_TOKEN_FILE": str(file), "API_TOKEN": "u" * 40}, folder=tmp_path)

    assert "both set" in found[0].message


def test_misspelt_names_in_the_environment_are_found():
    assert environment.near_misses({"WEB_THREDS": "1", "HOME": "/", "PATH": "/bin", "EMAIL": "x"}) == [
        ("WEB_THREDS", "WEB_THREADS")
    ]


def test_every_setting_has_a_help_text_and_a_default_of_its_type():
    for name, setting in environment.SETTINGS.items():
        assert setting.help.endswith("."), name
        assert isinstance(setting.default, setting.type), name


def test_every_setting_stands_in_the_example_file():
    example = (Path(environment.__file__).parent.parent / ".env.example").read_text()

    assert [name for name in environment.SETTINGS if f"{name}=" not in example] == []


def test_the_sqlalchemy_spelling_of_a_database_address_is_accepted(tmp_path):
    found = environment.database("postgresql+asyncpg://user:p%40ss@localhost:5433/lab?sslmode=require", tmp_path)

    assert (found["HOST"], found["PORT"], found["NAME"]) == ("localhost", 5433, "lab")
    assert (found["USER"], found["PASSWORD"]) == ("user", "p@ss")
    assert found["OPTIONS"] == {"sslmode": "require"}


def test_a_socket_folder_can_be_given_as_host(tmp_path):
    found = environment.database("postgresql://postgres@/lab?host=/run/postgresql", tmp_path)

    assert found["HOST"] == "/run/postgresql"
    assert "host" not in found["OPTIONS"]


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "sqlite:///x.db", "hunter2", "postgresql://u:hunter2@h:5432"])
def test_what_is_no_postgresql_address_is_a_problem_that_keeps_the_password(url, tmp_path, monkeypatch):
    found: list[Problem] = []
    monkeypatch.setattr(environment, "problems", found)

    environment.database(url, tmp_path)

    assert found[0].name == "DATABASE_URL"
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("url", ["pigeon://user:hunter2@host", "smtp://user:hunter2@", "smtp+tls://user:hunter2@:587"])
def test_what_is_no_mail_server_is_a_problem_that_keeps_the_password(url, monkeypatch):
    found: list[Problem] = []
    monkeypatch.setattr(environment, "problems", found)

    settings = environment.email(url)

    assert settings["EMAIL_BACKEND"].endswith("console.EmailBackend")
    assert found[0].name == "EMAIL_URL"
    assert "hunter2" not in str(found)


def _read_key(path: str) -> str:
    return environment.key_file(Path(path))


def test_processes_that_start_together_agree_on_the_key(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(_read_key, [str(tmp_path / "keys" / "secret_key")] * 16)

    assert len(set(keys)) == 1
    assert len(keys[0]) > 40
    assert (tmp_path / "keys" / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in (tmp_path / "keys").iterdir()] == ["secret_key"]
