"""What counts as a repetition, by the rule of the source."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from inbox.models import Source, Webhook
from inbox.receiving.storing import receive_webhook
from inbox.tests.factories import incoming

pytestmark = pytest.mark.django_db
ORDER = Source(name="shop", dedupe={"by": "json_path", "path": "body.order.id"})
BODY_HASH = Source(name="shop", dedupe={"by": "body_hash", "window_seconds": 300})


def receive(source, body, **headers):
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return receive_webhook(request=incoming(body, headers=named), source=source)


def age(webhook, seconds):
    Webhook.objects.filter(pk=webhook.pk).update(received_at=timezone.now() - timedelta(seconds=seconds))


def test_a_value_of_the_body_can_tell_repetitions(announced):
    first = receive(ORDER, b'{"order": {"id": 7}, "n": 1}', Idempotency_Key="a")
    again = receive(ORDER, b'{"order": {"id": 7}, "n": 2}', Idempotency_Key="b")
    other = receive(ORDER, b'{"order": {"id": 8}, "n": 1}', Idempotency_Key="a")

    assert (again.duplicate_of_id, other.is_duplicate) == (first.pk, False)
    assert again.delivery_id == "b"
    assert announced == [first, other]


@pytest.mark.parametrize("body", [b'{"order": {}}', b'{"order": {"id": ""}}', b'{"order": {"id": null}}', b"[]", b"x"])
def test_a_missing_value_makes_no_repetition(body):
    receive(ORDER, body)

    assert not receive(ORDER, body).is_duplicate


def test_long_and_unprintable_values_are_told_apart():
    long = receive(ORDER, b'{"order": {"id": "%b1"}}' % (b"x" * 300))
    other = receive(ORDER, b'{"order": {"id": "%b2"}}' % (b"x" * 300))
    again = receive(ORDER, b'{"order": {"id": "%b1"}}' % (b"x" * 300))

    assert (other.is_duplicate, again.duplicate_of_id) == (False, long.pk)
    assert not receive(ORDER, b'{"order": {"id": "a\\u0000"}}').is_duplicate


def test_another_body_under_a_known_id_is_a_conflict():
    source = Source(name="shop")
    first = receive(source, b'{"a": 1}', Idempotency_Key="k")
    same = receive(source, b'{"a": 1}', Idempotency_Key="k")
    other = receive(source, b'{"a": 2}', Idempotency_Key="k")

    assert (same.duplicate_of_id, other.duplicate_of_id) == (first.pk, first.pk)
    assert ("conflict" in same.flags, "conflict" in other.flags) == (False, True)
    assert Webhook.objects.get(pk=other.pk).flags == ["conflict"]


def test_without_a_rule_every_delivery_counts(announced):
    source = Source(name="shop", dedupe={"by": "none"})

    first, second = (receive(source, b"{}", Idempotency_Key="k") for _ in range(2))

    assert [webhook.delivery_id for webhook in (first, second)] == ["k", "k"]
    assert announced == [first, second]


def test_the_same_body_within_the_window_is_a_repetition(announced):
    first = receive(BODY_HASH, b'{"a": 1}')
    again = receive(BODY_HASH, b'{"a": 1}')
    other = receive(BODY_HASH, b'{"a": 2}')

    assert (again.duplicate_of_id, other.is_duplicate) == (first.pk, False)
    assert announced == [first, other]


def test_the_window_counts_from_the_first():
    first = receive(BODY_HASH, b'{"a": 1}')
    age(first, 299)
    inside = receive(BODY_HASH, b'{"a": 1}')
    Webhook.objects.filter(pk=first.pk).update(dedupe_key=first.dedupe_key + "-before")
    age(first, 301)
    beyond = receive(BODY_HASH, b'{"a": 1}')

    assert (inside.duplicate_of_id, beyond.is_duplicate) == (first.pk, False)


def test_a_body_of_the_bucket_before_counts_as_long_as_the_window():
    first = receive(BODY_HASH, b'{"a": 1}')
    head, _, bucket = first.dedupe_key.rpartition(":")
    Webhook.objects.filter(pk=first.pk).update(dedupe_key=f"{head}:{int(bucket) - 1}")

    again = receive(BODY_HASH, b'{"a": 1}')
    age(first, 301)
    later = receive(BODY_HASH, b'{"a": 1}')

    assert (again.duplicate_of_id, later.is_duplicate) == (first.pk, False)


def test_an_empty_body_is_no_repetition():
    receive(BODY_HASH, b"")

    assert not receive(BODY_HASH, b"").is_duplicate


def test_the_same_body_of_another_source_is_no_repetition():
    receive(BODY_HASH, b'{"a": 1}')

    assert not receive(Source(name="other", dedupe=BODY_HASH.dedupe), b'{"a": 1}').is_duplicate


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("source", [BODY_HASH, ORDER], ids=["body_hash", "json_path"])
def test_of_many_at_once_one_is_first(source, announced):
    barrier = threading.Barrier(4)
    results = []

    def send():
        barrier.wait()
        results.extend(receive(source, b'{"order": {"id": 7}}') for _ in range(5))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(not webhook.is_duplicate for webhook in results) == len(announced) == 1
    assert Webhook.objects.get(is_duplicate=False).duplicate_count == 19
