"""How the environment and `.env` become values: the table of all settings, and the helpers of `settings.py`.

Reading never fails. A value that cannot be used is replaced by its default and kept as a `Problem`; `checks.py` reports
all of them at once, and no command starts with one.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import environ
from django.core.exceptions import ImproperlyConfigured

from automation_lab.serving import embedded_postgres

CORES = os.cpu_count() or 1
LONGEST_RETENTION_DAYS = 36_500
LONGEST_GRACE_SECONDS = 86_400


class Setting(NamedTuple):
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int | None = None
    secret: bool = False
    """Can also be given as the path of a file, in NAME_FILE."""


class Problem(NamedTuple):
    """Why a value cannot be used, and what to write instead. Never contains the value of a secret."""

    name: str
    message: str
    hint: str


SETTINGS: dict[str, Setting] = {
    "DATABASE_URL": Setting(
        str,
        "",
        "PostgreSQL 15 or newer, postgresql://user:password@host:port/name; empty: the embedded server.",
        secret=True,
    ),
    "DATA_DIR": Setting(str, "var", "Folder of the embedded database and of the keys made at the first start."),
    "SECRET_KEY": Setting(
        str,
        "",
        "Signs sessions and links, 32 characters or more; empty: made at the first start and kept in DATA_DIR/secret_key.",
        secret=True,
    ),
    "DEBUG": Setting(bool, False, "Error pages with source code; only for development on this machine."),
    "ALLOWED_HOSTS": Setting(list, ["*"], "Host names that requests may name, separated by commas; * for any."),
    "CSRF_TRUSTED_ORIGINS": Setting(
        list, [], "Further origins whose forms are accepted, such as https://lab.example.com."
    ),
    "PUBLIC_URL": Setting(
        str, "", "The address under which senders and users reach the lab, such as https://lab.example.com."
    ),
    "TRUSTED_PROXIES": Setting(str, "", "Networks (CIDR) of the reverse proxies whose X-Forwarded-For is believed."),
    "ADMIN_USERNAME": Setting(str, "admin", "Name of the admin user made at the first start."),
    "ADMIN_PASSWORD": Setting(str, "", "Its password; empty: made up and printed once.", secret=True),
    "API_TOKEN": Setting(
        str, "", "A token (32 characters or more) to install at start; a new value replaces it.", secret=True
    ),
    "API_OPEN": Setting(
        bool, False, "Requests from this machine need no token; refused unless bound to a loopback address."
    ),
    "ENCRYPTION_KEYS": Setting(
        str,
        "",
        "Keys of the stored secrets, newest first, separated by commas; empty: made and kept in DATA_DIR.",
        secret=True,
    ),
    "OUTBOUND_ALLOW": Setting(str, "", "Private targets that may be called, such as 127.0.0.1:9000, 10.1.0.0/16:443."),
    "OUTBOUND_PORTS": Setting(str, "80,443,8080,8443", "Ports that may be called anywhere."),
    "COMMANDS_FILE": Setting(str, "", "JSON or TOML file with the named commands that tasks may run; empty: none."),
    "INBOX_ACCEPT_UNKNOWN": Setting(bool, True, "Webhooks are accepted from sources that nobody has set up."),
    "INBOX_MAX_BODY_BYTES": Setting(int, 1_048_576, "Largest webhook body.", minimum=1),
    "INBOX_RATE_LIMIT": Setting(
        str, "6000/minute", "Webhooks accepted per source: number/second, minute or hour; 0: no limit."
    ),
    "TASKS_CONCURRENCY": Setting(int, 20, "Executions that one worker runs at the same time.", minimum=1),
    "TASKS_PER_HOST": Setting(int, 0, "Runs of tasks that may call one host at the same time; 0: no limit."),
    "TASKS_GRACE_SECONDS": Setting(
        int, 25, "How long a stopping worker lets its executions finish.", maximum=LONGEST_GRACE_SECONDS
    ),
    "API_LOG_ENABLED": Setting(bool, True, "Requests below /v1/ are recorded."),
    "API_LOG_BODIES": Setting(
        str, "errors", "Which requests are recorded with bodies.", choices=("off", "errors", "all")
    ),
    "API_LOG_SPOOL": Setting(str, "", "Folder that keeps log rows across a crash of the web server; empty: none."),
    "RETENTION_WEBHOOKS_DAYS": Setting(
        int, 30, "How long webhooks are kept; 0: for ever.", maximum=LONGEST_RETENTION_DAYS
    ),
    "RETENTION_EXECUTIONS_DAYS": Setting(
        int, 30, "How long executions are kept; 0: for ever.", maximum=LONGEST_RETENTION_DAYS
    ),
    "RETENTION_API_LOGS_DAYS": Setting(
        int, 14, "How long the API log is kept; 0: for ever.", maximum=LONGEST_RETENTION_DAYS
    ),
    "RETENTION_API_LOG_HOURS_DAYS": Setting(
        int, 365, "How long its hourly figures are kept; 0: for ever.", maximum=LONGEST_RETENTION_DAYS
    ),
    "EMAIL_URL": Setting(
        str,
        "consolemail://",
        "Mail server, smtp://user:password@host:port or smtp+tls://…; default: printed.",
        secret=True,
    ),
    "DEFAULT_FROM_EMAIL": Setting(str, "automation-lab@localhost", "Sender of mail."),
    "LOG_FORMAT": Setting(str, "text", "Form of the log lines.", choices=("text", "json")),
    "LOG_LEVEL": Setting(
        str, "info", "Least severe lines shown.", choices=("debug", "info", "warning", "error", "critical")
    ),
    "WEB_WORKERS": Setting(int, max(1, CORES // 2), "Processes of the web server; default: half the cores.", minimum=1),
    "WEB_THREADS": Setting(int, 4, "Threads of each of them.", minimum=1),
    "LIVE_URL": Setting(str, "", "Address of the live port for browsers; empty: same host, live port."),
}
FILE_VARIANTS = {f"{name}_FILE": name for name, setting in SETTINGS.items() if setting.secret}
# Read by Docker Compose from the same file.
FOREIGN_PREFIXES = ("COMPOSE_", "DOCKER_", "POSTGRES_")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

problems: list[Problem] = []


class Env(environ.Env):
    """django-environ, strict: it would take a misspelt boolean for False, and `$…` in a password for another variable."""

    def __init__(self, values: Mapping[str, str], settings: Mapping[str, Setting], found: list[Problem]) -> None:
        super().__init__(**{name: (setting.type, setting.default) for name, setting in settings.items()})
        self.ENVIRON = values
        self._settings = settings
        self._found = found

    def get_value(self, var: str, cast: Any = None, default: Any = None, parse_default: bool = False) -> Any:
        setting = self._settings[var]
        text = self.ENVIRON.get(var, "").strip()
        if not text:
            return setting.default
        try:
            return _parse(text, setting)
        except ValueError as exc:
            shown = "its value" if setting.secret else repr(text)
            self._found.append(Problem(var, f"{var}: {shown} cannot be used.", str(exc)))
            return setting.default


def load(dotenv: Path, environment: Mapping[str, str] = os.environ, found: list[Problem] = problems) -> Env:
    """The typed reader; values of `environment` win over those of `dotenv`."""
    found.clear()
    values = {**_dotenv_values(dotenv, found), **environment}
    for variant, name in FILE_VARIANTS.items():
        if path := values.get(variant):
            values[name] = _file_value(variant, path, values.get(name, ""), found)
    return Env(values, SETTINGS, found)


def _parse(text: str, setting: Setting) -> Any:
    """Raises ValueError with the text that says what to write."""
    if setting.type is bool:
        if text.lower() not in TRUE + FALSE:
            raise ValueError("Write 1 for yes or 0 for no.")
        return text.lower() in TRUE
    if setting.type is int:
        return _parse_number(text, setting)
    if setting.type is list:
        return [item.strip() for item in text.split(",") if item.strip()]
    if setting.choices and text.lower() not in setting.choices:
        raise ValueError(f"Write one of {', '.join(setting.choices)}.")
    return text.lower() if setting.choices else text


def _parse_number(text: str, setting: Setting) -> int:
    number = int(text) if re.fullmatch(r"\d{1,12}", text) else -1
    if setting.minimum <= number <= (setting.maximum or number):
        return number
    limits = f"from {setting.minimum} to {setting.maximum}" if setting.maximum else f"{setting.minimum} or greater"
    raise ValueError(f"Write a whole number, {limits}, without unit.")


def _dotenv_values(dotenv: Path, found: list[Problem]) -> dict[str, str]:
    if not dotenv.is_file():
        return {}
    values: dict[str, str] = {}
    try:
        # A class of its own, because read_env writes into the class's ENVIRON, which is os.environ.
        type("DotEnv", (environ.Env,), {"ENVIRON": values}).read_env(dotenv)  # type: ignore[attr-defined]
        lines = dotenv.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ImproperlyConfigured(f"{dotenv} cannot be read: {exc}.") from exc
    found += [
        Problem(dotenv.name, f"Line {number} of {dotenv.name} is not understood.", "Write NAME=value.")
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#") and not re.match(r"(?:export )?[A-Za-z_0-9]+=", line)
    ]
    found += [
        Problem(name, f"{dotenv.name} sets {name}, which is no setting.", _suggestion(name))
        for name in values
        if name not in SETTINGS and name not in FILE_VARIANTS and not name.startswith(FOREIGN_PREFIXES)
    ]
    return values


def _suggestion(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name.upper(), [*SETTINGS, *FILE_VARIANTS], n=1, cutoff=0.75)
    return f"Do you mean {close[0]}?" if close else "Remove the line; the README lists all settings."


def near_misses(environment: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """Variables that look like misspelt settings, each with the name probably meant."""
    import difflib

    known = [*SETTINGS, *FILE_VARIANTS]
    found = []
    for name in environment:
        # Short names resemble too much of what other programs use.
        if len(name) < 7 or name in known or name.startswith(FOREIGN_PREFIXES):
            continue
        if close := difflib.get_close_matches(name, known, n=1, cutoff=0.88):
            found.append((name, close[0]))
    return found


def _file_value(variant: str, path: str, given: str, found: list[Problem]) -> str:
    name = FILE_VARIANTS[variant]
    if given:
        found.append(Problem(name, f"{name} and {variant} are both set.", "Keep one of them."))
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        found.append(
            Problem(
                variant, f"{variant}: {path} cannot be read ({reason}).", f"Write the path of a file that holds {name}."
            )
        )
        return given


def key_file(path: Path) -> str:
    """The key kept in `path` (mode 0600); made at the first start, also when several processes start at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _write_once(path, secrets.token_urlsafe(50))
        return path.read_text().strip()
    except OSError as exc:
        raise ImproperlyConfigured(
            f"{path} cannot be used ({exc.strerror}): set DATA_DIR to a folder that belongs to you, or start as its owner."
        ) from exc


def _write_once(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)  # appears whole or not at all, and never replaces the key of a faster process
    draft.unlink()


def database(url: str, data_dir: Path) -> dict[str, Any]:
    """Django's connection settings: of `url` (the SQLAlchemy spelling too), else of the embedded server below `data_dir`."""
    settings: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": embedded_postgres.DATABASE,
        "USER": embedded_postgres.USER,
        "HOST": str(embedded_postgres.socket_dir(data_dir)),
        "OPTIONS": {},
    }
    if not url:
        return settings
    try:
        return {**settings, "HOST": "", **_parse_database_url(url)}
    except ValueError as exc:
        problems.append(
            Problem(
                "DATABASE_URL",
                f"DATABASE_URL {exc}.",
                "Write postgresql://user:password@host:5432/name, special signs %-encoded.",
            )
        )
        return settings


def _parse_database_url(url: str) -> dict[str, Any]:
    """Raises ValueError, whose text does not repeat the URL."""
    scheme, separator, rest = url.partition("://")
    if scheme.removesuffix("+asyncpg").removesuffix("+psycopg") not in ("postgresql", "postgres") or not separator:
        raise ValueError("is not the address of a PostgreSQL server")
    try:
        parsed = environ.Env.db_url_config(f"postgresql://{rest}")
    except Exception:  # noqa: BLE001 - whatever the parser trips over, its text may contain the password
        raise ValueError("cannot be parsed") from None
    options = parsed.pop("OPTIONS", {})
    parsed["HOST"] = options.pop("host", "") or parsed["HOST"]
    if not parsed["NAME"]:
        raise ValueError("names no database")
    return {**parsed, "ENGINE": "django.db.backends.postgresql", "OPTIONS": options}


def email(url: str) -> dict[str, Any]:
    """Django's mail settings of `url`."""
    try:
        found: dict[str, Any] = environ.Env.email_url_config(url)
        if found["EMAIL_BACKEND"].endswith("smtp.EmailBackend") and not found["EMAIL_HOST"]:
            raise ValueError("names no host")
        return found
    except (ImproperlyConfigured, ValueError):
        hint = "Write smtp://user:password@host:25, smtp+tls://user:password@host:587, smtp+ssl://… or consolemail://."
        problems.append(Problem("EMAIL_URL", "EMAIL_URL is not the address of a mail server.", hint))
        return environ.Env.email_url_config("consolemail://")


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"()": "automation_lab.core.correlation.TextFormatter"},
            "json": {"()": "automation_lab.core.correlation.JsonFormatter"},
        },
        "filters": {
            "correlation": {"()": "automation_lab.core.correlation.CorrelationFilter"},
            "outage": {"()": "automation_lab.logs.OutageFilter"},
        },
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "formatter": log_format,
                "filters": ["correlation", "outage"],
            }
        },
        "loggers": {
            "procrastinate": {"level": "WARNING"},  # it tells about each job and at each start
            "axes": {"level": "WARNING"},  # it tells about each sign-in; the audit pages have them
            "django.request": {"level": "ERROR"},  # refused requests stand in the API log
            "httpx": {"level": "WARNING"},  # these show whole URLs and headers, which may be credentials
            "httpcore": {"level": "WARNING"},
        },
        "root": {"handlers": ["console"], "level": level.upper()},
    }
