"""Webhooks and sources in the console."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from automation_lab.core import crypto
from inbox.models import Forward, Replay, Source, Webhook
from inbox.tests.factories import SourceFactory, WebhookFactory

CANARY = "<script>alert('canary')</script><img src=x onerror=alert(1)>"

pytestmark = pytest.mark.django_db


def page(model, name, *args):
    return reverse(f"admin:inbox_{model}_{name}", args=args)


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_what_a_sender_sends_is_escaped_everywhere(console):
    webhook = WebhookFactory(
        source="github",
        event_type=CANARY,
        path=f"/v1/webhooks/inbox/github/{CANARY}",
        query_params=[[CANARY, CANARY]],
        headers=[[CANARY, CANARY], ["User-Agent", CANARY]],
        body={CANARY: [CANARY]},
        raw_body=CANARY.encode(),
        content_type=CANARY,
        delivery_id=CANARY,
        error_message=CANARY,
        flags=["<b>"],
    )

    for url in (page("webhook", "changelist"), page("webhook", "change", webhook.pk)):
        html = console.get(url).content.decode()
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert "<b>" not in html
    assert "&lt;script&gt;alert" in html


def test_a_body_is_shown_pretty_raw_and_as_bytes(console):
    webhook = WebhookFactory(body={"ref": "refs/heads/main"}, raw_body=b'{"ref":"refs/heads/main"}')

    html = console.get(page("webhook", "change", webhook.pk)).content.decode()

    assert re.search("&quot;ref&quot;</button>: &quot;refs/heads/main&quot;", html)
    assert "{&quot;ref&quot;:&quot;refs/heads/main&quot;}" in html
    assert "7b 22 72 65 66" in html
    assert f'href="/v1/webhooks/inbox/{webhook.pk}/raw"' in html


def test_a_large_binary_body_is_capped(console):
    webhook = WebhookFactory(raw_body=bytes(range(256)) * 4096)

    html = console.get(page("webhook", "change", webhook.pk)).content.decode()

    assert "of 1,048,576 bytes" in html
    assert len(html) < 500_000


def test_secrets_in_headers_are_masked(console):
    webhook = WebhookFactory(headers=[["Authorization", "Bearer canary-token"], ["X-Gitlab-Token", "canary-token"]])

    html = console.get(page("webhook", "change", webhook.pk)).content.decode()

    assert "canary-token" not in html
    assert "Bearer [redacted]" in html


def test_only_status_and_notes_can_be_changed(console):
    webhook = WebhookFactory(event_type="push")
    data = {"status": "processed", "notes": "handled by hand", "event_type": "hacked", "raw_body": "x"}

    console.post(page("webhook", "change", webhook.pk), data)

    webhook.refresh_from_db()
    assert (webhook.status, webhook.notes) == ("processed", "handled by hand")
    assert (webhook.event_type, bytes(webhook.raw_body)) == ("push", b"{}")
    assert webhook.processed_at
    assert LogEntry.objects.get().object_id == str(webhook.pk)


def test_rejected_is_not_set_by_hand(console):
    webhook = WebhookFactory()

    response = console.post(page("webhook", "change", webhook.pk), {"status": "rejected", "notes": ""})

    assert "status" in response.context["adminform"].form.errors
    webhook.refresh_from_db()
    assert webhook.status == "received"


def test_a_rejected_webhook_may_get_notes(console):
    webhook = WebhookFactory(status="rejected")

    console.post(page("webhook", "change", webhook.pk), {"status": "rejected", "notes": "a scanner"})

    webhook.refresh_from_db()
    assert webhook.notes == "a scanner"


def test_marking_many_tells_how_many_and_what_was_refused(console):
    fine, refused = WebhookFactory(), WebhookFactory(status="rejected")
    data = {"action": "mark_processed", "_selected_action": [fine.pk, refused.pk]}

    response = console.post(page("webhook", "changelist"), data, follow=True)

    assert Webhook.objects.get(pk=fine.pk).status == "processed"
    assert Webhook.objects.get(pk=refused.pk).status == "rejected"
    assert [str(message) for message in response.context["messages"]] == [
        "Marked as processed. 1 webhook.",
        "1 not changed: A rejected webhook was never accepted, so its status cannot be changed.",
    ]


def test_webhooks_are_not_added_by_hand(console):
    assert console.post(page("webhook", "add"), {}).status_code == 403


def test_a_webhook_is_deleted_with_an_audit_entry(console):
    webhook = WebhookFactory()

    console.post(page("webhook", "delete", webhook.pk), {"post": "yes"})

    assert not Webhook.objects.exists()
    assert LogEntry.objects.get().is_deletion()


def test_the_list_is_filtered_by_a_source_without_a_row(console):
    WebhookFactory(source="unknown-sender", event_type="a.b")
    WebhookFactory(source="github", event_type="c.d")

    html = console.get(page("webhook", "changelist"), {"source": "unknown-sender"}).content.decode()

    assert "a.b" in html
    assert "c.d" not in html


def test_the_filter_offers_sources_and_the_names_that_something_came_under(console):
    SourceFactory(name="waiting")
    WebhookFactory.create_batch(2, source="hello")
    WebhookFactory(source="another")

    html = console.get(page("webhook", "changelist")).content.decode()

    offered = re.search(r'<select[^>]*name="source".*?</select>', html, re.DOTALL)[0]
    assert re.findall(r'value="([a-z]+)"', offered) == ["another", "hello", "waiting"]


def test_the_list_is_filtered_by_verification(console):
    WebhookFactory(event_type="a.b", verification="unsupported", status="rejected")
    WebhookFactory(event_type="c.d", verification="verified")

    refused = console.get(page("webhook", "changelist"), {"verification": "unsupported"}).content.decode()
    verified = console.get(page("webhook", "changelist"), {"verification": "verified"}).content.decode()

    assert ("a.b" in refused, "c.d" in refused) == (True, False)
    assert ("a.b" in verified, "c.d" in verified) == (False, True)


def test_the_list_is_filtered_by_time(console):
    webhook = WebhookFactory(event_type="a.b")
    minute = f"{webhook.received_at:%Y-%m-%dT%H:%M}"

    seen = console.get(page("webhook", "changelist"), {"received_after": minute}).content.decode()
    hidden = console.get(page("webhook", "changelist"), {"received_before": minute}).content.decode()

    assert ("a.b" in seen, "a.b" in hidden) == (True, False)


def test_a_replay_shows_no_headers_bodies_or_secrets(console):
    options = {"url": "https://example.com", "headers": {"X": "canary-a"}, "body": "canary-b", "signing": "canary-c"}
    replay = Replay.objects.create(target="url", options=options, total_count=1, webhook_ids=[1])
    forward = Forward.objects.create(webhook=WebhookFactory(), target="https://example.com", replay=replay)

    html = console.get(page("replay", "change", replay.pk)).content.decode()

    assert "https://example.com" in html
    assert page("forward", "change", forward.pk) in html
    assert "canary" not in html


# --- sources ----------------------------------------------------------------------------------------------------------


def source_form(**changes):
    return {
        "name": "shop",
        "description": "",
        "enabled": "on",
        "scheme": "github",
        "new_secret": "",
        "rate_count": "",
        "rate_period": "",
        "max_body_bytes": "",
        "allowed_methods": "POST",
        "dedupe_by": "delivery_id",
        "response": "{}",
        **changes,
    }


def test_a_source_is_made_with_an_encrypted_secret(console):
    console.post(page("source", "add"), source_form(new_secret="whsec-0123456789-canary"))

    source = Source.objects.get()
    secret = source.secrets[0]
    assert crypto.decrypt(secret["ciphertext"], bind="source:shop") == "whsec-0123456789-canary"
    assert secret["last4"] == "nary"


def test_an_empty_secret_keeps_the_stored_one_and_the_name_stays(console):
    console.post(page("source", "add"), source_form(new_secret="whsec-0123456789-canary"))
    source = Source.objects.get()

    console.post(page("source", "change", source.pk), source_form(name="other", description="changed"))

    changed = Source.objects.get()
    assert (changed.name, changed.description, changed.secrets) == ("shop", "changed", source.secrets)


def test_a_new_secret_ends_the_old_one_at_once(console):
    console.post(page("source", "add"), source_form(new_secret="whsec-0123456789-first"))
    source = Source.objects.get()

    console.post(page("source", "change", source.pk), source_form(new_secret="whsec-0123456789-second"))

    (secret,) = Source.objects.get().secrets
    assert crypto.decrypt(secret["ciphertext"], bind="source:shop") == "whsec-0123456789-second"


def test_a_new_secret_may_leave_the_old_one_valid_for_some_hours(console):
    console.post(page("source", "add"), source_form(new_secret="whsec-0123456789-first"))
    source = Source.objects.get()

    console.post(
        page("source", "change", source.pk), source_form(new_secret="whsec-0123456789-second", overlap_hours=24)
    )

    new, old = Source.objects.get().secrets
    assert (new["last4"], new["expires_at"], old["last4"]) == ("cond", None, "irst")
    assert timedelta(hours=23) < datetime.fromisoformat(old["expires_at"]) - timezone.now() < timedelta(hours=25)


def test_a_secret_that_the_scheme_cannot_use_is_refused_at_its_field(console):
    response = console.post(page("source", "add"), source_form(scheme="basic", new_secret="canary-without-colon"))

    assert "new_secret" in response.context["adminform"].form.errors
    assert b"canary-without-colon" not in response.content
    assert not Source.objects.exists()


def test_a_secret_is_not_given_back_when_the_form_is_refused(console):
    response = console.post(page("source", "add"), source_form(new_secret="canary-secret-value", rate_count="a lot"))

    assert "rate_count" in response.context["adminform"].form.errors
    assert b"canary-secret-value" not in response.content


def test_the_page_of_a_source_has_its_real_address(console):
    source = SourceFactory(name="shop")

    html = console.get(page("source", "change", source.pk), headers={"host": "lab.example.com"}).content.decode()

    assert "http://lab.example.com/v1/webhooks/inbox/shop" in html
