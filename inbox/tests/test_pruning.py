"""What is kept how long: by the installation's setting, and by each source's own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from automation_lab.core import pruning as core_pruning
from inbox import pruning
from inbox.models import Forward, ForwardAttempt, RateWindow, Replay, Webhook
from inbox.receiving import limits, rejected
from inbox.tests.factories import SourceFactory, WebhookFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def received(days_ago, source="shop", **values):
    return WebhookFactory(source=source, received_at=NOW - timedelta(days=days_ago), **values).pk


def prune(prune_table, days=30, dry_run=False):
    return prune_table(now=NOW, days=days, dry_run=dry_run)


def left():
    return set(Webhook.objects.values_list("pk", flat=True))


def test_a_source_keeps_its_webhooks_for_days_of_its_own():
    SourceFactory(name="long", retention={"days": 90})
    SourceFactory(name="short", retention={"days": 5})
    kept = {received(40, "long"), received(4, "short"), received(20)}
    received(91, "long"), received(6, "short"), received(31)

    assert prune(pruning.prune_webhooks) == 1
    assert prune(pruning.prune_sources) == 2
    assert left() == kept


def test_a_source_keeps_a_number_of_webhooks():
    SourceFactory(name="shop", retention={"count": 3})
    other = received(0, "other")
    mine = [received(0) for _ in range(5)]

    assert prune(pruning.prune_sources, dry_run=True) == 2
    assert prune(pruning.prune_sources) == 2
    assert left() == {other, *mine[2:]}


def test_a_source_keeps_a_number_of_bytes():
    SourceFactory(name="shop", retention={"bytes": 250})
    mine = [received(0, raw_body=b"x" * 100) for _ in range(5)]

    assert prune(pruning.prune_sources) == 3
    assert left() == set(mine[3:])


@pytest.mark.parametrize("retention", [{"count": 3}, {"bytes": 300}])
@pytest.mark.parametrize("refused", [{"status": "rejected"}, {"verification": "unsigned"}])
def test_what_anybody_can_send_pushes_no_good_webhook_out(retention, refused):
    SourceFactory(name="shop", retention=retention)
    good = [received(0, raw_body=b"x" * 100) for _ in range(4)]
    bad = [received(0, raw_body=b"x" * 100, **refused) for _ in range(9)]

    assert prune(pruning.prune_sources, dry_run=True) == 1
    assert prune(pruning.prune_sources) == 1
    assert left() == {*good[1:], *bad}


def test_payloads_go_earlier_than_the_rest(api):
    SourceFactory(name="shop", retention={"days": 30, "payload_days": 7})
    old = received(8, raw_body=b'{"a": 1}', body={"a": 1}, headers=[["X-A", "1"]])
    young = received(6, raw_body=b'{"a": 1}', body={"a": 1})

    assert prune(pruning.remove_payloads, dry_run=True) == 1
    assert prune(pruning.remove_payloads) == 1
    assert prune(pruning.remove_payloads) == 0

    stripped = Webhook.objects.get(pk=old)
    assert (bytes(stripped.raw_body), stripped.body, stripped.flags) == (b"", None, ["payload_removed"])
    assert (stripped.size_bytes, stripped.headers) == (8, [["X-A", "1"]])
    assert [row["id"] for row in api.get("/v1/webhooks/inbox?body.a=1").json()["results"]] == [young]
    assert [row["id"] for row in api.get("/v1/webhooks/inbox?header.X-A=1").json()["results"]] == [old]
    assert Webhook.objects.get(pk=young).body == {"a": 1}
    gone = api.get(f"/v1/webhooks/inbox/{old}/raw")
    assert (gone.status_code, gone["Content-Type"]) == (410, "application/problem+json")


def test_refused_requests_are_bounded_at_night_too(monkeypatch):
    monkeypatch.setattr(rejected, "MAX_KEPT", 2)
    SourceFactory(name="shop")
    refused = [received(0, status="rejected") for _ in range(5)]

    prune(pruning.prune_sources)

    assert left() == set(refused[3:])


def test_counts_of_the_limits_go_when_they_are_over():
    SourceFactory(name="shop")
    for key, days in [("source:shop", 9), ("source:gone", 0), ("address:192.0.2.7/60", 3), ("all", 0)]:
        RateWindow.objects.create(key=key, window_at=NOW - timedelta(days=days))

    assert prune(pruning.prune_rate_windows) == 2
    assert set(RateWindow.objects.values_list("key", flat=True)) == {"source:shop", "all"}


def test_addresses_are_forgotten_soon():
    for key, seconds in [("address:192.0.2.7/60", 121), ("address:192.0.2.8/60", 60), ("source:shop", 9999)]:
        asked_at = timezone.now() - timedelta(seconds=seconds)
        RateWindow.objects.create(key=key, period_seconds=60, window_at=asked_at)

    limits.forget_old_addresses()

    assert set(RateWindow.objects.values_list("key", flat=True)) == {"address:192.0.2.8/60", "source:shop"}


def test_sources_are_pruned_although_webhooks_are_kept_for_ever(settings):
    settings.RETENTION_WEBHOOKS_DAYS = 0
    SourceFactory(name="shop", retention={"days": 5})
    kept = received(400, "other")
    received(6)

    counts = core_pruning.prune(now=NOW)

    assert (counts["webhooks"], counts["webhooks of sources"]) == (0, 1)
    assert left() == {kept}


# --- replays and forwards ---------------------------------------------------------------------------------------------


def ended(model, days_ago, status="success", **values):
    """A row of `model` that was ordered and ended so long ago; none of a live status has ended."""
    ended_at = NOW - timedelta(days=days_ago)
    row = model.objects.create(status=status, finished_at=ended_at if status == "success" else None, **values)
    model.objects.filter(pk=row.pk).update(created_at=ended_at)
    return row


def forward(days_ago, status="success", **values):
    return ended(Forward, days_ago, status, webhook=WebhookFactory(), target="https://a.example", **values)


def test_forwards_go_with_their_attempts_when_their_end_is_old():
    gone, kept, busy = forward(31), forward(29), forward(31, "running")
    ForwardAttempt.objects.create(forward=gone, number=1, epoch=1, worker=1, status="success", started_at=NOW)

    assert prune(pruning.prune_forwards, dry_run=True) == 1
    assert prune(pruning.prune_forwards) == 1

    assert set(Forward.objects.all()) == {kept, busy}
    assert not ForwardAttempt.objects.exists()
    assert Webhook.objects.count() == 3


def test_replays_go_when_they_and_their_forwards_have_ended_long_ago():
    gone, young, busy = ended(Replay, 31), ended(Replay, 29), ended(Replay, 31, "running")
    waiting, late = ended(Replay, 31), ended(Replay, 31)
    forward(31, replay=gone)
    held = [forward(31, "pending", replay=waiting), forward(29, replay=late), forward(31, replay=busy)]

    assert prune(pruning.prune_replays, dry_run=True) == 1
    assert (prune(pruning.prune_forwards), prune(pruning.prune_replays)) == (1, 1)

    assert set(Replay.objects.all()) == {young, busy, waiting, late}
    assert set(Forward.objects.all()) == set(held)


def test_replays_and_forwards_are_kept_as_long_as_executions(settings):
    settings.RETENTION_EXECUTIONS_DAYS = 10
    ended(Replay, 11), forward(11)

    counts = core_pruning.prune(now=NOW)

    assert (counts["forwards"], counts["replays"]) == (1, 1)
