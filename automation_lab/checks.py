"""Django system checks of the settings. A wrong one stops every command, with a sentence and what to write instead.

Values of secrets never appear in a message.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseError
from django.db import connection

from automation_lab import addresses, environment

OLDEST_POSTGRESQL = 15
SHORTEST_TOKEN = SHORTEST_SECRET_KEY = 32
MAKE_ONE = "Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
RATE = re.compile(r"0|[1-9]\d{0,8}/(second|minute|hour)")
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", "[::1]", ".localhost", "*"}
CONNECTIONS_BESIDE_THE_POOL = 5  # Procrastinate's own, per worker


def _error(number: int, message: str, hint: str) -> Error:
    return Error(message, hint=hint, id=f"automation_lab.E{number:03}")


@register
def check_values(**_: Any) -> list[CheckMessage]:
    """Values that could not be read, and names that are probably misspelt."""
    errors: list[CheckMessage] = [_error(1, problem.message, problem.hint) for problem in environment.problems]
    warnings = [
        Warning(
            f"The environment sets {name}, which is no setting.", hint=f"Do you mean {meant}?", id="automation_lab.W001"
        )
        for name, meant in environment.near_misses()
    ]
    return [*errors, *warnings]


@register
def check_outbound(**_: Any) -> list[CheckMessage]:
    from automation_lab.core import outbound

    parsers: Sequence[tuple[str, Callable[[str], object]]] = [
        ("OUTBOUND_ALLOW", outbound.parse_allow),
        ("OUTBOUND_PORTS", outbound.parse_ports),
    ]
    errors: list[CheckMessage] = []
    for name, parse in parsers:
        try:
            parse(getattr(settings, name))
        except ValueError as exc:
            message, separator, hint = str(exc).partition(": write ")
            errors.append(
                _error(
                    2, message, f"Write {hint}" if separator else "See OUTBOUND_ALLOW and OUTBOUND_PORTS in the README."
                )
            )
    return errors


@register
def check_encryption_keys(**_: Any) -> list[CheckMessage]:
    from automation_lab.core import crypto

    try:
        crypto.check_keys()
    except crypto.EncryptionKeyError as exc:
        return [_error(3, str(exc), "Without ENCRYPTION_KEYS, a key is made and kept in DATA_DIR.")]
    return []


@register
def check_trusted_proxies(**_: Any) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for network in settings.TRUSTED_PROXIES.replace(",", " ").split():
        try:
            ipaddress.ip_network(network)
        except ValueError as exc:
            hint = "Write networks separated by commas, such as 10.0.0.0/8, 192.168.1.5/32."
            errors.append(_error(4, f"TRUSTED_PROXIES: {network!r} is no network ({exc}).", hint))
    return errors


@register
def check_rate_limit(**_: Any) -> list[CheckMessage]:
    if RATE.fullmatch(settings.INBOX_RATE_LIMIT):
        return []
    message = f"INBOX_RATE_LIMIT: {settings.INBOX_RATE_LIMIT!r} is no rate."
    return [_error(5, message, "Write a number and second, minute or hour, such as 6000/minute, or 0 for no limit.")]


@register
def check_addresses(**_: Any) -> list[CheckMessage]:
    schemes = {"PUBLIC_URL": ("http", "https"), "LIVE_URL": ("http", "https", "ws", "wss")}
    return [
        _error(
            6,
            f"{name}: {getattr(settings, name)!r} is no address.",
            f"Write {allowed[-1]}://host or {allowed[-1]}://host:port.",
        )
        for name, allowed in schemes.items()
        if getattr(settings, name) and not _is_origin(getattr(settings, name), allowed)
    ]


def _is_origin(url: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    bare = not parts.path.strip("/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    return parts.scheme in schemes and bool(parts.hostname) and has_port and bare


@register
def check_credentials(**_: Any) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    if settings.API_TOKEN and (len(settings.API_TOKEN) < SHORTEST_TOKEN or not settings.API_TOKEN.isascii()):
        message = f"API_TOKEN is shorter than {SHORTEST_TOKEN} characters, or not ASCII."
        errors.append(_error(7, message, MAKE_ONE))
    if len(settings.SECRET_KEY) < SHORTEST_SECRET_KEY:  # it also signs the links of approvals, which need no sign-in
        errors.append(_error(7, f"SECRET_KEY is shorter than {SHORTEST_SECRET_KEY} characters.", MAKE_ONE))
    if settings.ADMIN_PASSWORD:
        try:
            validate_password(settings.ADMIN_PASSWORD)
        except ValidationError as exc:
            hint = "Choose a longer, less common one, or leave it out: one is made and printed."
            errors.append(_error(8, f"ADMIN_PASSWORD is too weak. {' '.join(exc.messages)}", hint))
    if not re.fullmatch(r"[\w.@+-]{1,150}", settings.ADMIN_USERNAME):
        message = "ADMIN_USERNAME is no user name."
        errors.append(_error(8, message, "Write letters, digits and @ . + - _ only."))
    return errors


@register
def check_exposure(**_: Any) -> list[CheckMessage]:
    problem = exposure_problem(settings.BIND_HOST)
    errors: list[CheckMessage] = [_error(9, problem, "Take it out, or listen on 127.0.0.1 only.")] if problem else []
    foreign = sorted(set(settings.ALLOWED_HOSTS) - LOCAL_HOSTS)
    if settings.DEBUG and foreign:
        message = f"DEBUG shows source code and settings to everybody who reaches {', '.join(foreign)}."
        errors.append(_error(9, message, "Set DEBUG=0, or leave only localhost and 127.0.0.1 in ALLOWED_HOSTS."))
    return errors


def exposure_problem(host: str) -> str:
    """Why the servers may not listen on `host`, "" if they may."""
    if addresses.is_loopback(host):
        return ""
    for name, effect in (("API_OPEN", "the API needs no token"), ("DEBUG", "error pages show source code")):
        if getattr(settings, name):
            return (
                f"{name}=1 is for this machine only ({effect}), but {host} can be reached by others: "
                f"set {name}=0 or listen on 127.0.0.1."
            )
    return ""


@register
def check_files(**_: Any) -> list[CheckMessage]:
    errors = _commands_file_errors()
    if settings.API_LOG_SPOOL and not Path(settings.API_LOG_SPOOL).parent.is_dir():
        message = f"API_LOG_SPOOL: there is no folder {Path(settings.API_LOG_SPOOL).parent}."
        errors.append(_error(10, message, "Make it, or write another path."))
    return errors


def _commands_file_errors() -> list[CheckMessage]:
    from tasks.commands.declared import CommandsFileError, all_commands

    secret = {name for name, setting in environment.SETTINGS.items() if setting.secret}
    secret |= environment.FILE_VARIANTS.keys()
    try:
        commands = all_commands().values()
    except CommandsFileError as exc:
        return [_error(10, f"COMMANDS_FILE: {exc.message}", "See COMMANDS_FILE in the README.")]
    return [
        _error(10, f"COMMANDS_FILE: {command.name} is given {name}, a secret of this lab.", f"Take {name} out of env.")
        for command in commands
        for name in sorted(secret & set(command.env))
    ]


@register(Tags.database)
def check_database(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    if not databases or "default" not in databases:
        return []
    problem = database_problem()
    errors: list[CheckMessage] = [_error(11, problem, "See DATABASE_URL in the README.")] if problem else []
    return errors or list(_connection_warnings())


def database_problem() -> str:
    """Why the database cannot be used, "" if it can."""
    where = "The embedded database" if settings.EMBEDDED_DATABASE else "The database of DATABASE_URL"
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding')"
            )
            version, encoding = cursor.fetchone()
    except DatabaseError as exc:
        return f"{where} does not answer: {_first_line(exc)}"
    if version < OLDEST_POSTGRESQL:
        return f"{where} is PostgreSQL {version}: version {OLDEST_POSTGRESQL} or newer is needed."
    if encoding != "UTF8":
        return f"{where} stores text as {encoding}: make a database with ENCODING 'UTF8'."
    return ""


def _first_line(exc: Exception) -> str:
    """The pool's message says only that it waited; the reason is in its log or in the cause."""
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__


def _connection_warnings() -> Iterator[CheckMessage]:
    wanted = (
        settings.WEB_WORKERS * (settings.WEB_THREADS + 2) + settings.TASKS_CONCURRENCY + 6 + CONNECTIONS_BESIDE_THE_POOL
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        )
        offered = cursor.fetchone()[0]
    if wanted > offered:
        yield Warning(
            f"Web server and one worker may open {wanted} database connections, the server accepts {offered}.",
            hint="Lower WEB_WORKERS, WEB_THREADS or TASKS_CONCURRENCY, or raise max_connections.",
            id="automation_lab.W002",
        )
