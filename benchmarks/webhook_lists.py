"""The list of webhooks with each filter among two million: what its statements take in the database, API and console.

Filling takes minutes and 8 GB of disk; with --data-dir the filled database is kept and used again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import TOKEN, database

if TYPE_CHECKING:
    from inbox.models import Webhook

ROUNDS = 5
BATCH = 20_000
DIFFERENT = 200_000  # the rest repeats them later, so that what is in one of them is in ten of two million
INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = 'webhook_inbox' AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""
START = datetime(2026, 1, 1, tzinfo=UTC)
ACTIONS = ("opened", "closed", "edited", "labeled")


def webhook(number: int, commits: int) -> Webhook:
    """Like a push of GitHub; what it holds is more or less common."""
    rare = number % 100_003 == 0
    event = "rare" if rare else "push" if number % 2 == 0 else f"type-{number % 30}"
    source = "retired" if number < 50 else "github" if number % 2 == 0 else f"source-{number % 40}"
    digit = number % 100
    status = "processed" if digit < 94 else "received" if digit < 97 else "failed" if digit < 99 else "rejected"
    body = {
        "ref": "refs/heads/main" if number % 3 == 0 else f"refs/heads/topic-{number % 70_000}",
        "action": ACTIONS[number // 2 % 4],
        "number": number % 1_000_000,
        "repository": {
            "id": number % 5_000,
            "full_name": f"octo/repo-{number % 5_000}",
            "private": False,
            "owner": {"login": f"team-{number % 300}"},
        },
        "sender": {"login": f"user-{number % 20_000}", "type": "User"},
        "incident": "severe" if number % 100_000 == 7 else None,
        "commits": [
            {
                "id": md5(f"i{number}-{commit}"),
                "message": md5(f"m{number}-{commit}") * 4,
                "author": {"name": f"user-{(number + commit) % 7_000}"},
            }
            for commit in range(commits)
        ],
    }
    raw = json.dumps(body).encode()
    headers = [
        ["Host", "lab.example.com"],
        ["Content-Type", "application/json"],
        ["User-Agent", "GitHub-Hookshot/1a2b3c4"],
        ["X-Github-Event", event],
        ["X-Github-Delivery", md5(str(number))],
        ["X-Github-Hook-Id", str(number % 300)],
        ["X-Hub-Signature-256", f"sha256={md5(f's{number}')}{md5(f't{number}')}"],
    ]
    at = START + timedelta(seconds=4 * number)
    from inbox.models import Webhook

    return Webhook(
        created_at=at, updated_at=at, received_at=at, source=source, event_type=event, status=status,
        method="GET" if number % 500 == 0 else "POST", path=f"/v1/webhooks/inbox/{source}", headers=headers, body=body,
        raw_body=raw, content_type="application/json", size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest(),
        remote_addr="192.0.2.7", delivery_id=md5(str(number)), dedupe_key=md5(str(number)),
        is_duplicate=digit == 1, verification="mismatch" if status == "rejected" else "verified",
        matched_secret="a1b2c3d4",  # noqa: S106 - the id of one
        flags=["duplicate_keys"] if number % 1_000 == 3 else [],
        correlation_id=md5(f"c{number}"),
    )  # fmt: skip


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


FILTERS = [
    "",
    "source=github",
    "source=source-3",
    "source=retired",
    "source=nobody",
    "event_type=push",
    "event_type=rare",
    "source=github&event_type=push",
    "source=source-3&event_type=rare",
    "source=retired&status=failed",
    "status=processed",
    "status=failed",
    "status=rejected",
    "method=POST",
    "method=GET",
    "method=DELETE",
    "verification=verified",
    "verification=mismatch",
    "verification=stale",
    "is_duplicate=true",
    "is_duplicate=false",
    "flag=duplicate_keys",
    "flag=conflict",
    f"delivery_id={md5('777')}",
    f"correlation_id={md5('c777')}",
    "received_after=2026-01-02&received_before=2026-01-03",
    "received_before=2026-01-02",
    "received_after=2026-04-03T10:00:00Z",
    "received_after=2026-01-02&received_before=2026-01-03&source=github",
    "received_after=2026-01-02&received_before=2026-02-03&status=failed",
    "received_after=2026-01-02&received_before=2026-03-03&source=retired",
    "header.X-GitHub-Event=push",
    "header.X-GitHub-Event=type-7",
    "header.X-GitHub-Event=rare",
    "header.X-GitHub-Hook-Id=77",
    f"header.X-GitHub-Delivery={md5('777')}",
    "header.X-GitHub-Event=nothing",
    "body.action=opened",
    "body.ref=refs/heads/main",
    "body.ref=refs/heads/topic-77",
    "body.repository.full_name=octo/repo-77",
    "body.repository.full_name=octo/nothing",
    "body.repository.owner.login=team-77",
    "body.sender.login=user-77",
    "body.number=777",
    "body.incident=severe",
    "body.incident=none",
    "body.repository.private=false",
    "body.commits.*.author.name=user-77",
    "body.commits.1.author.name=user-77",
    "body.action=opened&body.sender.login=user-77",
    "header.X-GitHub-Event=push&body.repository.owner.login=team-77",
    "source=source-3&body.repository.owner.login=team-77",
    "source=retired&body.action=opened",
    "status=failed&body.repository.full_name=octo/repo-77",
    "q=user-77",
    "q=nothing-like-this",
    "q=user-77&source=source-3",
    "q=nothing-like-this&body.repository.owner.login=team-77",
]
OF_CONSOLE = ["received_at__year=2026&received_at__month=1&received_at__day=2", "p=150"]
OF_API = ["page=190&size=50", "ordering=received_at", "cursor=", "size=100"]


def fill(rows: int, commits: int) -> None:
    """In the order of time; the indexes are built afterwards, which takes half as long."""
    from django.db import connection

    from inbox.models import Webhook

    fields = [field for field in Webhook._meta.concrete_fields if field.name != "id"]
    columns = ", ".join(str(field.column) for field in fields)
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM webhook_inbox")
        if cursor.fetchone()[0]:
            return
        cursor.execute(INDEXES)
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        started = time.monotonic()
        different = min(rows, DIFFERENT)
        for start in range(0, different, BATCH):
            last = min(start + BATCH, different)
            with cursor.copy(f"COPY webhook_inbox ({columns}) FROM STDIN") as copy:
                for number in range(start + 1, last + 1):
                    row = webhook(number, commits)
                    values = [field.get_db_prep_save(field.pre_save(row, add=True), connection) for field in fields]
                    copy.write_row(values)
            print(f"\r{last:,} rows, {time.monotonic() - started:.0f} s", end="", flush=True)
        for start in range(different, rows, different):
            cursor.execute(repetition(columns), {"last": different, "shift": 4 * start, "salt": str(start)})
            print(f"\r{start + different:,} rows, {time.monotonic() - started:.0f} s", end="", flush=True)
        cursor.execute("SET maintenance_work_mem = '512MB'")
        for name, definition in indexes:
            cursor.execute(definition)
            print(f"\r{name}, {time.monotonic() - started:.0f} s       ", end="", flush=True)
        print()
        cursor.execute("VACUUM (ANALYZE) webhook_inbox")


def repetition(columns: str) -> str:
    """The same webhooks again, each with a time and ids of its own."""
    later = {name: f"{name} + %(shift)s * interval '1 second'" for name in ("created_at", "updated_at", "received_at")}
    own = {name: f"md5({name} || %(salt)s)" for name in ("delivery_id", "dedupe_key", "correlation_id")}
    values = ", ".join({**later, **own}.get(name, name) for name in columns.split(", "))
    return f"INSERT INTO webhook_inbox ({columns}) SELECT {values} FROM webhook_inbox WHERE id <= %(last)s ORDER BY id"  # noqa: S608


class Stopwatch:
    """The statements on webhooks and what each took, its journey through the socket included."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, str]] = []

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            if "webhook_inbox" in sql:
                self.taken.append((time.perf_counter() - started, sql))


@contextmanager
def timed() -> Iterator[Stopwatch]:
    from django.db import connection

    stopwatch = Stopwatch()
    with connection.execute_wrapper(stopwatch):
        yield stopwatch


def measure(get: Callable[[str], Any], query: str) -> tuple[float, float, str]:
    """Milliseconds of all statements of a page, of the slowest, and which; the medians of the rounds, warm."""
    totals, slowest = [], []
    get(query)
    for _ in range(ROUNDS):
        with timed() as stopwatch:
            answer = get(query)
        assert answer.status_code == 200, (query, answer.status_code, answer.content[:200])
        totals.append(sum(seconds for seconds, _ in stopwatch.taken))
        slowest.append(max(stopwatch.taken, default=(0.0, "")))
    worst = sorted(slowest)[len(slowest) // 2]
    return statistics.median(totals) * 1000, worst[0] * 1000, worst[1]


def report(title: str, get: Callable[[str], Any], queries: list[str], *, only: str, show_sql: bool) -> None:
    print(f"\n{title}: ms of all statements, ms of the slowest", flush=True)
    found = []
    for query in queries:
        if only in query:
            total, slowest, sql = measure(get, query)
            found.append((total, slowest, query))
            print(f"{total:9.1f} {slowest:9.1f}  {query or '(none)'}", flush=True)
            if show_sql:
                print(sql)
    if found:
        slow = max(found, key=lambda row: row[1])
        print(f"slowest statement: {slow[1]:.1f} ms with {slow[2] or '(none)'}", flush=True)


def clients() -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    settings.ALLOWED_HOSTS = ["testserver"]
    console = Client()
    user, _ = User.objects.get_or_create(username="benchmark", is_staff=True, is_superuser=True)
    console.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    api = Client(headers={"Authorization": f"Bearer {TOKEN}"})
    return (
        lambda query: api.get(f"/v1/webhooks/inbox?{query}"),
        lambda query: console.get(f"/admin/inbox/webhook/?{query}"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--commits", type=int, default=2, help="in each body: 2 make 1 kB, 28 make 7 kB")
    parser.add_argument("--data-dir", type=Path, help="keep the filled database here")
    parser.add_argument("--only", default="", help="filters that hold this text")
    parser.add_argument("--sql", action="store_true", help="show the slowest statement of each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(options.data_dir or Path(folder)):
        fill(options.rows, options.commits)
        api, console = clients()
        report("API", api, [*FILTERS, *OF_API], only=options.only, show_sql=options.sql)
        report("Console", console, [*FILTERS, *OF_CONSOLE], only=options.only, show_sql=options.sql)


if __name__ == "__main__":
    main()
