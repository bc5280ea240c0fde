"""Webhooks taken in per second over HTTP: complete, without rate limits, without the API log, and a bare Django view.

Signed 7 kB webhooks with an id each come over 32 connections. All servers run at once, on ports of their own, and get
the load in turns, so that each ratio is of two neighbours in time; the median of the rounds is given.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import itertools
import statistics
import time
from dataclasses import dataclass, field

from lab import HOST, PUSH, Lab, free_port, lab

CONNECTIONS = 32
SECRET = "secret-of-the-benchmark"
SIGNATURE = hmac.new(SECRET.encode(), PUSH, hashlib.sha256).hexdigest()
HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    "User-Agent: GitHub-Hookshot/1a2b3c4\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: {delivery}\r\n"
    "X-Hub-Signature-256: sha256={signature}\r\n\r\n"
)
CLOSE = (
    "90000/minute"  # above what passes, so that nothing is refused, yet near it: the nearer, the more often it is asked
)
CREATE = "CREATE TABLE bare_webhook (id bigserial PRIMARY KEY, headers jsonb, body bytea, at timestamptz DEFAULT now())"
INTAKE = "/v1/webhooks/inbox/bench"


@dataclass
class Variant:
    name: str
    path: str = INTAKE
    application: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    port: int = 0
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def p99(self) -> float:
        ordered = sorted(self.latencies)
        return ordered[int(len(ordered) * 0.99)] * 1000


VARIANTS = [
    Variant("complete", settings={"INBOX_RATE_LIMIT": CLOSE}),
    Variant("no rate limits", settings={"INBOX_RATE_LIMIT": "0"}),
    Variant("no API log", settings={"INBOX_RATE_LIMIT": CLOSE, "API_LOG_ENABLED": "0"}),
    Variant("bare view", path="/receive", application="bare:application"),
    Variant("404", path="/nowhere", settings={"INBOX_RATE_LIMIT": CLOSE}),
    Variant("404, no API log", path="/nowhere", settings={"API_LOG_ENABLED": "0"}),
]
RATIOS = [
    ("complete", "bare view", 0.70),
    ("complete", "no rate limits", 0.90),
    ("complete", "no API log", 0.85),
    ("404", "404, no API log", None),
]
deliveries = itertools.count()


async def load(variant: Variant, seconds: float) -> None:
    """As many as are answered within `seconds`."""
    end = time.perf_counter() + seconds
    found = await asyncio.gather(*(_send(variant, end) for _ in range(CONNECTIONS)))
    taken = [duration for one in found for duration in one]
    variant.rates.append(len(taken) / seconds)
    variant.latencies += taken


async def _send(variant: Variant, end: float) -> list[float]:
    reader, writer = await asyncio.open_connection(HOST, variant.port)
    taken = []
    while (started := time.perf_counter()) < end:
        head = HEAD.format(path=variant.path, length=len(PUSH), delivery=next(deliveries), signature=SIGNATURE)
        writer.write(head.encode() + PUSH)
        answer = await reader.readuntil(b"\r\n\r\n")
        status, length = answer[9:12], int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        await reader.readexactly(length)
        assert status == (b"404" if variant.path == "/nowhere" else b"201"), answer
        taken.append(time.perf_counter() - started)
    writer.close()
    return taken


def prepare(running: Lab) -> None:
    from django.db import connection

    from inbox import services

    services.create_source(name="bench", scheme="github", secrets=[{"value": SECRET}])
    with connection.cursor() as cursor:
        cursor.execute(CREATE)
    for variant in VARIANTS:
        variant.port = free_port()
        running.start_web(variant.port, variant.application, **variant.settings)


def report() -> None:
    by_name = {variant.name: variant for variant in VARIANTS}
    for variant in VARIANTS:
        print(f"{variant.name:16} {statistics.median(variant.rates):7.0f} a second, p99 {variant.p99:.1f} ms")
    for name, other, bar in RATIOS:
        one, two = by_name[name], by_name[other]
        ratios = sorted(a / b for a, b in zip(one.rates, two.rates, strict=True))
        asked = f" (asked for: {bar})" if bar else ""
        print(
            f"{name} ÷ {other}: {statistics.median(ratios):.2f}{asked}, rounds {ratios[0]:.2f} to {ratios[-1]:.2f}; "
            f"p99 {one.p99 / two.p99:.2f} times"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each variant in each round")
    options = parser.parse_args()
    with lab() as running:
        prepare(running)
        for variant in VARIANTS:
            asyncio.run(load(variant, 2.0))
            variant.rates.clear(), variant.latencies.clear()
        for number in range(options.rounds):
            for variant in VARIANTS if number % 2 else reversed(VARIANTS):
                asyncio.run(load(variant, options.seconds))
        report()


if __name__ == "__main__":
    main()
