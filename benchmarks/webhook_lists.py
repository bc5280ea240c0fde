"""The list of webhooks with each filter among two million: what its statements take in the database, API and console.

Filling takes minutes and 8 GB of disk; with --data-dir the filled database is kept and used again.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import TOKEN, database

ROUNDS = 5
BATCH = 50_000
FILL = """
    INSERT INTO webhook_inbox (
        created_at, updated_at, received_at, source, event_type, status, method, path, query_params, query_string,
        headers, body, raw_body, content_type, size_bytes, sha256, remote_addr, delivery_id, dedupe_key, is_duplicate,
        duplicate_count, verification, matched_secret, flags, error_message, notes, correlation_id
    )
    SELECT at, at, at, source, event, status, CASE WHEN g %% 500 = 0 THEN 'GET' ELSE 'POST' END,
        '/v1/webhooks/inbox/' || source, '[]', '', headers, body, convert_to(body::text, 'UTF8'), 'application/json',
        length(body::text), encode(sha256(convert_to(body::text, 'UTF8')), 'hex'), '192.0.2.7', md5(g::text),
        md5(g::text), g %% 100 = 1, 0, CASE WHEN status = 'rejected' THEN 'mismatch' ELSE 'verified' END, 'a1b2c3d4',
        CASE WHEN g %% 1000 = 3 THEN '{duplicate_keys}'::text[] ELSE '{}' END, '', '', md5('c' || g)
    FROM (
        SELECT g, at, source, event, status,
            jsonb_build_array(
                jsonb_build_array('Host', 'lab.example.com'),
                jsonb_build_array('Content-Type', 'application/json'),
                jsonb_build_array('User-Agent', 'GitHub-Hookshot/1a2b3c4'),
                jsonb_build_array('X-Github-Event', event),
                jsonb_build_array('X-Github-Delivery', md5(g::text)),
                jsonb_build_array('X-Github-Hook-Id', (g %% 300)::text),
                jsonb_build_array('X-Hub-Signature-256', 'sha256=' || md5('s' || g) || md5('t' || g))
            ) AS headers,
            jsonb_build_object(
                'ref', CASE WHEN g %% 3 = 0 THEN 'refs/heads/main' ELSE 'refs/heads/topic-' || g %% 70000 END,
                'action', (ARRAY['opened', 'closed', 'edited', 'labeled'])[1 + g %% 4],
                'number', g %% 1000000,
                'repository', jsonb_build_object(
                    'id', g %% 5000, 'full_name', 'octo/repo-' || g %% 5000, 'private', false,
                    'owner', jsonb_build_object('login', 'team-' || g %% 300)
                ),
                'sender', jsonb_build_object('login', 'user-' || g %% 20000, 'type', 'User'),
                'incident', CASE WHEN g %% 100000 = 7 THEN 'severe' END,
                'commits', (
                    SELECT jsonb_agg(jsonb_build_object(
                        'id', md5('i' || g || '-' || c), 'message', repeat(md5('m' || g || '-' || c), 4),
                        'author', jsonb_build_object('name', 'user-' || (g + c) %% 7000)
                    ))
                    FROM generate_series(1, %(commits)s) c
                )
            ) AS body
        FROM (
            SELECT g, timestamptz '2026-01-01' + g * interval '4 seconds' AS at,
                CASE WHEN g < 50 THEN 'retired' WHEN g %% 2 = 0 THEN 'github' ELSE 'source-' || g %% 40 END AS source,
                CASE WHEN g %% 2 = 0 THEN 'push' WHEN g %% 100003 = 0 THEN 'rare' ELSE 'type-' || g %% 30 END AS event,
                CASE WHEN g %% 100 < 94 THEN 'processed' WHEN g %% 100 < 97 THEN 'received'
                    WHEN g %% 100 < 99 THEN 'failed' ELSE 'rejected' END AS status
            FROM generate_series(%(first)s, %(last)s) g
        ) AS numbered
    ) AS bodies
"""
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
    "delivery_id={md5_of_777}",
    "correlation_id={md5_of_c777}",
    "received_after=2026-01-02&received_before=2026-01-03",
    "received_before=2026-01-02",
    "received_after={newest_hour}",
    "received_after=2026-01-02&received_before=2026-01-03&source=github",
    "received_after=2026-01-02&received_before=2026-02-03&status=failed",
    "received_after=2026-01-02&received_before=2026-03-03&source=retired",
    "header.X-GitHub-Event=push",
    "header.X-GitHub-Event=type-7",
    "header.X-GitHub-Event=rare",
    "header.X-GitHub-Hook-Id=77",
    "header.X-GitHub-Delivery={md5_of_777}",
    "header.X-GitHub-Event=nothing",
    "body.action=opened",
    "body.ref=refs/heads/main",
    "body.ref=refs/heads/topic-77",
    "body.repository.full_name=octo/repo-77",
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
    """As it grows in life: through the indexes, analyzed and vacuumed now and then."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT max(id) FROM webhook_inbox")
        done = cursor.fetchone()[0] or 0
        started = time.monotonic()
        for start in range(done, rows, BATCH):
            last = min(start + BATCH, rows)
            cursor.execute(FILL, {"first": start + 1, "last": last, "commits": commits})
            print(f"\r{last:,} rows, {time.monotonic() - started:.0f} s", end="", flush=True)
        if done < rows:
            cursor.execute("VACUUM (ANALYZE) webhook_inbox")
            print()


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


def filled_in(queries: list[str]) -> list[str]:
    """Braces stand for what only the filled database tells."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT max(received_at) - interval '1 hour', md5('777'), md5('c777') FROM webhook_inbox")
        newest_hour, delivery, correlation = cursor.fetchone()
    values = {
        "newest_hour": newest_hour.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "md5_of_777": delivery,
        "md5_of_c777": correlation,
    }
    return [query.format(**values) for query in queries]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--commits", type=int, default=2, help="in each body: 2 make 1 kB, 25 make 7 kB")
    parser.add_argument("--data-dir", type=Path, help="keep the filled database here")
    parser.add_argument("--only", default="", help="filters that hold this text")
    parser.add_argument("--sql", action="store_true", help="show the slowest statement of each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(options.data_dir or Path(folder)):
        fill(options.rows, options.commits)
        api, console = clients()
        queries = filled_in(FILTERS)
        report("API", api, [*queries, *OF_API], only=options.only, show_sql=options.sql)
        report("Console", console, [*queries, *OF_CONSOLE], only=options.only, show_sql=options.sql)


if __name__ == "__main__":
    main()
