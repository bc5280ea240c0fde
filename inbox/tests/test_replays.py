from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry

from automation_lab import tokens
from automation_lab.core import clock
from automation_lab.core.execution import recovery, runner
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.hints import kind_of
from automation_lab.core.execution.tests.helpers import add_worker, take
from automation_lab.core.tests.outbound_cases import ANSWERS, REFUSED
from inbox.models import Forward, Replay
from inbox.replaying import replays
from inbox.tests.factories import WebhookFactory

pytestmark = pytest.mark.django_db
INBOX = "/v1/webhooks/inbox"
REPLAYS = "/v1/webhooks/replays"
# Without those that only their look-up gives away, and those that a JSON text cannot hold.
REFUSED_BY_THEIR_TEXT = [url for _, url, _ in REFUSED if not any(name in url for name in ANSWERS) and "\x00" not in url]
URL = "https://hooks.example.com/in"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def order(count=3, *, rate=100.0, **options):
    """A batch of `count` webhooks to URL."""
    ids = [WebhookFactory().pk for _ in range(count)]
    return replays.replay_webhooks(
        webhook_ids=ids, filters={}, target="url", options={"url": URL, **options}, rate_per_second=rate
    )


def run_slice(replay):
    runner.run(kind_of(Replay), replay.pk, worker=add_worker())
    replay.refresh_from_db()
    return replay


# --- one webhook ------------------------------------------------------------------------------------------------------


def test_one_webhook_is_sent_to_an_address(api):
    webhook = WebhookFactory()

    response = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "url", "url": URL})

    assert response.status_code == 202
    replay, forward = response.json(), Forward.objects.get()
    assert (replay["status"], replay["total_count"], replay["done_count"]) == ("success", 1, 1)
    assert replay["executions"] == [
        {"kind": "inbox.forward", "id": forward.pk, "status": "pending", "webhook": webhook.pk}
    ]
    assert (forward.target, forward.mode, forward.trigger) == (URL, "original", "replay")
    assert forward.job_id is not None
    assert LogEntry.objects.get().object_id == str(replay["id"])


def test_a_refused_webhook_may_be_sent_to_an_address(api):
    webhook = WebhookFactory(status="rejected")

    assert api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "url", "url": URL}).status_code == 202


def test_a_webhook_without_its_body_is_sent_only_with_another_one(api):
    webhook = WebhookFactory(flags=["payload_removed"])
    path, order = f"{INBOX}/{webhook.pk}/replay", {"target": "url", "url": URL}

    refused = api.post(path, order)
    edited = api.post(path, {**order, "body": {}})

    assert (refused.status_code, edited.status_code) == (409, 202)
    assert refused.json()["type"].endswith(":payload_removed")


@pytest.mark.parametrize("url", REFUSED_BY_THEIR_TEXT)
def test_a_refused_address_gets_no_forward(api, url):
    webhook = WebhookFactory()

    response = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "url", "url": url})

    assert (response.status_code, Forward.objects.count(), Replay.objects.count()) == (400, 0, 0)
    assert response.json()["errors"][0]["field"] == "url"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "target"),
        ({"target": "elsewhere"}, "target"),
        ({"target": "url"}, "url"),
        ({"target": "url", "url": URL, "mode": "edited"}, "mode"),
        ({"target": "url", "url": URL, "mode": "original", "body": {}}, "mode"),
        ({"target": "url", "url": URL, "mode": "resigned"}, "signing"),
        ({"target": "url", "url": URL, "mode": "original", "signing": {"scheme": "source"}}, "mode"),
        ({"target": "url", "url": URL, "signing": {"scheme": "standard_webhooks"}}, "signing.secret"),
        ({"target": "url", "url": URL, "signing": {"scheme": "source", "secret": "x"}}, "signing.secret"),
        ({"target": "url", "url": URL, "signing": {"scheme": "standard_webhooks", "secret": "x"}}, "signing.secret"),
        ({"target": "url", "url": URL, "headers": {"Host": "x"}}, "headers"),
        ({"target": "url", "url": URL, "headers": {"Connection": "x"}}, "headers"),
        ({"target": "url", "url": URL, "headers": {"X-A": "b\r\nX-C: d"}}, "headers"),
        ({"target": "url", "url": URL, "headers": {"X-A": 1}}, "headers"),
        ({"target": "url", "url": URL, "headers": {f"X-{n}": "" for n in range(51)}}, "headers"),
        ({"target": "url", "url": URL, "body": "x" * 1_048_577}, "body"),
        ({"target": "url", "url": URL, "retry_policy": {"max_attempts": 0}}, "retry_policy.max_attempts"),
        ({"target": "url", "url": URL, "retry_policy": {"retry_if": "true"}}, "retry_policy.retry_if"),
        ({"target": "url", "url": URL, "surprise": 1}, "surprise"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(api, body, field):
    webhook = WebhookFactory()

    response = api.post(f"{INBOX}/{webhook.pk}/replay", body)

    assert (response.status_code, Replay.objects.count()) == (400, 0)
    assert response.json()["errors"][0]["field"] == field


def test_secrets_of_an_order_are_not_shown(api):
    webhook = WebhookFactory()
    body = {
        "target": "url",
        "url": URL,
        "headers": {"Authorization": "Bearer very-secret-token"},
        "signing": {"scheme": "standard_webhooks", "secret": WHSEC},
    }

    created = api.post(f"{INBOX}/{webhook.pk}/replay", body).json()

    shown = json.dumps([created, api.get(f"{REPLAYS}/{created['id']}").json(), api.get(REPLAYS).json()])
    assert created["options"]["headers"] == ["Authorization"]
    assert created["options"]["signing"] == {"scheme": "standard_webhooks"}
    assert "very-secret-token" not in shown
    assert WHSEC not in shown
    assert "ciphertext" not in shown


def test_the_same_key_gives_the_same_replay(api):
    webhook = WebhookFactory()
    path, body = f"{INBOX}/{webhook.pk}/replay", {"target": "url", "url": URL}

    first = api.post(path, body, HTTP_IDEMPOTENCY_KEY="k-1").json()
    again = api.post(path, body, HTTP_IDEMPOTENCY_KEY="k-1").json()
    other = api.post(path, {**body, "url": f"{URL}/2"}, HTTP_IDEMPOTENCY_KEY="k-1")

    assert (again["id"], Forward.objects.count()) == (first["id"], 1)
    assert other.status_code == 409


def test_a_replay_needs_the_rights_of_its_target(admin_user, user, api):
    webhook = WebhookFactory()
    _, plain = tokens.create_token(user=admin_user, name="inbox", scopes=["inbox:write"], expires_at=None)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")

    to_url = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "url", "url": URL})
    to_workflows = api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "workflows"})

    assert (to_url.status_code, to_workflows.status_code) == (202, 403)
    assert to_workflows.json()["detail"] == 'This token lacks the scope "workflows:write".'


def test_nobody_replays_without_signing_in(anonymous_api):
    webhook = WebhookFactory()

    assert anonymous_api.post(f"{INBOX}/{webhook.pk}/replay", {"target": "url", "url": URL}).status_code == 401
    assert anonymous_api.post(REPLAYS, {}).status_code == 401
    assert anonymous_api.get("/v1/webhooks/forwards").status_code == 401


# --- many webhooks ----------------------------------------------------------------------------------------------------


def test_a_dry_run_only_counts(api):
    WebhookFactory.create_batch(3)
    WebhookFactory(source="gitlab")

    response = api.post(REPLAYS, {"target": "url", "url": URL, "filter": {"source": "github"}, "dry_run": True})

    assert response.status_code == 200
    assert response.json() == {"dry_run": True, "count": 3, "count_is_capped": False}
    assert (Replay.objects.count(), Forward.objects.count()) == (0, 0)


def test_a_filter_leaves_out_refused_requests_repetitions_and_handshakes_unless_it_names_them(api):
    first = WebhookFactory()
    WebhookFactory(flags=["handshake"])
    WebhookFactory(is_duplicate=True, duplicate_of=first)
    WebhookFactory(status="rejected")

    def count(**filters):
        return api.post(REPLAYS, {"target": "url", "url": URL, "filter": filters, "dry_run": True}).json()["count"]

    assert count() == 1
    assert count(is_duplicate=True) == 1
    assert count(status="rejected") == 1
    assert count(flag="handshake") == 1


@pytest.mark.parametrize(
    ("selection", "field"),
    [
        ({}, "filter"),
        ({"ids": [1], "filter": {}}, "filter"),
        ({"filter": {"sorce": "github"}}, "filter.sorce"),
        ({"filter": {"status": "new"}}, "filter.status"),
        ({"filter": {"source": ["github"]}}, "filter.source"),
        ({"filter": {"source": ""}}, "filter.source"),
        ({"filter": {"source": "github", "body.action": " "}}, "filter.body.action"),
        ({"filter": {"source": "nobody"}}, "filter"),
        ({"ids": []}, "ids"),
        ({"ids": [1], "rate_per_second": 0}, "rate_per_second"),
        ({"ids": [1], "rate_per_second": 101}, "rate_per_second"),
        ({"ids": ["1"]}, "ids[0]"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(api, selection, field):
    response = api.post(REPLAYS, {"target": "url", "url": URL, **selection})

    assert (response.status_code, Replay.objects.count()) == (400, 0)
    assert response.json()["errors"][0]["field"].startswith(field.removesuffix("[0]"))


def test_an_unknown_webhook_is_named(api):
    webhook = WebhookFactory()

    response = api.post(REPLAYS, {"target": "url", "url": URL, "ids": [webhook.pk, 10**9]})

    assert (response.status_code, Replay.objects.count()) == (404, 0)
    assert "1000000000" in response.json()["detail"]


def test_more_than_a_batch_holds_is_refused(api, monkeypatch):
    monkeypatch.setattr(replays, "MOST_WEBHOOKS", 2)
    WebhookFactory.create_batch(3)
    body = {"target": "url", "url": URL, "filter": {"source": "github"}}

    counted = api.post(REPLAYS, {**body, "dry_run": True}).json()
    response = api.post(REPLAYS, body)

    assert (counted["count"], counted["count_is_capped"]) == (2, True)
    assert (response.status_code, Replay.objects.count()) == (400, 0)
    assert "narrow the filter" in response.json()["detail"]


def test_a_batch_waits_for_a_worker_and_shows_its_progress(api):
    WebhookFactory.create_batch(3)

    created = api.post(REPLAYS, {"target": "url", "url": URL, "filter": {"source": "github"}, "rate_per_second": 2.0})
    run_slice(Replay.objects.get())

    assert (created.status_code, created.json()["status"], created.json()["total_count"]) == (202, "pending", 3)
    shown = api.get(f"{REPLAYS}/{created.json()['id']}").json()
    assert (shown["status"], shown["done_count"], shown["outcomes"]) == ("running", 2, {"pending": 2})


def test_a_batch_goes_on_from_where_it_was_oldest_first():
    replay = order(5, rate=2.0)

    positions = []
    for _ in range(3):
        run_slice(replay)
        positions.append((replay.status, replay.position, Forward.objects.count()))
        Replay.objects.filter(pk=replay.pk).update(due_at=clock.database_now())

    assert positions == [("running", 2, 2), ("running", 4, 4), ("success", 5, 5)]
    assert list(Forward.objects.order_by("id").values_list("webhook_id", flat=True)) == replay.webhook_ids


@pytest.mark.parametrize(("rate", "count", "seconds"), [(0.5, 1, 2.0), (4.0, 4, 1.0), (100.0, 100, 1.0)])
def test_the_rate_decides_when_the_next_slice_is_due(rate, count, seconds):
    replay = order(count + 1, rate=rate)
    before = replay.due_at

    run_slice(replay)

    assert (replay.position, (replay.due_at - before).total_seconds()) == (count, seconds)


def test_a_late_batch_catches_up_a_little():
    replay = order(3, rate=1.0)
    Replay.objects.filter(pk=replay.pk).update(due_at="2020-01-01T00:00:00Z")

    run_slice(replay)

    assert -1.5 < (replay.due_at - clock.database_now()).total_seconds() <= -0.5


def test_a_worker_that_dies_in_a_slice_leaves_nothing_of_it(monkeypatch):
    replay = order(3)
    target = replays.replay_targets.get("url")
    started = []

    def start(webhook, replay):
        started.append(webhook)
        if len(started) == 2:
            raise SystemExit
        return target.start(webhook, replay)

    monkeypatch.setattr(replays, "_start", lambda target, webhook, pk, replay: start(webhook, replay) and "")
    with pytest.raises(SystemExit):
        run_slice(replay)

    replay.refresh_from_db()
    assert (replay.position, Forward.objects.count()) == (0, 0)


def test_webhooks_that_are_gone_are_counted_and_the_others_go_on():
    replay = order(3)
    Forward.objects.all().delete()
    gone = replay.webhook_ids[1]
    replays.Webhook.objects.filter(pk=gone).delete()

    run_slice(replay)

    assert (replay.status, replay.done_count, replay.failed_count) == ("failed", 2, 1)
    assert replay.error_message == f"Webhook {gone} has been deleted."


def test_a_batch_that_started_nothing_has_failed():
    replay = order(2)
    replays.Webhook.objects.all().delete()

    run_slice(replay)

    assert (replay.status, replay.done_count, replay.failed_count) == ("failed", 0, 2)


def test_a_stopped_batch_starts_nothing_more_and_its_waiting_forwards_end(api):
    replay = order(5, rate=2.0)
    run_slice(replay)

    response = api.post(f"{REPLAYS}/{replay.pk}/stop")
    run_slice(replay)

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert response.json()["outcomes"] == {"cancelled": 2}
    assert (replay.status, replay.done_count, Forward.objects.count()) == ("cancelled", 2, 2)
    assert api.post(f"{REPLAYS}/{replay.pk}/stop").status_code == 409


@pytest.mark.parametrize(("reason", "status"), [("cancelled", "cancelled"), ("stopping", "running")])
def test_a_slice_that_is_told_to_stop_lets_go(monkeypatch, reason, status):
    replay = order(3)
    claims = []

    def noted(**values):
        claims.append(Claim(**values))
        claims[-1].cancellation.cancel(reason)
        return claims[-1]

    monkeypatch.setattr(runner, "Claim", noted)
    run_slice(replay)

    assert (replay.status, replay.worker, replay.position) == (status, None, 0)


def lose_workers(replay, number):
    for _ in range(number):
        Replay.objects.filter(pk=replay.pk).update(due_at=clock.database_now())
        take(replay, worker=add_worker(silent_seconds=60))
        recovery.recover()
    replay.refresh_from_db()


def test_a_batch_that_loses_its_worker_again_and_again_is_given_up():
    replay = order(3)

    lose_workers(replay, 5)

    assert (replay.status, replay.position) == ("failed", 0)
    assert replay.error_message == "5 workers were lost in this replay: it is not tried again."


def test_a_batch_that_goes_on_between_lost_workers_is_not_given_up():
    replay = order(5, rate=2.0)

    lose_workers(replay, 4)
    run_slice(replay)
    lose_workers(replay, 4)

    assert (replay.status, replay.position) == ("running", 2)


# --- forwards and lists -----------------------------------------------------------------------------------------------


def test_a_forward_is_shown_with_its_attempts_and_can_be_cancelled(api):
    run_slice(order(1))
    forward = Forward.objects.get()

    listed = api.get(f"/v1/webhooks/forwards?webhook={forward.webhook_id}").json()["results"]
    cancelled = api.post(f"/v1/webhooks/forwards/{forward.pk}/cancel")
    shown = api.get(f"/v1/webhooks/forwards/{forward.pk}").json()

    assert [row["id"] for row in listed] == [forward.pk]
    assert (cancelled.status_code, shown["status"], shown["attempts"]) == (200, "cancelled", [])
    assert api.post(f"/v1/webhooks/forwards/{forward.pk}/cancel").status_code == 409


@pytest.mark.parametrize("path", [REPLAYS, "/v1/webhooks/forwards"])
def test_the_lists_need_the_same_queries_for_one_row_and_for_many(api, django_assert_num_queries, path):
    run_slice(order(1))
    api.get(path)
    with django_assert_num_queries(3):
        assert api.get(path).json()["count"] == 1
    for _ in range(9):
        run_slice(order(1))

    with django_assert_num_queries(3):
        assert api.get(path).json()["count"] == 10


@pytest.mark.parametrize("path", [f"{REPLAYS}?status=new", f"{REPLAYS}?sorce=1", "/v1/webhooks/forwards?webhook=x"])
def test_unknown_filters_are_refused(api, path):
    assert api.get(path).status_code == 400


@pytest.mark.parametrize("path", ["replays/{replay}/stop", "forwards/{forward}/cancel"])
def test_a_change_and_its_audit_line_are_made_together(api, failing_audit, path):
    replay = order(3)
    forward = Forward.objects.create(webhook=WebhookFactory(), replay=replay, target=URL)

    with pytest.raises(ConnectionAbortedError):
        api.post("/v1/webhooks/" + path.format(replay=replay.pk, forward=forward.pk))

    replay.refresh_from_db()
    forward.refresh_from_db()
    assert (replay.status, forward.status) == ("pending", "pending")
