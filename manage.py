#!/usr/bin/env python
"""Django's command line; `./lab` calls it with the project's own Python.

Where no DATABASE_URL is set, the embedded database runs for as long as the command does.
"""

import argparse
import os
import sys
from pathlib import Path

WITHOUT_DATABASE = {
    "help",
    "version",
    "check",
    "up",
    "spectacular",
    "collectstatic",
    "findstatic",
    "diffsettings",
    "startapp",
    "forward",
    "listen",
}


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automation_lab.settings")
    _take_data_dir(sys.argv)
    from django.core.exceptions import ImproperlyConfigured

    from automation_lab.serving.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError

    try:
        server = EmbeddedPostgres(_data_dir()) if _needs_embedded_database(sys.argv) else None
        if server:
            server.start()
    except (ImproperlyConfigured, EmbeddedPostgresError) as exc:
        print(exc, file=sys.stderr)
        return 1
    try:
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        return 130
    finally:
        if server:
            _disconnect()
            server.release()
    return 0


def _take_data_dir(argv: list[str]) -> None:
    """`--data-dir` decides about settings, which are read before any command parses its options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data-dir")
    if argv[1:2] == ["up"] and (given := parser.parse_known_args(argv[2:])[0].data_dir):
        os.environ["DATA_DIR"] = str(Path(given).expanduser().absolute())


def _data_dir() -> Path:
    from django.conf import settings

    return settings.DATA_DIR


def _needs_embedded_database(argv: list[str]) -> bool:
    from django.conf import settings

    if not settings.EMBEDDED_DATABASE or {"-h", "--help", "--version"} & set(argv[1:]):
        return False
    asks_for_it = any(word.startswith("--database") for word in argv[2:])  # of `check`, which does without it otherwise
    return len(argv) > 1 and (argv[1] not in WITHOUT_DATABASE or asks_for_it)


def _disconnect() -> None:
    from django.apps import apps

    if apps.ready:
        from django.db import connections

        connections.close_all()
        for connection in connections.all(initialized_only=True):
            connection.close_pool()  # else it complains when the server ends while it still opens connections


if __name__ == "__main__":
    sys.exit(main())
