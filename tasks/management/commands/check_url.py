"""manage.py check_url: may this installation call a URL, and which rule says so. Nothing is sent."""

from __future__ import annotations

import socket
from argparse import ArgumentParser
from typing import Any

from automation_lab.core import outbound
from automation_lab.core.commands import FAILED, LabCommand
from automation_lab.core.outbound.syntax import Blocked, parse_url


class Command(LabCommand):
    """Say whether a URL may be called. Looks its name up, sends nothing."""

    help = "Say whether a URL may be called. Looks its name up, sends nothing. Exit code 0: it may; 1: it is refused."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url")
        parser.add_argument("--explain", action="store_true", help="show every rule that was asked")

    def work(self, *, url: str, explain: bool, **options: Any) -> int:
        policy = outbound.policy_from_settings()
        findings = outbound.explain(url, policy)
        if findings[-1].outcome != "refused":
            addresses, problem = _addresses(url)
            if problem:
                self.stdout.write(f"refused  dns  {problem}")
                return FAILED
            findings = outbound.explain(url, policy, addresses)
        for finding in findings if explain else findings[-1:]:
            self.stdout.write(f"{finding.outcome}  {finding.rule}  {finding.detail}")
        return FAILED if findings[-1].outcome == "refused" else 0


def _addresses(url: str) -> tuple[list[str], str]:
    """The addresses of the URL's name and, if it has none, why."""
    try:
        target = parse_url(url)
    except Blocked as blocked:
        return [], blocked.message
    if target.address is not None:
        return [], ""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return [], f"{target.host} could not be looked up: {error.strerror}"
    return list(dict.fromkeys(str(entry[4][0]) for entry in found)), ""
