from __future__ import annotations

import base64
import threading
import time
from datetime import timedelta

import httpx
import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from automation_lab import tokens
from automation_lab.core.clock import database_now
from automation_lab.tests.servers import granian_server
from automation_lab.tests.waiting import eventually
from inbox.models import Webhook
from inbox.streaming import portions, stream, stream_views
from inbox.streaming.stream import Selection
from inbox.tests.factories import WebhookFactory, insert_webhook

STREAM = "/v1/webhooks/stream"


def elsewhere():
    """A connection of its own to the test database, in a transaction."""
    database = connection.settings_dict
    return psycopg.connect(host=database["HOST"], user=database["USER"], dbname=database["NAME"])


def insert(other):
    return insert_webhook(other, source="late")


def read(after, *, wait_seconds=0.0, limit=50, clock=None, **selection):
    hooks = {"sleep": clock.sleep, "monotonic": clock.monotonic} if clock else {}
    batch = stream.read(after=after, selection=Selection(**selection), limit=limit, wait_seconds=wait_seconds, **hooks)
    return [webhook.pk for webhook in batch.webhooks], batch.cursor


class Clock:
    """Time that passes only while somebody sleeps; the first sleep does `meanwhile`."""

    def __init__(self, meanwhile=lambda: None):
        self.now = 0.0
        self._meanwhile = [meanwhile]

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self._meanwhile:
            self._meanwhile.pop()()


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    """No horizon of another test's database."""
    monkeypatch.setattr(stream, "_settled_until", {})


# --- the horizon ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_committed_late_is_not_overtaken():
    start = stream.latest_id()
    with elsewhere() as late, elsewhere() as early:
        first = insert(late)
        second = insert(early)
        early.commit()

        before = read(start)
        late.commit()
        after = read(before[1])

    assert (first, second) == (start + 1, start + 2)
    assert before == ([], start)
    assert after == ([first, second], second)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_never_committed_holds_nothing_up_once_it_is_given_up():
    start = stream.latest_id()
    with elsewhere() as late, elsewhere() as early:
        insert(late)
        second = insert(early)
        early.commit()
        late.rollback()

        assert read(start) == ([second], second)


@pytest.mark.django_db(transaction=True)
def test_a_reader_waits_for_a_short_insert():
    start = stream.latest_id()
    with elsewhere() as late, elsewhere() as early:
        first, second = insert(late), insert(early)
        early.commit()

        found = read(start, clock=Clock(late.commit))

    assert found == ([first, second], second)


@pytest.mark.django_db(transaction=True)
def test_what_is_settled_stays_readable_while_a_writer_hangs():
    start = stream.latest_id()
    webhook = WebhookFactory()
    read(start)
    with elsewhere() as hanging:
        insert(hanging)

        assert read(start) == ([webhook.pk], webhook.pk)


@pytest.mark.django_db(transaction=True)
def test_new_inserts_do_not_keep_a_reader_from_what_was_there_before_them():
    start = stream.latest_id()
    webhook = WebhookFactory()
    with elsewhere() as one, elsewhere() as other:
        insert(one)
        writers = iter([lambda: insert(other), one.commit])

        top = stream.horizon(start, 5, sleep=lambda seconds: next(writers, time.sleep(0) or (lambda: None))())

        assert top == webhook.pk + 1


@pytest.mark.django_db(transaction=True)
def test_readers_that_only_look_hold_nothing_up():
    start = stream.latest_id()
    webhook = WebhookFactory()
    with elsewhere() as reader:
        reader.execute("SELECT * FROM webhook_inbox FOR KEY SHARE")

        assert read(start) == ([webhook.pk], webhook.pk)


@pytest.mark.django_db(transaction=True)
def test_four_senders_and_a_reader_at_the_same_time_lose_nothing():
    start, inserted, stop = stream.latest_id(), [], threading.Event()

    def send():
        with elsewhere() as own:
            for number in range(40):
                pk = insert(own)
                time.sleep(0.001 * (number % 4))
                own.rollback() if number % 10 == 9 else own.commit()
                if number % 10 != 9:
                    inserted.append(pk)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    found, cursor = [], start
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not stop.is_set():
        if not any(thread.is_alive() for thread in threads):
            stop.set()  # and read once more
        ids, cursor = read(cursor, limit=7, sources=["late"])
        found += ids
    while (more := read(cursor, limit=7))[0]:
        found, cursor = found + more[0], more[1]

    assert found == sorted(inserted)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_webhooks_come_in_order_and_in_portions():
    start = stream.latest_id()
    ids = [webhook.pk for webhook in WebhookFactory.create_batch(5)]

    first = read(start, limit=2)
    second = read(first[1], limit=10)

    assert first == (ids[:2], ids[1])
    assert second == (ids[2:], ids[4])
    assert read(second[1]) == ([], ids[4])


@pytest.mark.django_db
def test_the_cursor_passes_what_is_not_wanted():
    start = stream.latest_id()
    wanted = WebhookFactory(source="gitlab")
    last = WebhookFactory()

    assert read(start, sources=["gitlab"]) == ([wanted.pk], last.pk)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("selection", "found"),
    [
        ({}, [0, 1, 2]),
        ({"sources": ["github", "gitlab"]}, [0, 1]),
        ({"event_types": ["push"]}, [0, 2]),
        ({"sources": ["github"], "event_types": ["push"]}, [0]),
        ({"statuses": ["rejected", "failed"]}, [1, 3]),
    ],
)
def test_a_selection_is_kept_to(selection, found):
    start = stream.latest_id()
    webhooks = [
        WebhookFactory(event_type="push"),
        WebhookFactory(source="gitlab", status="failed"),
        WebhookFactory(source="stripe", event_type="push"),
        WebhookFactory(status="rejected"),
        WebhookFactory(flags=["handshake"]),
    ]

    assert read(start, **selection)[0] == [webhooks[number].pk for number in found]


@pytest.mark.django_db
def test_large_bodies_come_in_smaller_portions(monkeypatch):
    monkeypatch.setattr(portions, "MOST_BYTES", 25)
    start = stream.latest_id()
    ids = [WebhookFactory(raw_body=b"x" * size).pk for size in (10, 10, 10, 100)]

    first = read(start)
    second = read(first[1])

    assert first == (ids[:2], ids[1])
    assert second == ([ids[2]], ids[2])
    assert read(second[1]) == ([ids[3]], ids[3])


@pytest.mark.django_db(transaction=True)
def test_a_waiting_reader_gets_what_comes():
    start = stream.latest_id()
    with elsewhere() as other:
        clock = Clock(lambda: (insert(other), other.commit()))

        found = read(start, wait_seconds=5, clock=clock)

    assert found == ([start + 1], start + 1)
    assert clock.now == stream.POLL_SECONDS


@pytest.mark.django_db
def test_a_reader_waits_no_longer_than_it_asked_to():
    clock = Clock()

    found = read(stream.latest_id(), wait_seconds=0.5, clock=clock)

    assert found[0] == []
    assert 0.2 < clock.now <= 0.5


@pytest.mark.django_db
def test_by_itself_a_reader_waits_in_real_time():
    started = time.monotonic()

    read(stream.latest_id(), wait_seconds=0.5)

    assert time.monotonic() - started > 0.2


@pytest.mark.django_db
def test_a_start_in_time_leaves_nothing_out():
    now = timezone.now()
    WebhookFactory(received_at=now - timedelta(hours=2))
    early_id = WebhookFactory(received_at=now)
    WebhookFactory(received_at=now - timedelta(minutes=5))

    assert stream.position_at(now - timedelta(hours=1)) == early_id.pk - 1
    assert stream.position_at(now + timedelta(hours=1)) == stream.latest_id()


# --- over the API -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_webhook_comes_with_all_that_is_needed_to_send_it_again(api):
    start = api.get(STREAM).json()["cursor"]
    headers = [["X-Github-Event", "push"], ["Authorization", "Basic dTpw"]]
    webhook = WebhookFactory(raw_body=b"\x00\xff{}", headers=headers, query_params=[["a", "1"]], event_type="push")

    answer = api.get(f"{STREAM}?after={start}").json()

    (row,) = answer["results"]
    assert (row["id"], row["method"], row["event_type"]) == (webhook.pk, "POST", "push")
    assert base64.b64decode(row["body_base64"]) == b"\x00\xff{}"
    assert row["headers"] == headers
    assert row["query_params"] == [["a", "1"]]
    assert (answer["cursor"], answer["retry_after_seconds"], answer["credentials_masked"]) == (webhook.pk, 0, False)


@pytest.mark.django_db
def test_credentials_of_senders_come_only_to_those_who_may_change_webhooks(admin_user, api):
    _, plain = tokens.create_token(user=admin_user, name="reader", scopes=["inbox:read"], expires_at=None)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    start = stream.latest_id()
    WebhookFactory(headers=[["Authorization", "Basic dTpw"], ["X-Hub-Signature-256", "sha256=ab"]])

    answer = api.get(f"{STREAM}?after={start}").json()

    assert answer["credentials_masked"] is True
    assert answer["results"][0]["headers"] == [
        ["Authorization", "Basic [redacted]"],
        ["X-Hub-Signature-256", "sha256=ab"],
    ]


@pytest.mark.django_db
def test_without_a_cursor_a_reader_starts_with_what_is_to_come(api):
    WebhookFactory()

    answer = api.get(STREAM).json()

    assert (answer["results"], answer["cursor"]) == ([], stream.latest_id())


@pytest.mark.django_db
def test_a_reader_may_start_in_the_past_and_choose(api):
    wanted = WebhookFactory(source="gitlab", event_type="push")
    WebhookFactory(source="gitlab")
    WebhookFactory()
    since = (timezone.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    answer = api.get(f"{STREAM}?since={since}&source=gitlab&source=stripe&event_type=push").json()

    assert [row["id"] for row in answer["results"]] == [wanted.pk]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    ["after=x", "after=-1", "after=1&since=2026-01-01T00:00:00Z", "wait=21", "limit=0", "limit=201", "status=new",
     "since=yesterday", "sourc=github", "after=1&after=2", "source=%00", "status=processed", "status=failed"],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(api, query):
    assert api.get(f"{STREAM}?{query}").status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize(("query", "found"), [("status=received", [0, 1, 2]), ("status=rejected", [3])])
def test_a_status_is_that_on_arrival(api, query, found):
    start = stream.latest_id()
    webhooks = [WebhookFactory(status=status) for status in ("received", "processed", "failed", "rejected")]

    answer = api.get(f"{STREAM}?after={start}&{query}").json()

    assert [row["id"] for row in answer["results"]] == [webhooks[number].pk for number in found]


@pytest.mark.django_db
def test_a_cursor_of_an_earlier_database_is_refused(api):
    latest = WebhookFactory().pk
    Webhook.objects.all().delete()

    known = api.get(f"{STREAM}?after={latest}")
    unknown = api.get(f"{STREAM}?after={latest + 1}")

    assert known.status_code == 200
    assert unknown.status_code == 400
    assert unknown.json()["errors"][0]["code"] == "unknown_cursor"
    assert f"the newest is {latest}" in unknown.json()["detail"]


@pytest.mark.django_db
def test_nobody_reads_without_signing_in(anonymous_api):
    assert anonymous_api.get(STREAM).status_code == 401


@pytest.mark.django_db
def test_when_others_wait_already_the_answer_comes_at_once(api, monkeypatch):
    monkeypatch.setattr(stream_views, "_places", threading.BoundedSemaphore(1))
    start = stream.latest_id()
    with stream_views._waiting_place(5) as granted:
        started = time.monotonic()
        answer = api.get(f"{STREAM}?after={start}&wait=20").json()

    assert granted == 5
    assert time.monotonic() - started < 10
    assert (answer["results"], answer["retry_after_seconds"]) == ([], 2)


@pytest.mark.django_db
@pytest.mark.parametrize("count", [1, 20])
def test_a_portion_needs_the_same_queries_whatever_its_size(api, django_assert_num_queries, count):
    start = stream.latest_id()
    WebhookFactory.create_batch(count)
    api.get(STREAM)

    with django_assert_num_queries(5):  # token, sequence, writers, sizes, rows
        assert len(api.get(f"{STREAM}?after={start}").json()["results"]) == count


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_waiting_readers_leave_threads_for_others(admin_user):
    _, plain = tokens.create_token(user=admin_user, name="reader", scopes=["inbox:read"], expires_at=None)
    headers = {"Authorization": f"Bearer {plain}"}
    with granian_server() as server:
        url = f"{server.url}{STREAM}"
        start = httpx.get(url, headers=headers, timeout=30).json()["cursor"]
        answers = []

        def wait():
            answers.append(httpx.get(f"{url}?after={start}&wait=20", headers=headers, timeout=60).json())

        readers = [threading.Thread(target=wait) for _ in range(8)]
        for reader in readers:
            reader.start()
        eventually(lambda: len(answers) == 6)  # those for whom no place was left; the others wait now
        sent = httpx.post(f"{server.url}/v1/webhooks/inbox/github", json={"a": 1}, timeout=10)
        for reader in readers:
            reader.join(30)

    assert sent.status_code == 201
    assert sorted(len(answer["results"]) for answer in answers) == [0] * 6 + [1] * 2
    assert Webhook.objects.count() == 1


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_waiting_readers_do_not_hold_up_the_end_of_the_server(admin_user):
    _, plain = tokens.create_token(user=admin_user, name="reader", scopes=["inbox:read"], expires_at=None)
    headers = {"Authorization": f"Bearer {plain}"}
    with granian_server() as server:
        url = f"{server.url}{STREAM}"
        start = httpx.get(url, headers=headers, timeout=30).json()["cursor"]
        answers = []
        reader = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{url}?after={start}&wait=20", headers=headers, timeout=60))
        )
        asked_at = database_now()
        reader.start()
        eventually(lambda: has_looked_since(asked_at))

        started = time.monotonic()
        server.stop()
        took = time.monotonic() - started
        reader.join(30)

    assert took < 10, "no longer than the reader would have waited"
    assert (answers[0].status_code, answers[0].json()["cursor"]) == (200, start)


def has_looked_since(instant):
    """Whether another connection has asked how far the ids have come: a reader is at it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            " AND query = %s AND query_start > %s",
            [stream.HANDED_OUT, instant],
        )
        return cursor.fetchone() is not None
