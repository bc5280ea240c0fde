"""Named commands: programs that tasks may run because the server's own COMMANDS_FILE declares them. None by default.

    [commands.backup]
    argv = ["/usr/local/bin/backup", "--level", "{level}", "{target}"]
    timeout_seconds = 600
    env = ["BACKUP_HOME"]

    [commands.backup.parameters.target]
    type = "string"
    pattern = "[a-z]+"

A parameter fills its place in an argument and never makes another one: there is no shell.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

from automation_lab.core import json_schema
from automation_lab.core.exceptions import Invalid, NotFound
from automation_lab.core.expressions import nearest_hint

PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
MAX_ARGUMENT_CHARACTERS = 4096
MAX_TIMEOUT_SECONDS = 86_400

_PARAMETER: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["string", "integer", "choice"]},
        "description": {"type": "string"},
        "default": {"type": ["string", "integer"]},
        "pattern": {"type": "string", "minLength": 1, "maxLength": 500},
        "max_length": {"type": "integer", "minimum": 1, "maximum": MAX_ARGUMENT_CHARACTERS},
        "minimum": {"type": "integer"},
        "maximum": {"type": "integer"},
        "choices": {"type": "array", "minItems": 1, "items": {"type": "string"}},
    },
}
_COMMAND: dict[str, Any] = {
    "type": "object",
    "required": ["argv"],
    "additionalProperties": False,
    "properties": {
        "description": {"type": "string"},
        "argv": {"type": "array", "minItems": 1, "maxItems": 200, "items": {"type": "string"}},
        "parameters": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,31}$"},
            "additionalProperties": _PARAMETER,
        },
        "timeout_seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_SECONDS},
        "output_limit_bytes": {"type": "integer", "minimum": 0, "maximum": 1_048_576},
        "env": {"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
        "cwd": {"type": "string", "minLength": 1},
        "limits": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: {"type": "integer", "minimum": 1}
                for name in ("cpu_seconds", "memory_bytes", "file_bytes", "open_files")
            },
        },
    },
}
_FILE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "commands": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z][a-z0-9_-]{0,63}$"},
            "additionalProperties": _COMMAND,
        }
    },
}
_RLIMITS = {
    "cpu_seconds": "RLIMIT_CPU",
    "memory_bytes": "RLIMIT_AS",
    "file_bytes": "RLIMIT_FSIZE",
    "open_files": "RLIMIT_NOFILE",
}
_DEFAULT_LIMITS = {"memory_bytes": 4 * 2**30, "file_bytes": 2**30, "open_files": 1024}


class CommandsFileError(Invalid):
    """COMMANDS_FILE cannot be used; the message says why."""


@dataclass(frozen=True)
class Command:
    """One entry of the file. `parameters_schema` is the JSON Schema of what a task may give it."""

    name: str
    argv: list[str]
    parameters_schema: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    timeout_seconds: float = 300
    output_limit_bytes: int = 65_536
    env: list[str] = field(default_factory=list)
    cwd: str = ""
    limits: dict[str, int] = field(default_factory=dict)

    def arguments(self, parameters: dict[str, Any]) -> list[str]:
        """`argv` with `parameters`, which fit the schema, in their places. Raises Invalid for one that could be an option."""
        return [self._filled(text, parameters) for text in self.argv]

    def faults(self, parameters: Any, *, templated: bool) -> list[json_schema.SchemaFault]:
        return json_schema.check_config(parameters, self.parameters_schema, templated=templated)

    def _filled(self, text: str, parameters: dict[str, Any]) -> str:
        for name in PLACE.findall(text):
            value = parameters[name]
            if isinstance(value, str):
                self._check_text(name, value, starts=text.startswith(f"{{{name}}}"))
        return PLACE.sub(lambda match: str(parameters[match[1]]), text)

    def _check_text(self, name: str, value: str, *, starts: bool) -> None:
        if CONTROL.search(value):
            raise Invalid(f"{name}: line breaks and control characters are not passed on.", field=name)
        if starts and value.startswith("-") and not self.parameters_schema["properties"][name].get("enum"):
            raise Invalid(f"{name}: must not start with -, as that would make it an option.", field=name)


def all_commands() -> dict[str, Command]:
    """The declared commands by name; none without a file. Raises CommandsFileError."""
    if not settings.COMMANDS_FILE:
        return {}
    path = Path(settings.COMMANDS_FILE)
    try:
        stat = path.stat()
    except OSError as error:
        raise CommandsFileError(f"{path} cannot be read ({error.strerror}).") from error
    return _load(path, stat.st_mtime_ns, stat.st_size)


def get(name: str) -> Command:
    """Raises NotFound, with the near names, and CommandsFileError."""
    commands = all_commands()
    if name in commands:
        return commands[name]
    if not settings.COMMANDS_FILE:
        raise NotFound("Named commands are off: the server has no COMMANDS_FILE.", field="command", code="commands_off")
    hint = nearest_hint(name, commands)
    raise NotFound(f"There is no command named {name!r}.{hint}", field="command", code="unknown_command")


@lru_cache(maxsize=4)
def _load(path: Path, modified: int, size: int) -> dict[str, Command]:
    data = _read(path)
    faults = [fault.message for fault in json_schema.check_config(data, _FILE, templated=False)]
    entries = data.get("commands", {}) if not faults else {}
    faults += [fault for name, entry in entries.items() for fault in _entry_faults(name, entry)]
    if faults:
        raise CommandsFileError(f"{path}: {' '.join(faults[:5])}")
    return {name: _command(name, entry) for name, entry in entries.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise CommandsFileError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise CommandsFileError(f"{path} is not text in UTF-8.") from error
    kind = "TOML" if path.suffix == ".toml" else "JSON"
    try:
        return tomllib.loads(text) if kind == "TOML" else json.loads(text)
    except ValueError as error:
        raise CommandsFileError(f"{path} is not {kind} ({error}).") from error


def _entry_faults(name: str, entry: dict[str, Any]) -> Iterator[str]:
    where, parameters = f"commands.{name}", entry.get("parameters", {})
    program = entry["argv"][0]
    if not os.path.isabs(program) or PLACE.search(program):
        yield f"{where}: the program is an absolute path without places, such as /usr/bin/rsync."
    elif not os.access(program, os.X_OK):
        yield f"{where}: {program} is no program that this user may run."
    if "cwd" in entry and not os.path.isdir(entry["cwd"]):
        yield f"{where}: there is no folder {entry['cwd']}."
    named = {place for text in entry["argv"] for place in PLACE.findall(text)}
    for place in sorted(named - parameters.keys()):
        yield f"{where}: {{{place}}} is no parameter of it."
    for unused in sorted(parameters.keys() - named):
        yield f"{where}: the parameter {unused} has no place in argv."
    for parameter, declared in parameters.items():
        yield from (f"{where}.{parameter}: {fault}" for fault in _parameter_faults(declared))


def _parameter_faults(declared: dict[str, Any]) -> Iterator[str]:
    allowed = {"string": {"pattern", "max_length"}, "integer": {"minimum", "maximum"}, "choice": {"choices"}}
    for other in sorted(declared.keys() - {"type", "description", "default"} - allowed[declared["type"]]):
        yield f"{other} does not belong to the type {declared['type']}."
    if declared["type"] == "choice" and "choices" not in declared:
        yield "a choice needs choices."
        return
    schema = _parameter_schema(declared)
    try:
        json_schema.check_schema(schema)
    except Invalid as error:
        yield error.message
        return
    if "default" in declared:
        yield from (fault.message for fault in json_schema.validate(declared["default"], schema))


def _parameter_schema(declared: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {name: declared[name] for name in ("description", "default") if name in declared}
    if declared["type"] == "choice":
        return {**schema, "type": "string", "enum": declared["choices"]}
    if declared["type"] == "integer":
        return {
            **schema,
            "type": "integer",
            "minimum": declared.get("minimum", -(2**53)),
            "maximum": declared.get("maximum", 2**53),
        }
    if "pattern" in declared:
        schema["pattern"] = f"^(?:{declared['pattern']})$"
    return {**schema, "type": "string", "maxLength": declared.get("max_length", 256)}


def _command(name: str, entry: dict[str, Any]) -> Command:
    parameters = entry.get("parameters", {})
    timeout_seconds = entry.get("timeout_seconds", 300)
    cores = os.cpu_count() or 1
    limits = {"cpu_seconds": int(timeout_seconds * cores) + 1, **_DEFAULT_LIMITS, **entry.get("limits", {})}
    return Command(
        name=name,
        argv=entry["argv"],
        parameters_schema={
            "type": "object",
            "additionalProperties": False,
            "required": sorted(each for each, declared in parameters.items() if "default" not in declared),
            "properties": {each: _parameter_schema(declared) for each, declared in parameters.items()},
        },
        description=entry.get("description", ""),
        timeout_seconds=timeout_seconds,
        output_limit_bytes=entry.get("output_limit_bytes", 65_536),
        env=entry.get("env", []),
        cwd=entry.get("cwd", ""),
        limits={**{_RLIMITS[each]: value for each, value in limits.items()}, "RLIMIT_CORE": 0},
    )
