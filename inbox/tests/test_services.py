from __future__ import annotations

import hashlib
import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from automation_lab.core.crypto import decrypt
from automation_lab.core.exceptions import Conflict, Invalid
from inbox import services, sources
from inbox.models import Source, Webhook
from inbox.secrets import live_values
from inbox.signals import webhook_received
from inbox.tests.factories import SourceFactory, WebhookFactory, incoming

GITHUB = Source(name="github")


def push(delivery_id: str, **values):
    return incoming(headers=[("X-Github-Event", "push"), ("X-Github-Delivery", delivery_id)], **values)


# --- receiving --------------------------------------------------------------------------------------------------------


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

    stored = Webhook.objects.get(pk=services.receive_webhook(request=request, source=GITHUB).pk)

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
    webhook = services.receive_webhook(request=push("d-1"), source=GITHUB)

    stored = Webhook.objects.get(pk=webhook.pk)

    for field in Webhook._meta.concrete_fields:
        assert getattr(webhook, field.attname) == getattr(stored, field.attname), field.name


@pytest.mark.django_db
def test_a_first_delivery_is_announced_inside_its_transaction(announced):
    webhook = services.receive_webhook(request=push("d-1"), source=GITHUB)

    assert announced == [webhook]


@pytest.mark.django_db
def test_a_repeated_delivery_is_linked_and_announced_no_second_time(announced):
    first = services.receive_webhook(request=push("d-1"), source=GITHUB)
    again = services.receive_webhook(request=push("d-1"), source=GITHUB)

    assert again.is_duplicate
    assert again.duplicate_of == first
    assert Webhook.objects.get(pk=first.pk).duplicate_count == 1
    assert announced == [first]


@pytest.mark.django_db
def test_the_same_delivery_id_of_another_source_is_no_repetition(announced):
    services.receive_webhook(request=push("d-1"), source=GITHUB)
    other = services.receive_webhook(request=push("d-1"), source=Source(name="mirror"))

    assert not other.is_duplicate
    assert len(announced) == 2


@pytest.mark.django_db
def test_requests_without_a_delivery_id_are_never_repetitions():
    services.receive_webhook(request=incoming(), source=GITHUB)
    again = services.receive_webhook(request=incoming(), source=GITHUB)

    assert not again.is_duplicate


@pytest.mark.django_db
def test_a_delivery_whose_first_was_deleted_is_a_first_again(announced):
    services.delete_webhook(webhook=services.receive_webhook(request=push("d-1"), source=GITHUB))
    again = services.receive_webhook(request=push("d-1"), source=GITHUB)

    assert not again.is_duplicate
    assert announced[-1] == again


@pytest.mark.django_db
def test_a_scheme_that_cannot_be_checked_lets_nothing_in_and_claims_no_id(announced):
    rejected = services.receive_webhook(request=push("d-1"), source=Source(name="github", scheme="stripe"))
    accepted = services.receive_webhook(request=push("d-1"), source=GITHUB)

    assert (rejected.status, rejected.verification) == ("rejected", "unsupported")
    assert not accepted.is_duplicate
    assert announced == [accepted]


@pytest.mark.django_db
def test_a_reaction_that_fails_takes_the_webhook_with_it():
    def fail(**kwargs):
        raise Conflict("no")

    webhook_received.connect(fail)
    try:
        with pytest.raises(Conflict):
            services.receive_webhook(request=push("d-1"), source=GITHUB)
    finally:
        webhook_received.disconnect(fail)

    assert not Webhook.objects.exists()


@pytest.mark.django_db
def test_a_long_delivery_id_is_hashed_so_that_two_never_become_one():
    webhook = services.receive_webhook(request=push("x" * 300 + "1"), source=GITHUB)
    other = services.receive_webhook(request=push("x" * 300 + "2"), source=GITHUB)

    assert webhook.delivery_id == "sha256:" + hashlib.sha256(b"x" * 300 + b"1").hexdigest()
    assert "delivery_id_hashed" in webhook.flags
    assert not other.is_duplicate


@pytest.mark.django_db
def test_a_long_event_type_and_content_type_are_cut():
    request = incoming(b"x", headers=[], query_params=[["event_type", "e" * 300]])
    request.headers[0][1] = "text/plain; x=" + "y" * 300

    webhook = services.receive_webhook(request=request, source=GITHUB)

    assert webhook.event_type == "e" * 255
    assert len(webhook.content_type) == 255
    assert {"event_type_cut", "content_type_cut"} <= set(webhook.flags)


@pytest.mark.django_db
def test_headers_beyond_the_limit_are_left_out_but_still_read():
    headers = [(f"X-Filler-{number}", "v") for number in range(200)]
    webhook = services.receive_webhook(request=incoming(headers=[*headers, ("X-Github-Event", "push")]), source=GITHUB)

    assert len(webhook.headers) == 100
    assert "headers_truncated" in webhook.flags
    assert webhook.event_type == "push"


@pytest.mark.django_db
def test_receiving_takes_one_statement_beside_the_transaction(django_assert_num_queries, monkeypatch):
    monkeypatch.setattr(webhook_received, "receivers", [])

    with django_assert_num_queries(3):  # SAVEPOINT, as the test has the transaction already; INSERT; RELEASE
        services.receive_webhook(request=push("d-1"), source=GITHUB)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_with_one_delivery_id_one_is_first(announced):
    barrier = threading.Barrier(4)
    results = []

    def receive():
        barrier.wait()
        results.extend(services.receive_webhook(request=push(f"d-{number}"), source=GITHUB) for number in range(5))
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
    services.receive_webhook(request=incoming(b'{"a": ', headers=headers), source=GITHUB)

    whole = services.receive_webhook(request=incoming(b'{"a": 1}', headers=headers), source=GITHUB)

    assert (whole.delivery_id, whole.is_duplicate) == ("d-1", False)


# --- changing ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_person_sets_status_and_notes():
    webhook = services.update_webhook(webhook=WebhookFactory(), status="processed", notes="Seen.")

    stored = Webhook.objects.get(pk=webhook.pk)
    assert (stored.status, stored.notes) == ("processed", "Seen.")
    assert stored.processed_at is not None


@pytest.mark.django_db
def test_notes_alone_leave_a_status_that_has_changed_meanwhile():
    webhook = WebhookFactory()
    services.settle_webhook(webhook_id=webhook.pk, running=0, bad=0, total=1)

    services.update_webhook(webhook=webhook, notes="Seen.")

    assert Webhook.objects.get(pk=webhook.pk).status == "processed"


@pytest.mark.django_db
def test_a_rejected_webhook_stays_rejected():
    with pytest.raises(Conflict):
        services.update_webhook(webhook=WebhookFactory(status="rejected"), status="received")


@pytest.mark.django_db
def test_rejected_is_not_set_by_hand():
    with pytest.raises(Invalid):
        services.update_webhook(webhook=WebhookFactory(), status="rejected")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("running", "bad", "total", "status"),
    [
        (0, 0, 0, "received"),
        (1, 0, 1, "received"),
        (1, 1, 2, "received"),
        (0, 0, 2, "processed"),
        (0, 1, 2, "failed"),
    ],
)
def test_what_a_webhook_started_decides_its_status(running, bad, total, status):
    webhook = WebhookFactory()

    services.settle_webhook(webhook_id=webhook.pk, running=running, bad=bad, total=total, error_message="Step 2: no.")

    webhook.refresh_from_db()
    assert webhook.status == status
    assert (webhook.processed_at is not None) == (status != "received")
    assert webhook.error_message == ("Step 2: no." if status == "failed" else "")


@pytest.mark.django_db
def test_settling_never_accepts_a_rejected_webhook():
    webhook = WebhookFactory(status="rejected")

    services.settle_webhook(webhook_id=webhook.pk, running=0, bad=0, total=1)

    webhook.refresh_from_db()
    assert webhook.status == "rejected"


@pytest.mark.django_db(transaction=True)
def test_a_locked_webhook_is_counted_by_one_after_the_other():
    webhook = WebhookFactory()
    order = []

    def settle():
        with transaction.atomic():
            assert services.lock_webhook(webhook_id=webhook.pk)
            order.append("second")
        connection.close()

    with transaction.atomic():
        assert services.lock_webhook(webhook_id=webhook.pk)
        other = threading.Thread(target=settle)
        other.start()
        other.join(0.3)
        order.append("first")
    other.join()

    assert order == ["first", "second"]


@pytest.mark.django_db
def test_a_webhook_that_is_gone_cannot_be_locked():
    assert not services.lock_webhook(webhook_id=1)


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_secrets_of_a_source_are_stored_encrypted():
    expires_at = timezone.now() + timedelta(days=1)
    secrets = [{"value": "a-long-signing-secret", "expires_at": expires_at}, {"value": "short"}]

    source = services.create_source(name="github", secrets=secrets)

    first, second = Source.objects.get(pk=source.pk).secrets
    assert "signing" not in str(first)
    assert decrypt(first["ciphertext"], bind="source:github") == "a-long-signing-secret"
    assert (first["last4"], first["expires_at"], first["starts_at"]) == ("cret", expires_at.isoformat(), None)
    assert second["last4"] == ""


@pytest.mark.django_db
def test_secrets_of_sources_are_masked_wherever_they_turn_up():
    source = services.create_source(
        name="github", secrets=[{"value": "a-long-signing-secret"}, {"value": "another-one"}]
    )
    source.secrets[1]["ciphertext"] = "broken"
    source.save()

    assert live_values() == ["a-long-signing-secret"]


@pytest.mark.django_db
def test_a_change_without_secrets_keeps_them():
    source = services.create_source(name="github", secrets=[{"value": "s3cret"}])

    services.update_source(source=source, description="Ours.")

    assert len(Source.objects.get(pk=source.pk).secrets) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "123"),
        ("name", "export"),
        ("name", "GitHub"),
        ("name", "-a"),
        ("name", "a" * 65),
        ("name", "a\n"),
        ("scheme", "md5"),
        ("rate_limit", "600"),
        ("rate_limit", "0/minute"),
        ("rate_limit", "10/fortnight"),
        ("dedupe", {"by": "luck"}),
        ("dedupe", {}),
        ("allowed_methods", []),
        ("allowed_methods", ["post"]),
        ("max_body_bytes", 0),
        ("max_body_bytes", 26_214_401),
        ("scheme_settings", []),
        ("response", {"status": 302}),
        ("response", {"status": True}),
        ("response", {"headers": {"Set-Cookie": "a=b"}}),
        ("response", {"headers": {"Content-Type": "text/html"}}),
        ("response", {"headers": {"Cache-Control": "a\r\nb"}}),
        ("response", {"body": "x" * 10_001}),
        ("response", {"location": "/"}),
        ("response", []),
        ("retention", {"days": 0}),
        ("retention", {"weeks": 1}),
    ],
)
def test_a_faulty_source_is_refused_by_field(field, value):
    with pytest.raises(Invalid) as caught:
        services.create_source(**{"name": "github", field: value})

    assert {error["field"] for error in caught.value.errors} == {field}


@pytest.mark.django_db
@pytest.mark.parametrize("rate", ["", "0", "1/second", "600/minute", "100000/day"])
def test_rates_are_written_like_600_a_minute(rate):
    assert services.create_source(name="github", rate_limit=rate).rate_limit == rate


@pytest.mark.django_db
def test_a_name_is_given_once():
    services.create_source(name="github")

    with pytest.raises(Invalid) as caught:
        services.create_source(name="github")

    assert caught.value.errors[0]["field"] == "name"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "secrets",
    [
        [{"value": ""}],
        [{"value": "x" * 4097}],
        [{"value": "x"}] * 11,
        [{"value": "x", "starts_at": timezone.now(), "expires_at": timezone.now() - timedelta(days=1)}],
    ],
)
def test_faulty_secrets_are_refused_without_showing_them(secrets):
    with pytest.raises(Invalid) as caught:
        services.create_source(name="github", secrets=secrets)

    assert caught.value.field == "secrets"


@pytest.mark.django_db
def test_deleting_a_source_keeps_its_webhooks():
    source = SourceFactory(name="github")
    webhook = WebhookFactory(source="github")

    services.delete_source(source=source)

    assert Webhook.objects.filter(pk=webhook.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_a_change_counts_at_once_in_the_process_that_made_it(settings):
    settings.INBOX_SOURCE_CACHE_SECONDS = 60
    source = services.create_source(name="github")
    assert sources.find_source("github") == source

    services.update_source(source=source, enabled=False)

    assert sources.find_source("github") is None


@pytest.mark.django_db(transaction=True)
def test_a_source_is_looked_up_once_in_a_while(settings, django_assert_num_queries):
    settings.INBOX_SOURCE_CACHE_SECONDS = 60
    sources.forget("github")
    sources.find_source("github")

    with django_assert_num_queries(0):
        assert sources.find_source("github").name == "github"

    sources.forget("github")
