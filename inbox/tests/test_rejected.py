"""What anybody can fill stays bounded, and verifying again takes a webhook in once."""

from __future__ import annotations

import random

import pytest
from django.test import Client

from inbox.models import Source, Webhook
from inbox.receiving import rejected
from inbox.receiving.storing import receive_webhook
from inbox.tests.factories import WebhookFactory, incoming

SIGNED = Source(name="shop", scheme="github")


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(7)


@pytest.mark.django_db
def test_the_newest_are_kept_of_each_source(monkeypatch):
    monkeypatch.setattr(rejected, "MAX_KEPT", 10)
    good = WebhookFactory(source="shop")
    other = WebhookFactory(source="other", status="rejected")
    bad = [receive_webhook(request=incoming(), source=SIGNED) for _ in range(200)]

    kept = Webhook.objects.filter(source="shop", status="rejected")

    # Pruned now and then: at most a few times EVERY beyond the bound.
    assert 10 <= kept.count() <= 10 + 5 * rejected.EVERY
    rejected.bound("shop")
    assert set(kept.values_list("pk", flat=True)) == {webhook.pk for webhook in bad[-10:]}
    assert Webhook.objects.filter(pk__in=[good.pk, other.pk]).count() == 2


@pytest.mark.django_db
def test_their_bytes_are_bounded_too(monkeypatch):
    monkeypatch.setattr(rejected, "MAX_KEPT_BYTES", 100_000)

    for number in range(50):
        receive_webhook(request=incoming(b"%d" % number + b"x" * 30_000), source=SIGNED)

    stored = Webhook.objects.filter(status="rejected")
    assert sum(stored.values_list("size_bytes", flat=True)) <= 100_000
    assert stored.count() == 3


@pytest.mark.django_db
def test_one_is_kept_however_large(monkeypatch):
    monkeypatch.setattr(rejected, "MAX_KEPT_BYTES", 10)

    receive_webhook(request=incoming(b"x" * 100), source=SIGNED)

    assert Webhook.objects.filter(status="rejected").count() == 1


@pytest.mark.django_db
def test_unsigned_handshakes_are_bounded_too(monkeypatch):
    monkeypatch.setattr(rejected, "MAX_KEPT", 5)
    Source.objects.create(name="shop", scheme="mandrill")

    for _ in range(100):
        assert Client().head("/v1/webhooks/inbox/shop").status_code == 200

    rejected.bound("shop")
    assert Webhook.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_two_thousand_bad_posts_leave_a_bounded_table_and_good_ones_alone(client):
    """More would show no more: the bound is reached after the first few hundred."""
    Source.objects.create(name="shop", scheme="github")
    Source.objects.create(name="open")

    answers = {client.post("/v1/webhooks/inbox/shop", b"{}", "application/json").content for _ in range(2000)}
    good = client.post("/v1/webhooks/inbox/open", b"{}", "application/json")

    assert (len(answers), good.status_code) == (1, 201)
    assert Webhook.objects.filter(status="rejected").count() <= rejected.MAX_KEPT + 10 * rejected.EVERY
    assert Webhook.objects.filter(source="open").count() == 1
