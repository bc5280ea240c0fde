"""`manage.py send`: test webhooks, signed as the provider of a source would sign them."""

from __future__ import annotations

import sys
import time
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
from django.conf import settings
from django.core.management.base import CommandError

from automation_lab.core.commands import FAILED
from automation_lab.core.exceptions import Invalid, NotFound
from automation_lab.core.http import HttpError, HttpResponse
from inbox.management.lab_server import RemoteLabCommand
from inbox.models import Source
from inbox.presets import PRESETS
from inbox.replaying import signing_requests
from inbox.replaying.signing_requests import Signer, Unsigned
from inbox.streaming.following import client_for

MOST = 100_000
FASTEST = 1_000.0


@dataclass(frozen=True)
class Signing:
    """How the requests are signed; without a signer they are not. `settings` are the source's scheme settings."""

    scheme: str = "none"
    signer: Signer | None = None
    settings: dict[str, Any] | None = None


class Command(RemoteLabCommand):
    """Send test webhooks to a source."""

    help = "Send test webhooks to a source; --sign signs them by its scheme, with its own secret."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", help="the name of the source")
        parser.add_argument("--file", help="the body; - is the standard input; without one, {}")
        parser.add_argument("--method", default="POST")
        parser.add_argument("--event", default="", help="its event type, where the source's scheme has it")
        parser.add_argument(
            "--header", action="append", default=[], type=_header, metavar="NAME:VALUE", help="may be repeated"
        )
        parser.add_argument("--sign", action="store_true", help="sign by the source's scheme, read from this database")
        parser.add_argument("--scheme", choices=sorted(PRESETS), help="sign by this scheme, for a source elsewhere")
        parser.add_argument("--secret-file", type=Path, help="the secret for --scheme")
        parser.add_argument("--private-key", type=Path, help="PEM, for schemes whose secret is a public key")
        parser.add_argument("--count", type=int, default=1, help=f"how many, up to {MOST:,}")
        parser.add_argument("--rate", type=float, default=0.0, help="how many a second; default: one after the other")
        parser.add_argument("--server", help="the lab's address; default PUBLIC_URL, or this machine")

    def work(self, **options: Any) -> int:
        if not 1 <= options["count"] <= MOST or not 0 <= options["rate"] <= FASTEST:
            raise self.usage(f"--count is from 1 to {MOST:,}, --rate from 0 (none) to {FASTEST:g}.")
        try:
            statuses = self._send_all(options)
        except KeyboardInterrupt:
            return 0
        if options["count"] > 1:
            self.say(", ".join(f"{number} answered {status}" for status, number in sorted(statuses.items())))
        return 0 if all(200 <= status < 300 for status in statuses) else FAILED

    def _send_all(self, options: dict[str, Any]) -> Counter[int]:
        server, signing, body = self.server(options), _signing(options), _body(options["file"])
        http, statuses, started = client_for(server), Counter[int](), time.monotonic()
        for number in range(options["count"]):
            if options["rate"] and number:
                time.sleep(max(0.0, started + number / options["rate"] - time.monotonic()))
            request, url = build(options, signing, body, server)
            try:
                response = http.request(
                    request.method, url, headers=request.headers, content=request.body, timeout_seconds=30
                )
            except HttpError as error:
                raise CommandError(f"{server}: {error.message}") from error
            statuses[response.status_code] += 1
            self.put(line(response))
        return statuses


def build(options: dict[str, Any], signing: Signing, body: bytes, server: str) -> tuple[Unsigned, str]:
    """The next request, signed if it is to be, and where it goes."""
    path, query = f"/v1/webhooks/inbox/{options['source']}", ""
    headers = dict(options["header"])
    if not _has(headers, "content-type"):
        headers["Content-Type"] = "application/json" if _is_json(body) else "text/plain; charset=utf-8"
    preset, message_id = PRESETS[signing.scheme], str(uuid.uuid4())
    if options["event"] and not _fill(headers, preset.event_type, options["event"]):
        query = f"?{urlencode({'event_type': options['event']})}"
    _fill(headers, preset.delivery_id, message_id)
    request = Unsigned(
        method=options["method"].upper(),
        url=_known_address(options, path, server) + query,
        headers=list(headers.items()),
        body=body,
        message_id=message_id,
        now_seconds=int(time.time()),
        named_url=str((signing.settings or {}).get("url", "")),
    )
    return _signed(request, signing, server + path + query)


def line(response: HttpResponse) -> str:
    try:
        answer = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        answer = {}
    answer = answer if isinstance(answer, dict) else {}
    words = (
        [f"#{answer['id']}", "duplicate" if answer.get("duplicate") else answer.get("status")] if "id" in answer else []
    )
    detail = answer.get("detail", "")
    return "  ".join(str(word) for word in [response.status_code, *words, detail, f"{response.elapsed_ms} ms"] if word)


def _signed(request: Unsigned, signing: Signing, url: str) -> tuple[Unsigned, str]:
    if signing.signer is None:
        return request, url
    signed = signing_requests.sign(request, signing.signer, scheme=signing.scheme, settings=signing.settings or {})
    headers = {**dict(request.headers), **signed.headers}
    if signed.url != request.url:  # what a scheme adds to the address is sent, too
        url += signed.url[len(request.url) :]
    return Unsigned(
        request.method, url, list(headers.items()), signed.body, request.message_id, request.now_seconds
    ), url


def _known_address(options: dict[str, Any], path: str, server: str) -> str:
    """The address as the lab will take it, or an empty text: a lab without PUBLIC_URL takes none from a request."""
    known = settings.PUBLIC_URL or (server if options["server"] else "")
    return known + path if known else ""


def _signing(options: dict[str, Any]) -> Signing:
    private_key = _read(options["private_key"]) if options["private_key"] else b""
    if options["scheme"]:
        secret = _read(options["secret_file"]).decode().strip() if options["secret_file"] else ""
        return Signing(options["scheme"], Signer(secret, private_key), {})
    if not options["sign"]:
        return Signing()
    source = Source.objects.filter(name=options["source"]).first()
    if source is None:
        raise NotFound(f"There is no source {options['source']} here: give --scheme and --secret-file.")
    secret = signing_requests.current_secret(source)
    return Signing(source.scheme, Signer(secret, private_key), source.scheme_settings)


def _body(name: str | None) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    return _read(Path(name)) if name else b"{}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.") from error


def _fill(headers: dict[str, str], places: tuple[str, ...], value: str) -> bool:
    """Put `value` into the first of `places` that is a header, unless that one is given. False if none is a header."""
    names = [place.removeprefix("header:") for place in places if place.startswith("header:") and "+" not in place]
    if names and not _has(headers, names[0]):
        headers[names[0]] = value
    return bool(names)


def _has(headers: dict[str, str], name: str) -> bool:
    return any(given.lower() == name.lower() for given in headers)


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ArgumentTypeError("a header is written NAME:VALUE")
    return name.strip(), value.strip()
