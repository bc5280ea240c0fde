"""`manage.py live`: the live port alone, as containers run it."""

from __future__ import annotations

from typing import Any

from automation_lab.serving import servers
from automation_lab.serving.server_command import ServerCommand


class Command(ServerCommand):
    help = "Run the live port (WebSockets)."
    role = "live"
    default_port = 8001

    def command_line(self, **options: Any) -> tuple[list[str], dict[str, str]]:
        return servers.live_command(host=options["host"], port=options["port"]), {}
