"""What the commands `web` and `live` share: check, then become the server."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from automation_lab import addresses, checks
from automation_lab.serving import servers
from automation_lab.serving.embedded_postgres import EmbeddedPostgres
from automation_lab.serving.process import become


class ServerCommand(BaseCommand):
    role: str
    default_port: int

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=self.default_port, help=f"Default: {self.default_port}.")
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: 127.0.0.1).")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        if settings.EMBEDDED_DATABASE:
            self._keep_database()
        problem = checks.exposure_problem(host) or checks.database_problem()
        if problem:
            raise CommandError(problem)
        try:
            addresses.check_port(host, port, "--port")
        except addresses.AddressProblem as exc:
            raise CommandError(str(exc)) from exc
        connections.close_all()
        command, environment = self.command_line(**options)
        become(command, {**servers.process_environment(self.role, host), **environment}, folder=servers.BASE_DIR)

    def _keep_database(self) -> None:
        """The server that the command becomes goes on using the embedded database."""
        server = EmbeddedPostgres(settings.DATA_DIR)
        server.start()
        os.set_inheritable(server.descriptor, True)

    def command_line(self, **options: Any) -> tuple[list[str], dict[str, str]]:
        """The program to become, and what it gets in its environment."""
        raise NotImplementedError
