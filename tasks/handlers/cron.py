"""The task type `cron`: what the server itself can do: a registered job such as `prune`, or a named command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.execution.failures import Interrupted, RunError
from automation_lab.core.expressions import ExpressionError
from automation_lab.core.registry import UnknownKey, server_jobs
from tasks.commands import declared, process
from tasks.commands.declared import Command
from tasks.commands.process import Ended
from tasks.handlers.base import TaskContext, TaskHandler

KEPT_CHARACTERS = 8_192


class CronHandler(TaskHandler):
    """Run the server job `job` with `arguments`; the output is what it returns. Or run the named command `command` with
    `parameters`; the output is `{"exit_code", "stdout", "stderr", "elapsed_ms"}`.
    """

    key = "cron"
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "job": {"type": "string", "minLength": 1, "title": "Job"},
            "arguments": {"type": "object", "default": {}, "title": "Arguments"},
            "command": {"type": "string", "minLength": 1, "title": "Named command"},
            "parameters": {"type": "object", "default": {}, "title": "Parameters"},
        },
    }

    def check(self, config: dict[str, Any]) -> list[ExpressionError]:
        return list(_config_faults(config))

    def run(self, *, config: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        return _run_command(config, context) if "command" in config else _run_job(config, context)


def _config_faults(config: dict[str, Any]) -> Iterator[ExpressionError]:
    given = [name for name in ("job", "command") if name in config]
    if len(given) != 1:
        yield _fault("", "Give either a job or a command.", "required")
        return
    name = config[given[0]]
    if not isinstance(name, str):
        return  # the schema's own fault
    if expressions.has_expression(name):
        yield _fault(given[0], "Is written out: what a task does is decided when it is saved.", "literal")
        return
    inputs = "parameters" if given[0] == "command" else "arguments"
    other = ({"parameters", "arguments"} - {inputs}).pop()
    if config.get(other):
        yield _fault(other, f"Does not belong to a {given[0]}; write {inputs}.", "unknown")
    try:
        schema = declared.get(name).parameters_schema if given[0] == "command" else server_jobs.get(name).config_schema
    except (UnknownKey, AutomationLabError) as error:
        yield _fault(given[0], str(error), "unknown")
        return
    values = config.get(inputs, {})
    for fault in json_schema.check_config(values, schema, templated=True) if isinstance(values, dict) else ():
        yield _fault(f"{inputs}.{fault.path}" if fault.path else inputs, fault.message, fault.rule)
    if given[0] == "command" and any(each.root == "secrets" for each in expressions.references(values)):
        yield _fault(inputs, NO_SECRETS, "secret")


NO_SECRETS = (
    "Secrets are not passed to commands: everybody on the machine sees arguments. Name a variable in its `env`."
)


def _fault(field: str, message: str, code: str) -> ExpressionError:
    return ExpressionError(message, code=code, field=field)


def _run_job(config: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    try:
        job = server_jobs.get(config.get("job", ""))
    except UnknownKey as error:
        raise RunError(str(error), code="configuration.job") from error
    arguments = json_schema.with_defaults(config["arguments"], job.config_schema)
    faults = json_schema.check_config(arguments, job.config_schema, templated=False)
    if faults:
        raise RunError(f"{faults[0].path}: {faults[0].message}", code="configuration.arguments")
    context.log("info", f"Running {config['job']}.")
    try:
        return job.run(expressions.redact(arguments))
    except AutomationLabError as error:
        raise RunError(error.message, code="runtime.job") from error


def _run_command(config: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    if expressions.contains_secret(config["parameters"]):
        raise RunError(NO_SECRETS, code="configuration.parameters")
    command, argv = _prepared(config)
    context.log("info", f"Running the command {command.name}.")
    limit = min(command.timeout_seconds, context.call.deadline_seconds)
    cancellation = context.call.cancellation
    try:
        ended = process.run(command, argv, timeout_seconds=limit, cancellation=cancellation)
    except OSError as error:
        raise RunError(f"The command could not be started: {error.strerror}.", code="runtime.start") from error
    if ended.stopped == "cancelled":
        raise Interrupted(cancellation.reason, request_sent=True)
    output = {
        "exit_code": ended.exit_code,
        "stdout": ended.stdout,
        "stderr": ended.stderr,
        "elapsed_ms": ended.elapsed_ms,
    }
    if ended.exit_code == 0 and not ended.stopped:
        context.log("info", f"The command ended with exit code 0 after {ended.elapsed_ms} ms.")
        return output
    kept = {**output, "stdout": ended.stdout[-KEPT_CHARACTERS:], "stderr": ended.stderr[-KEPT_CHARACTERS:]}
    code, message = _failure(ended, limit)
    raise RunError(message, code=code, answer=kept)


def _prepared(config: dict[str, Any]) -> tuple[Command, list[str]]:
    """The command as the file declares it now, and its arguments."""
    try:
        command = declared.get(config["command"])
        parameters = json_schema.with_defaults(config["parameters"], command.parameters_schema)
        faults = command.faults(parameters, templated=False)
        if faults:
            raise RunError(f"parameters.{faults[0].path}: {faults[0].message}", code="configuration.parameters")
        return command, command.arguments(parameters)
    except RunError:
        raise
    except AutomationLabError as error:
        raise RunError(error.message, code="configuration.command") from error


def _failure(ended: Ended, limit: float) -> tuple[str, str]:
    if ended.stopped == "timeout":
        return "timeout.command", f"The command was not finished within {limit:g} s and was ended."
    if ended.error:
        return "runtime.start", f"The command could not be started: {ended.error}."
    last = ended.stderr.strip().splitlines()[-1:]
    words = f": {last[0][:300]}" if last else "."
    if ended.signal is not None:
        return "runtime.signal", f"The command was ended by signal {ended.signal}{words}"
    return "runtime.exit", f"The command ended with exit code {ended.exit_code}{words}"
