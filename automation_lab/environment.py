"""How the environment and `.env` become values: the known settings, their types and defaults, and helpers."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import environ

from automation_lab import embedded_postgres

CORES = os.cpu_count() or 1

SETTINGS: dict[str, tuple[type, Any]] = {
    "DATABASE_URL": (str, ""),
    "DATA_DIR": (str, "var"),
    "SECRET_KEY": (str, ""),
    "DEBUG": (bool, False),
    "ALLOWED_HOSTS": (list, ["*"]),
    "CSRF_TRUSTED_ORIGINS": (list, []),
    "PUBLIC_URL": (str, ""),
    "TRUSTED_PROXIES": (str, ""),
    "ADMIN_USERNAME": (str, "admin"),
    "ADMIN_PASSWORD": (str, ""),
    "API_TOKEN": (str, ""),
    "API_OPEN": (bool, False),
    "ENCRYPTION_KEYS": (str, ""),
    "OUTBOUND_ALLOW": (str, ""),
    "OUTBOUND_PORTS": (str, "80,443,8080,8443"),
    "COMMANDS_FILE": (str, ""),
    "INBOX_ACCEPT_UNKNOWN": (bool, True),
    "INBOX_MAX_BODY_BYTES": (int, 1_048_576),
    "INBOX_RATE_LIMIT": (str, "6000/minute"),
    "TASKS_CONCURRENCY": (int, 20),
    "TASKS_GRACE_SECONDS": (int, 25),
    "API_LOG_ENABLED": (bool, True),
    "API_LOG_BODIES": (str, "errors"),
    "API_LOG_SPOOL": (str, ""),
    "RETENTION_WEBHOOKS_DAYS": (int, 30),
    "RETENTION_EXECUTIONS_DAYS": (int, 30),
    "RETENTION_API_LOGS_DAYS": (int, 14),
    "RETENTION_API_LOG_HOURS_DAYS": (int, 365),
    "EMAIL_URL": (str, "consolemail://"),
    "DEFAULT_FROM_EMAIL": (str, "automation-lab@localhost"),
    "LOG_FORMAT": (str, "text"),
    "LOG_LEVEL": (str, "info"),
    "WEB_WORKERS": (int, max(1, CORES // 2)),
    "WEB_THREADS": (int, 4),
    "LIVE_URL": (str, ""),
}


def load(dotenv: Path) -> environ.Env:
    """The typed reader; values of the environment win over those of `dotenv`."""
    if dotenv.is_file():
        environ.Env.read_env(dotenv)
    return environ.Env(**SETTINGS)


def key_file(path: Path) -> str:
    """The key kept in `path` (mode 0600); made at the first start, also when several processes start at once."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # appears whole or not at all, and never replaces the key of a faster process
        draft.unlink()
    return path.read_text().strip()


def database(url: str, data_dir: Path) -> dict[str, Any]:
    """Django's connection settings: of `url` (the SQLAlchemy spelling too), else of the embedded server below `data_dir`."""
    if url:
        return environ.Env.db_url_config(url.replace("postgresql+asyncpg://", "postgresql://", 1))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": embedded_postgres.DATABASE,
        "USER": embedded_postgres.USER,
        "HOST": str(embedded_postgres.socket_dir(data_dir)),
    }


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {"procrastinate.blueprints": {"level": "WARNING"}},  # speaks at every start of every command
        "root": {"handlers": ["console"], "level": level},
    }
