"""`manage.py web`: the web server alone, as containers run it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from automation_lab.serving import servers
from automation_lab.serving.server_command import ServerCommand


class Command(ServerCommand):
    help = "Run the console and the API."
    role = "web"
    default_port = 8000

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--live-port", type=int, default=8001, help="Where browsers find the live port (default: 8001)."
        )

    def command_line(self, **options: Any) -> tuple[list[str], dict[str, str]]:
        command = servers.web_command(
            host=options["host"], port=options["port"], workers=settings.WEB_WORKERS, threads=settings.WEB_THREADS
        )
        return command, {"LAB_LIVE_PORT": str(options["live_port"])}
