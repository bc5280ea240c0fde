from __future__ import annotations

import hashlib
import hmac
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from automation_lab.core.exceptions import Conflict
from inbox import services
from inbox.models import Source, Webhook
from inbox.receiving.storing import receive_webhook
from inbox.signals import webhook_received
from inbox.tests.factories import incoming

GITHUB = Source(name="github")


def push(delivery_id: str, **values):
    return incoming(headers=[("X-Github-Event", "push"), ("X-Github-Delivery", delivery_id)], **values)


@pytest.mark.django_db
def test_what_is_stored_comes_back_as_it_was_received():
    raw = b'{"ref": "refs/heads/main",  "n": 1}'
    request = incoming(
        raw,
        headers=[("X-Github-Event", "push")],
        query_params=[["a", "1"], ["a", "2"]],
        remote_addr="2001:db8::1",
        correlation_id="c-1",
        flags=("query_truncated",),
    )

    stored = Webhook.objects.get(pk=receive_webhook(request=request, source=GITHUB).pk)

    assert bytes(stored.raw_body) == raw
    assert stored.body == {"ref": "refs/heads/main", "n": 1}
    assert stored.headers == [["Content-Type", "application/json"], ["X-Github-Event", "push"]]
    assert stored.query_params == [["a", "1"], ["a", "2"]]
    assert (stored.event_type, stored.status, stored.verification) == ("push", "received", "not_configured")
    assert (stored.size_bytes, stored.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert (stored.remote_addr, stored.correlation_id) == ("2001:db8::1", "c-1")
    assert stored.flags == ["query_truncated"]
    assert abs(stored.received_at - timezone.now()) < timedelta(minutes=1)


@pytest.mark.django_db
def test_the_row_in_memory_equals_the_stored_one():
    webhook = receive_webhook(request=push("d-1"), source=GITHUB)

    stored = Webhook.objects.get(pk=webhook.pk)

    for field in Webhook._meta.concrete_fields:
        assert getattr(webhook, field.attname) == getattr(stored, field.attname), field.name


@pytest.mark.django_db
def test_a_first_delivery_is_announced_inside_its_transaction(announced):
    webhook = receive_webhook(request=push("d-1"), source=GITHUB)

    assert announced == [webhook]


@pytest.mark.django_db
def test_a_repeated_delivery_is_linked_and_announced_no_second_time(announced):
    first = receive_webhook(request=push("d-1"), source=GITHUB)
    again = receive_webhook(request=push("d-1"), source=GITHUB)

    assert again.is_duplicate
    assert again.duplicate_of == first
    assert Webhook.objects.get(pk=first.pk).duplicate_count == 1
    assert announced == [first]


@pytest.mark.django_db
def test_the_same_delivery_id_of_another_source_is_no_repetition(announced):
    receive_webhook(request=push("d-1"), source=GITHUB)
    other = receive_webhook(request=push("d-1"), source=Source(name="mirror"))

    assert not other.is_duplicate
    assert len(announced) == 2


@pytest.mark.django_db
def test_requests_without_a_delivery_id_are_never_repetitions():
    receive_webhook(request=incoming(), source=GITHUB)
    again = receive_webhook(request=incoming(), source=GITHUB)

    assert not again.is_duplicate


@pytest.mark.django_db
def test_a_delivery_whose_first_was_deleted_is_a_first_again(announced):
    services.delete_webhook(webhook=receive_webhook(request=push("d-1"), source=GITHUB))
    again = receive_webhook(request=push("d-1"), source=GITHUB)

    assert not again.is_duplicate
    assert announced[-1] == again


@pytest.mark.django_db
def test_a_source_without_a_secret_lets_nothing_in_and_claims_no_id(announced):
    rejected = receive_webhook(request=push("d-1"), source=Source(name="github", scheme="stripe"))
    accepted = receive_webhook(request=push("d-1"), source=GITHUB)

    assert (rejected.status, rejected.verification) == ("rejected", "no_secret")
    assert not accepted.is_duplicate
    assert announced == [accepted]


@pytest.mark.django_db
def test_the_secret_that_matched_is_recorded():
    now = timezone.now()
    source = services.create_source(
        name="github",
        scheme="github",
        secrets=[
            {"value": "It's a Secret to Everybody", "expires_at": now - timedelta(days=1)},
            {"value": "It's a Secret to Everybody", "starts_at": now + timedelta(days=1)},
            {"value": "It's a Secret to Everybody", "starts_at": now - timedelta(days=1)},
        ],
    )
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = incoming(b"Hello, World!", headers=[("X-Hub-Signature-256", signature)])

    webhook = receive_webhook(request=request, source=source)

    assert (webhook.status, webhook.verification) == ("received", "verified")
    assert webhook.matched_secret == source.secrets[2]["id"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "accepted"),
    [("192.0.2.7", True), ("192.0.3.7", False), ("2001:db8::5", True), ("2001:db9::5", False), (None, False)],
)
def test_a_source_can_name_the_addresses_that_may_send(address, accepted):
    source = Source(name="shop", allowed_addresses=["192.0.2.0/24", "2001:db8::/32"])

    webhook = receive_webhook(request=incoming(remote_addr=address), source=source)

    assert webhook.verification == ("not_configured" if accepted else "address_not_allowed")
    assert webhook.status == ("received" if accepted else "rejected")


@pytest.mark.django_db
@pytest.mark.parametrize("network", ["::ffff:192.0.2.0/120", "::ffff:192.0.2.7", "::ffff:0:0/96"])
def test_a_mapped_network_is_an_ipv4_network(network):
    source = services.create_source(name="shop", allowed_addresses=[network])

    webhook = receive_webhook(request=incoming(remote_addr="192.0.2.7"), source=source)

    assert webhook.status == "received"


@pytest.mark.django_db
def test_a_reaction_that_fails_takes_the_webhook_with_it():
    def fail(**kwargs):
        raise Conflict("no")

    webhook_received.connect(fail)
    try:
        with pytest.raises(Conflict):
            receive_webhook(request=push("d-1"), source=GITHUB)
    finally:
        webhook_received.disconnect(fail)

    assert not Webhook.objects.exists()


@pytest.mark.django_db
def test_a_long_delivery_id_is_hashed_so_that_two_never_become_one():
    webhook = receive_webhook(request=push("x" * 300 + "1"), source=GITHUB)
    other = receive_webhook(request=push("x" * 300 + "2"), source=GITHUB)

    assert webhook.delivery_id == "sha256:" + hashlib.sha256(b"x" * 300 + b"1").hexdigest()
    assert "delivery_id_hashed" in webhook.flags
    assert not other.is_duplicate


@pytest.mark.django_db
def test_a_long_event_type_and_content_type_are_cut():
    request = incoming(b"x", headers=[], query_params=[["event_type", "e" * 300]])
    request.headers[0][1] = "text/plain; x=" + "y" * 300

    webhook = receive_webhook(request=request, source=GITHUB)

    assert webhook.event_type == "e" * 255
    assert len(webhook.content_type) == 255
    assert {"event_type_cut", "content_type_cut"} <= set(webhook.flags)


@pytest.mark.django_db
def test_headers_beyond_the_limit_are_left_out_but_still_read():
    headers = [(f"X-Filler-{number}", "v") for number in range(200)]
    webhook = receive_webhook(request=incoming(headers=[*headers, ("X-Github-Event", "push")]), source=GITHUB)

    assert len(webhook.headers) == 100
    assert "headers_truncated" in webhook.flags
    assert webhook.event_type == "push"


@pytest.mark.django_db
def test_receiving_takes_one_statement_beside_the_transaction(django_assert_num_queries, monkeypatch):
    monkeypatch.setattr(webhook_received, "receivers", [])

    with django_assert_num_queries(3):  # SAVEPOINT, as the test has the transaction already; INSERT; RELEASE
        receive_webhook(request=push("d-1"), source=GITHUB)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_with_one_delivery_id_one_is_first(announced):
    barrier = threading.Barrier(4)
    results = []

    def receive():
        barrier.wait()
        results.extend(receive_webhook(request=push(f"d-{number}"), source=GITHUB) for number in range(5))
        connection.close()

    threads = [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 20
    assert sum(not webhook.is_duplicate for webhook in results) == 5
    assert len(announced) == 5
    assert [first.duplicate_count for first in Webhook.objects.filter(is_duplicate=False)] == [3] * 5


@pytest.mark.django_db
def test_a_chunked_body_that_may_have_broken_off_claims_no_delivery_id():
    headers = [("X-Github-Delivery", "d-1"), ("Transfer-Encoding", "chunked")]
    receive_webhook(request=incoming(b'{"a": ', headers=headers), source=GITHUB)

    whole = receive_webhook(request=incoming(b'{"a": 1}', headers=headers), source=GITHUB)

    assert (whole.delivery_id, whole.is_duplicate) == ("d-1", False)


FORM = ("Content-Type", "application/x-www-form-urlencoded")
CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.django_db
def test_a_signature_over_the_whole_body_proves_that_it_is_complete(announced):
    source = services.create_source(name="github", scheme="github", secrets=[{"value": "secret"}])
    body = b"payload=%7B%7D"
    value = f"sha256={hmac.new(b'secret', body, 'sha256').hexdigest()}"
    headers = [FORM, CHUNKED, ("X-Github-Delivery", "d-1"), ("X-Hub-Signature-256", value)]

    first, again = (receive_webhook(request=incoming(body, headers=headers), source=source) for _ in range(2))

    assert ("maybe_incomplete" in first.flags, again.duplicate_of_id) == (False, first.pk)
    assert announced == [first]


@pytest.mark.django_db
def test_a_token_says_nothing_about_the_end_of_a_body():
    source = services.create_source(name="github", scheme="token", secrets=[{"value": "secret"}])
    headers = [CHUNKED, ("Idempotency-Key", "d-1"), ("Authorization", "Bearer secret")]
    cut = receive_webhook(request=incoming(b'{"a": ', headers=headers), source=source)

    whole = receive_webhook(request=incoming(b'{"a": 1}', headers=headers), source=source)

    assert ("maybe_incomplete" in cut.flags, whole.is_duplicate) == (True, False)


@pytest.mark.django_db
def test_the_token_of_mailgun_counts_once_however_the_body_is_sent(announced):
    source = services.create_source(name="mailgun", scheme="mailgun", secrets=[{"value": "secret"}])
    at = int(timezone.now().timestamp())
    value = hmac.new(b"secret", f"{at}token-1".encode(), "sha256").hexdigest()
    signed = f"timestamp={at}&token=token-1&signature={value}&event="
    first, forged = (
        receive_webhook(request=incoming(f"{signed}{event}".encode(), headers=[FORM, CHUNKED]), source=source)
        for event in ("opened", "forged")
    )

    assert (first.is_duplicate, forged.duplicate_of_id) == (False, first.pk)
    assert announced == [first]
