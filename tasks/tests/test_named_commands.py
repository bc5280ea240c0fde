"""Named commands: only what the server's file declares, and nothing of it gets out of hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from rest_framework.test import APIClient

from automation_lab import tokens
from automation_lab.core.cancellation import Cancellation
from automation_lab.core.exceptions import Invalid, NotFound
from automation_lab.core.execution import runner
from automation_lab.core.execution.failures import Interrupted, RunError
from automation_lab.core.execution.tests.helpers import KIND, add_worker
from automation_lab.core.expressions import SecretValue
from automation_lab.core.http import HttpClient
from tasks import services
from tasks.commands import declared, process
from tasks.commands.declared import CommandsFileError
from tasks.handlers.base import TaskContext
from tasks.handlers.cron import CronHandler
from tasks.handlers.http_call import CallContext
from tasks.models import TaskExecution

SH = "/bin/sh"


@pytest.fixture
def declare(settings, tmp_path) -> Callable[..., None]:
    """Writes a COMMANDS_FILE with one command, `it`."""

    def declare(argv: list[str], parameters: dict[str, Any] | None = None, **entry: Any) -> None:
        file = tmp_path / f"{time.monotonic_ns()}.json"
        file.write_text(json.dumps({"commands": {"it": {"argv": argv, "parameters": parameters or {}, **entry}}}))
        settings.COMMANDS_FILE = str(file)

    return declare


def run(parameters: dict[str, Any] | None = None, *, seconds: float = 30, cancellation: Cancellation | None = None):
    """Run the command `it`, as a worker does."""
    call = CallContext(
        http=HttpClient(),
        cancellation=cancellation or Cancellation(),
        idempotency_key="k",
        deadline_seconds=seconds,
    )
    context = TaskContext(call=call, execution_id=1, log=lambda level, text: None)
    config = {"command": "it", "parameters": parameters or {}, "arguments": {}}
    return CronHandler().run(config=config, context=context)


def failure(parameters: dict[str, Any] | None = None, **options: Any) -> RunError:
    with pytest.raises(RunError) as caught:
        run(parameters, **options)
    return caught.value


def faults(config: dict[str, Any]) -> list[tuple[str, str]]:
    return [(error.field, error.message) for error in CronHandler().check(config)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(check: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


TEXT = {"value": {"type": "string"}}

# --- what may run (T2) ------------------------------------------------------------------------------------------------


def test_without_a_file_there_are_no_commands():
    assert declared.all_commands() == {}
    assert "off" in failure().message
    assert failure().code == "configuration.command"


def test_a_command_that_is_not_declared_does_not_run(declare):
    declare([SH, "-c", "true"])

    with pytest.raises(NotFound, match="There is no command named 'its'"):
        declared.get("its")


def test_the_output_holds_exit_code_and_both_streams(declare):
    declare([SH, "-c", "echo out; echo err >&2"])

    output = run()

    assert (output["exit_code"], output["stdout"], output["stderr"]) == (0, "out\n", "err\n")
    assert output["elapsed_ms"] > 0


@pytest.mark.parametrize(
    "value",
    [
        "; touch hacked",
        "$(touch hacked)",
        "`touch hacked`",
        "| cat /etc/passwd",
        "&& true",
        "a b  c",
        "*",
        "~",
        "'\"\\",
        "ünïcode",
    ],
)
def test_a_parameter_is_one_argument_and_no_shell_reads_it(declare, tmp_path, value):
    declare([sys.executable, "-c", "import sys; print(sys.argv[1:], end='')", "{value}"], TEXT, cwd=str(tmp_path))

    assert run({"value": value})["stdout"] == repr([value])
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("value", ["a\nb", "a\x00b", "a\rb", "\x1b[31m", "a\u2028b"])
def test_control_characters_are_refused(declare, value):
    declare(["/bin/echo", "{value}"], TEXT)

    assert failure({"value": value}).code == "configuration.command"


@pytest.mark.parametrize("value", ["--flag", "-rf", "-"])
def test_a_parameter_cannot_become_an_option(declare, value):
    declare(["/bin/echo", "{value}"], TEXT)

    assert "would make it an option" in failure({"value": value}).message


def test_a_dash_within_an_argument_is_harmless(declare):
    declare(["/bin/echo", "--name={value}"], TEXT)

    assert run({"value": "-x"})["stdout"] == "--name=-x\n"


def test_the_program_itself_cannot_be_a_parameter(declare):
    declare(["{value}"], TEXT)

    with pytest.raises(CommandsFileError, match="absolute path without places"):
        declared.all_commands()


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        ({"type": "string", "pattern": "[a-z]+"}, "abc", ["ABC", "ab1", "", "abc\n", 5, None]),
        ({"type": "string", "max_length": 3}, "abc", ["abcd"]),
        ({"type": "integer", "minimum": 1, "maximum": 9}, 5, [0, 10, "5", 1.5, True]),
        ({"type": "choice", "choices": ["daily", "-full"]}, "-full", ["weekly", ""]),
    ],
)
def test_parameters_have_types(declare, declared, good, bad):
    declare(["/bin/echo", "{value}"], {"value": declared})

    assert run({"value": good})["stdout"] == f"{good}\n"
    for value in bad:
        assert failure({"value": value}).code in ("configuration.parameters", "configuration.command"), value


def test_a_default_fills_in_and_a_missing_parameter_is_refused(declare):
    declare(["/bin/echo", "{a}{b}"], {"a": {"type": "string", "default": "x"}, "b": {"type": "string"}})

    assert run({"b": "y"})["stdout"] == "xy\n"
    assert "`b` is required" in failure().message


def test_a_parameter_that_is_not_declared_is_refused(declare):
    declare(["/bin/echo"])

    assert failure({"extra": "1"}).code == "configuration.parameters"


def test_a_secret_is_not_passed_to_a_command(declare):
    declare(["/bin/echo", "{value}"], TEXT)

    error = failure({"value": SecretValue("hunter2-hunter2")})

    assert error.code == "configuration.parameters"
    assert "hunter2" not in error.message


# --- its environment (T3) ---------------------------------------------------------------------------------------------


def test_a_command_sees_a_clean_environment_and_what_it_declares(declare, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "hidden")
    monkeypatch.setenv("DATABASE_URL", "postgresql://hidden")
    monkeypatch.setenv("BACKUP_HOME", "/srv/backup")
    declare(["/usr/bin/env"], env=["BACKUP_HOME", "NOT_SET"])

    seen = dict(line.split("=", 1) for line in run()["stdout"].splitlines())

    assert seen.pop("HOME")
    assert seen == {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "BACKUP_HOME": "/srv/backup"}


def test_a_command_has_an_empty_folder_of_its_own_that_goes_with_it(declare):
    declare([SH, "-c", "pwd; ls -A; touch left-behind"])

    (folder,) = run()["stdout"].split()

    assert folder != os.getcwd()
    assert not os.path.exists(folder)


def test_a_command_can_be_given_a_folder(declare, tmp_path):
    declare([SH, "-c", "pwd"], cwd=str(tmp_path))

    assert run()["stdout"].strip() == str(tmp_path)


def test_standard_input_is_empty(declare):
    declare([SH, "-c", "cat; echo end"])

    assert run()["stdout"] == "end\n"


# --- its end (T4) -----------------------------------------------------------------------------------------------------


def test_an_exit_code_other_than_zero_fails_with_the_last_line_of_the_errors(declare):
    declare([SH, "-c", "echo partly; echo one >&2; echo two >&2; exit 3"])

    error = failure()

    assert (error.code, error.message) == ("runtime.exit", "The command ended with exit code 3: two")
    assert error.answer["exit_code"] == 3
    assert error.answer["stdout"] == "partly\n"


def test_a_program_that_cannot_be_started_says_why(declare, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    declare([str(script)])

    error = failure()

    assert (error.code, error.message) == (
        "runtime.start",
        "The command could not be started: No such file or directory.",
    )


def test_a_signal_is_told(declare):
    declare([SH, "-c", "kill -SEGV $$"])

    assert failure().message == f"The command was ended by signal {signal.SIGSEGV:d}."


@pytest.fixture
def ready(monkeypatch, tmp_path) -> Path:
    """A file with which a command says how far it has come; its time counts from then on only."""
    file, wait = tmp_path / "ready", process._wait

    def wait_from_then(report: Any, wake: Any, timeout_seconds: float) -> str:
        wait_until(file.exists)
        return wait(report, wake, timeout_seconds)

    monkeypatch.setattr(process, "_wait", wait_from_then)
    return file


def test_a_command_past_its_time_is_ended(declare):
    declare([SH, "-c", "sleep 60"], timeout_seconds=0.5)
    started = time.monotonic()

    error = failure()

    assert (error.code, error.message) == (
        "timeout.command",
        "The command was not finished within 0.5 s and was ended.",
    )
    assert time.monotonic() - started < process.PATIENCE_SECONDS


def test_the_time_of_the_attempt_counts_too(declare):
    declare([SH, "-c", "sleep 60"], timeout_seconds=60)

    assert failure(seconds=0.3).code == "timeout.command"


def test_a_command_that_ignores_term_is_killed(declare, monkeypatch, ready):
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 0.5)
    declare([SH, "-c", f"trap '' TERM; echo $$; : > {ready}; while :; do sleep 0.1; done"], timeout_seconds=0.1)

    error = failure()

    assert error.code == "timeout.command"
    assert not alive(int(error.answer["stdout"]))


def test_a_command_may_clean_up_after_term(declare, ready):
    declare([SH, "-c", f"trap 'echo bye; exit 0' TERM; : > {ready}; sleep 60 & wait"], timeout_seconds=0.1)

    assert failure().answer["stdout"] == "bye\n"


DAEMON = """
import os, sys, time
reader, writer = os.pipe()
for number in range(3):
    if os.fork() == 0:
        if number == 2:
            os.setsid()
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            os.write(writer, b".")
            time.sleep(300)
        os._exit(0)
for number in range(3):
    os.read(reader, 1)
open("{ready}", "w").close()
{then}
"""


@pytest.mark.parametrize(("then", "seconds"), [("time.sleep(300)", 0.1), ("sys.exit(0)", 30)])
def test_nothing_is_left_of_a_command_even_what_it_has_detached(declare, ready, then, seconds):
    declare([sys.executable, "-c", DAEMON.format(ready=ready, then=then)], timeout_seconds=seconds)

    output = run() if "exit" in then else failure().answer

    pids = [int(pid) for pid in output["stdout"].split()]
    assert len(pids) == 3
    assert [pid for pid in pids if alive(pid)] == []


def test_cancelling_ends_the_command_within_two_seconds(declare, tmp_path):
    declare([SH, "-c", f": > {tmp_path}/ready; sleep 60"])
    cancellation, cancelled_at = Cancellation(), []

    def cancel() -> None:
        wait_until((tmp_path / "ready").exists)
        cancelled_at.append(time.monotonic())
        cancellation.cancel("cancelled")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Interrupted) as caught:
        run(cancellation=cancellation)
    thread.join()

    assert (caught.value.reason, caught.value.request_sent) == ("cancelled", True)
    assert time.monotonic() - cancelled_at[0] < 2


def test_a_flood_of_output_is_kept_at_its_beginning_and_its_end(declare):
    flood = "import sys; sys.stdout.write('first\\n' + 'x' * 50_000_000 + '\\nlast\\n')"
    declare([sys.executable, "-c", flood], output_limit_bytes=1000)

    text = run()["stdout"]

    assert text.startswith("first\n")
    assert text.endswith("\nlast\n")
    assert f"[… {50_000_012 - 1000} bytes left out …]" in text
    assert len(text) < 1100


def test_output_within_its_limit_is_complete(declare):
    declare([sys.executable, "-c", "print('ab' * 500, end='')"], output_limit_bytes=1000)

    assert run()["stdout"] == "ab" * 500


def test_output_that_is_no_text_is_kept_readable(declare):
    declare([SH, "-c", "printf 'a\\377b'"])

    assert run()["stdout"] == "a\ufffdb"


@pytest.mark.parametrize(
    ("limits", "program"),
    [
        ({"file_bytes": 10_000}, "open('big', 'wb').write(b'x' * 1_000_000)"),
        ({"memory_bytes": 200_000_000}, "x = bytearray(2_000_000_000)"),
        ({"cpu_seconds": 1}, "while True: pass"),
        ({"open_files": 20}, "files = [open('/dev/null') for _ in range(100)]"),
    ],
)
def test_limits_of_the_machine_are_kept(declare, limits, program):
    declare([sys.executable, "-c", program], limits=limits, timeout_seconds=20)

    assert failure().code in ("runtime.exit", "runtime.signal")


WORKER = """
import sys, django
django.setup()
from automation_lab.core.cancellation import Cancellation
from tasks.commands import declared, process
it = declared.get("it")
process.run(it, it.arguments({}), timeout_seconds=300, cancellation=Cancellation())
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell children of their parent's death")
def test_a_killed_worker_leaves_no_command_running(declare, settings, tmp_path):
    pids = tmp_path / "pids"
    declare([SH, "-c", f"trap '' TERM; echo $$ >> {pids}; (sh -c 'echo $$ >> {pids}; sleep 300') & sleep 300"])
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "automation_lab.settings"}
    environment["COMMANDS_FILE"] = settings.COMMANDS_FILE
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=environment)
    running = wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2 and pids.read_text())

    worker.kill()
    worker.wait()

    wait_until(lambda: not [pid for pid in running.split() if alive(int(pid))])


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_toml_file_declares_commands(settings, tmp_path):
    file = tmp_path / "commands.toml"
    file.write_text(
        """
        [commands.backup]
        argv = ["/bin/echo", "{target}"]
        timeout_seconds = 600
        [commands.backup.parameters.target]
        type = "string"
        pattern = "[a-z]+"
        """
    )
    settings.COMMANDS_FILE = str(file)

    command = declared.get("backup")

    assert (command.timeout_seconds, command.arguments({"target": "home"})) == (600, ["/bin/echo", "home"])


def test_a_change_of_the_file_is_seen_at_the_next_run(settings, tmp_path):
    file = tmp_path / "commands.json"
    settings.COMMANDS_FILE = str(file)
    file.write_text('{"commands": {"it": {"argv": ["/bin/echo", "one"]}}}')
    first = run()["stdout"]

    file.write_text('{"commands": {"it": {"argv": ["/bin/echo", "another"]}}}')

    assert (first, run()["stdout"]) == ("one\n", "another\n")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "`commands.it.argv` is required"),
        ({"argv": []}, "argv"),
        ({"argv": "echo hello"}, "argv"),
        ({"argv": ["echo"]}, "absolute path"),
        ({"argv": ["/nowhere/program"]}, "no program that this user may run"),
        ({"argv": ["/bin/echo", "{who}"]}, r"\{who\} is no parameter"),
        ({"argv": ["/bin/echo"], "parameters": TEXT}, "has no place in argv"),
        ({"argv": ["/bin/echo"], "shell": True}, "shell"),
        ({"argv": ["/bin/echo"], "cwd": "/nowhere"}, "no folder /nowhere"),
        ({"argv": ["/bin/echo"], "env": ["A=1"]}, "env"),
        ({"argv": ["/bin/echo"], "timeout_seconds": 0}, "timeout_seconds"),
        ({"argv": ["/bin/echo", "{v}"], "parameters": {"v": {"type": "float"}}}, "type"),
        ({"argv": ["/bin/echo", "{v}"], "parameters": {"v": {"type": "string", "pattern": "("}}}, "it.v"),
        ({"argv": ["/bin/echo", "{v}"], "parameters": {"v": {"type": "string", "minimum": 1}}}, "does not belong"),
        ({"argv": ["/bin/echo", "{v}"], "parameters": {"v": {"type": "choice"}}}, "needs choices"),
        ({"argv": ["/bin/echo", "{v}"], "parameters": {"v": {"type": "integer", "default": "x"}}}, "it.v"),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_place(settings, tmp_path, entry, message):
    file = tmp_path / "commands.json"
    file.write_text(json.dumps({"commands": {"it": entry}}))
    settings.COMMANDS_FILE = str(file)

    with pytest.raises(CommandsFileError, match=message):
        declared.all_commands()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", "{", "is not JSON"),
        ("c.toml", "=", "is not TOML"),
        ("c.json", "[]", "object"),
        ("c.json", "\xff", "JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(settings, tmp_path, name, text, message):
    file = tmp_path / name
    file.write_text(text, encoding="latin-1")
    settings.COMMANDS_FILE = str(file)

    with pytest.raises(CommandsFileError, match=message if text != "\xff" else "UTF-8"):
        declared.all_commands()


# --- a task of one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, ""),
        ({"job": "prune", "command": "it"}, ""),
        ({"command": "other"}, "command"),
        ({"command": "{{ input.command }}"}, "command"),
        ({"command": "it", "arguments": {"a": 1}, "parameters": {"value": "x"}}, "arguments"),
        ({"command": "it"}, "parameters.value"),
        ({"command": "it", "parameters": {"value": 5}}, "parameters.value"),
        ({"command": "it", "parameters": {"value": "x", "more": 1}}, "parameters.more"),
        ({"command": "it", "parameters": {"value": "{{ secrets.TOKEN }}"}}, "parameters"),
        ({"job": "unheard"}, "job"),
        ({"job": "{{ input.job }}"}, "job"),
    ],
)
def test_a_config_that_could_not_run_is_refused_when_it_is_saved(declare, config, field):
    declare(["/bin/echo", "{value}"], TEXT)

    assert [name for name, _ in faults(config)] == [field]


@pytest.mark.parametrize("value", ["home", "{{ input.target }}"])
def test_a_config_that_can_run_is_saved(declare, value):
    declare(["/bin/echo", "{value}"], TEXT)

    assert faults({"command": "it", "parameters": {"value": value}}) == []


def test_an_error_of_the_declared_type_is_an_invalid_one():
    assert issubclass(CommandsFileError, Invalid)


# --- who may (T2) -----------------------------------------------------------------------------------------------------


@pytest.fixture
def editor(db) -> APIClient:
    """Somebody who may define tasks, but has no right to commands."""
    user = User.objects.create_user("ed")
    user.groups.add(Group.objects.get(name="editor"))
    _, plain = tokens.create_token(user=user, name="tests", expires_at=None)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    return client


def of_command(name: str = "backup") -> dict[str, Any]:
    return {"name": name, "task_type": "cron", "config": {"command": "it"}}


@pytest.mark.django_db
def test_a_person_without_the_permission_can_neither_define_nor_start_a_command(declare, editor):
    declare(["/bin/echo", "hello"])
    task = services.create_task(fields=of_command())
    run = services.start_execution(task=task)
    services.cancel_execution(execution=run)
    other = services.create_task(
        fields={"name": "o", "task_type": "cron", "config": {"command": "it"}, "enabled": False}
    )

    answers = [
        editor.post("/v1/tasks", of_command("mine")),
        editor.patch(f"/v1/tasks/{task.pk}", {"description": "changed"}),
        editor.patch(f"/v1/tasks/{task.pk}", {"task_type": "api_call", "config": {"url": "https://a.example"}}),
        editor.post(f"/v1/tasks/{task.pk}/executions"),
        editor.post(f"/v1/tasks/executions/{run.pk}/retry"),
        editor.post(f"/v1/tasks/{other.pk}/resume"),
        editor.post(f"/v1/tasks/{task.pk}/backfill", {"from": "2025-01-01T00:00:00Z", "to": "2025-01-02T00:00:00Z"}),
    ]

    assert [answer.status_code for answer in answers] == [403] * 7
    assert "tasks.run_command" in answers[0].json()["detail"]
    assert TaskExecution.objects.count() == 1


@pytest.mark.django_db
def test_a_person_without_the_permission_can_define_and_stop_everything_else(declare, editor):
    declare(["/bin/echo", "hello"])
    task = services.create_task(fields=of_command())

    created = editor.post("/v1/tasks", {"name": "m", "task_type": "api_call", "config": {"url": "https://a.example"}})

    assert created.status_code == 201
    assert editor.patch(f"/v1/tasks/{created.json()['id']}", of_command("m")).status_code == 403
    assert editor.get(f"/v1/tasks/{task.pk}").status_code == 200
    assert editor.post(f"/v1/tasks/{task.pk}/pause").status_code == 200


@pytest.mark.django_db
def test_a_person_with_the_permission_can(declare, editor):
    declare(["/bin/echo", "hello"])
    User.objects.get(username="ed").user_permissions.add(Permission.objects.get(codename="run_command"))

    created = editor.post("/v1/tasks", of_command())
    started = editor.post(f"/v1/tasks/{created.json()['id']}/executions")

    assert (created.status_code, started.status_code) == (201, 202)
    assert created.json()["on_lost_worker"] == "fail"


@pytest.mark.django_db
def test_the_api_cannot_declare_a_command(declare, api):
    declare(["/bin/echo", "hello"])

    answer = api.post("/v1/tasks", {**of_command(), "config": {"command": "rm", "argv": ["/bin/rm"]}})

    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == {"config.argv", "config.command"}


@pytest.mark.django_db
def test_open_access_does_not_open_commands(declare, settings, admin_user):
    declare(["/bin/echo", "hello"])
    settings.API_OPEN = True
    local = APIClient(REMOTE_ADDR="127.0.0.1", HTTP_HOST="localhost:8000")
    job = {"name": "job", "task_type": "api_call", "config": {"url": "https://a.example"}}

    assert local.post("/v1/tasks", job).status_code == 201
    answer = local.post("/v1/tasks", of_command())
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "closed_when_open")


@pytest.mark.django_db
def test_the_console_refuses_too(declare, client):
    declare(["/bin/echo", "hello"])
    task = services.create_task(fields=of_command())
    user = User.objects.create_user("ed", is_staff=True)
    user.groups.add(Group.objects.get(name="editor"))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    client.post(f"/admin/tasks/scheduledtask/{task.pk}/run-now", {"input_data": "{}"})
    client.post("/admin/tasks/scheduledtask/", {"action": "enable_selected", "_selected_action": [task.pk]})

    assert TaskExecution.objects.count() == 0


@pytest.mark.django_db
def test_a_run_of_a_command_is_recorded_like_any_other(declare):
    declare([SH, "-c", "echo $0; exit $1", "{who}", "{code}"], {
        "who": {"type": "string"}, "code": {"type": "integer", "minimum": 0, "maximum": 9},
    })  # fmt: skip
    config = {"command": "it", "parameters": {"who": "{{ input.who }}", "code": "{{ input.code }}"}}
    task = services.create_task(fields={"name": "t", "task_type": "cron", "config": config})
    worker = add_worker()

    good = services.start_execution(task=task, input_data={"who": "pat", "code": 0})
    bad = services.start_execution(task=task, input_data={"who": "pat", "code": 3})
    for execution in (good, bad):
        runner.run(KIND, execution.pk, worker=worker)
        execution.refresh_from_db()

    assert (good.status, good.output_data["stdout"]) == ("success", "pat\n")
    assert (bad.status, bad.error_message) == ("failed", "The command ended with exit code 3.")
    assert bad.attempts.get().answer["stdout"] == "pat\n"
    assert good.log_lines.first().text == "Running the command it."
