"""`manage.py verify_signature`: whether a request that was saved to files is signed as a source wants it, and why not."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.utils.dateparse import parse_datetime

from automation_lab.core.commands import FAILED, LabCommand
from automation_lab.core.exceptions import Invalid, NotFound
from inbox.incoming import IncomingRequest
from inbox.models import Source
from inbox.secrets import signing_secrets
from inbox.verification import judge
from inbox.verification.context import Context, public_url, usable
from inbox.verification.explain import explain

REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (\S+) HTTP/[0-9.]+")


class Command(LabCommand):
    """Verify a saved request; the exit code is 0 if it verifies, else 1."""

    help = "Verify a saved request by a source's scheme and secrets; says what does not match. Exit code 1 if refused."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--source", required=True, help="the name of the source")
        parser.add_argument(
            "--headers", required=True, type=Path, help='"Name: value" lines, with or without the request line, or JSON'
        )
        parser.add_argument("--body", required=True, type=Path, help="the exact bytes")
        parser.add_argument("--method", default="POST")
        parser.add_argument("--path", help="with its query, as it was called; default: that of the source")
        parser.add_argument("--at", help="when it came, such as 2026-05-01T12:00:00Z; default: now")

    def work(self, **options: Any) -> int:
        source = Source.objects.filter(name=options["source"]).first()
        if source is None:
            raise NotFound(f"There is no source {options['source']}.")
        source.allowed_addresses = []  # a file comes from no address
        request, now = _request(options), datetime.now(UTC)
        received_at = _instant(options["at"]) or now
        verdict = judge.verify(source, request, now=now, received_at=received_at)
        with_secret = f" with the secret {verdict.secret_id}" if verdict.accepted and verdict.secret_id else ""
        self.stdout.write(f"{verdict.result}{with_secret}")
        if verdict.accepted:
            return 0
        secrets = signing_secrets(source)
        url = public_url(request, source.scheme_settings)
        context = Context(request, usable(secrets, now), received_at, url, source.scheme_settings)
        for finding in explain(source.scheme, verdict, context, secrets, now=now):
            self.stdout.write(f"- {finding}")
        return FAILED


def _request(options: dict[str, Any]) -> IncomingRequest:
    method, path, headers = _parse_headers(_read(options["headers"]).decode("latin-1"))
    where = urlsplit(options["path"] or path or f"/v1/webhooks/inbox/{options['source']}")
    return IncomingRequest(
        method=method or options["method"].upper(),
        path=where.path,
        query_string=where.query,
        query_params=[list(pair) for pair in parse_qsl(where.query, keep_blank_values=True)],
        headers=headers,
        raw_body=_read(options["body"]),
    )


def _parse_headers(text: str) -> tuple[str, str, list[list[str]]]:
    """Method and path, if there is a request line, and the headers."""
    if text.lstrip()[:1] in ("{", "["):
        return "", "", _from_json(text)
    method = path = ""
    headers = []
    for number, line in enumerate(text.splitlines()):
        if number == 0 and (match := REQUEST_LINE.fullmatch(line.strip())):
            method, path = match[1], match[2]
            continue
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon:
            raise Invalid(f"Line {number + 1} of the headers is not written as Name: value.")
        headers.append([name.strip(), value.strip()])
    return method, path, headers


def _from_json(text: str) -> list[list[str]]:
    """An object, or pairs as the API gives them."""
    try:
        value = json.loads(text.encode("latin-1").decode())
        pairs = value.items() if isinstance(value, dict) else value
        return [[str(name), str(content)] for name, content in pairs]
    except (ValueError, TypeError) as error:
        raise Invalid('The headers are neither an object nor pairs, such as [["Name", "value"]].') from error


def _instant(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        instant = parse_datetime(text)
    except ValueError:
        instant = None
    if instant is None:
        raise Invalid("--at is an instant such as 2026-05-01T12:00:00Z.")
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.") from error
