"""Commands that talk to a lab over its API: the options by which they name it and their token, and what they choose."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings

from automation_lab.core.commands import LabCommand
from automation_lab.core.exceptions import Invalid
from inbox.streaming.following import normalised_server

LOCAL_SERVER = "http://127.0.0.1:8000"


class RemoteLabCommand(LabCommand):
    """It needs no database of its own."""

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--server", help=f"the lab's address; default PUBLIC_URL, or {LOCAL_SERVER}")
        parser.add_argument("--token", default="", help="an API token; default API_TOKEN (better: --token-file)")
        parser.add_argument("--token-file", type=Path, help="a file that holds the token")

    def server(self, options: dict[str, Any]) -> str:
        return normalised_server(options["server"] or settings.PUBLIC_URL or LOCAL_SERVER)

    def token(self, options: dict[str, Any]) -> str:
        if options["token_file"] is None:
            return options["token"] or settings.API_TOKEN
        try:
            return options["token_file"].read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"{options['token_file']} cannot be read: {error}") from error

    def say(self, text: str) -> None:
        """A line for the person, apart from the output."""
        self.stderr.write(text)
        self.stderr.flush()

    def put(self, text: str) -> None:
        """A line of the output, visible at once in a pipe too."""
        self.stdout.write(text)
        self.stdout.flush()


def add_selection(parser: ArgumentParser) -> None:
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="names of sources; none: all")
    parser.add_argument(
        "--events", nargs="+", action="extend", default=[], metavar="TYPE", help="only these event types"
    )
    parser.add_argument(
        "--status",
        nargs="+",
        action="extend",
        default=[],
        choices=["received", "rejected"],
        help="the status on arrival; received: whatever came of it since; default: all but rejected and handshakes",
    )
    parser.add_argument("--since", help="begin in the past: 30m, 2h, 1d, or an instant")


def selection(options: dict[str, Any]) -> list[tuple[str, str]]:
    """The filters of the stream that these options mean."""
    given = {"source": options["sources"], "event_type": options["events"], "status": options["status"]}
    return [(name, value) for name, values in given.items() for value in values]
