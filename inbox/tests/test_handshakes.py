"""Providers that ask before they send: answered, stored and marked, and nothing starts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.test import Client

from inbox import services
from inbox.models import Webhook
from inbox.tests.signed_requests import BODY_BASE64, SECRET

pytestmark = pytest.mark.django_db
PATH = "/v1/webhooks/inbox/shop"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def sender():
    return Client(enforce_csrf_checks=True)


def make(scheme, value=SECRET, **values):
    return services.create_source(name="shop", scheme=scheme, secrets=[{"value": value}] if value else (), **values)


def mac(message: bytes, secret=SECRET):
    return hmac.new(secret.encode(), message, hashlib.sha256)


def post_timed(sender, body, name, timestamp_name):
    """Signed as Slack and Zoom do."""
    now, raw = str(int(time.time())), json.dumps(body).encode()
    signature = f"v0={mac(f'v0:{now}:'.encode() + raw).hexdigest()}"
    return sender.post(PATH, raw, "application/json", headers={name: signature, timestamp_name: now})


def post_slack(sender, body):
    return post_timed(sender, body, "X-Slack-Signature", "X-Slack-Request-Timestamp")


def post_zoom(sender, body):
    return post_timed(sender, body, "X-Zm-Signature", "X-Zm-Request-Timestamp")


def the_handshake(verification, announced):
    webhook = Webhook.objects.get()
    assert (webhook.status, webhook.verification, webhook.dedupe_key) == ("received", verification, "")
    assert "handshake" in webhook.flags
    assert announced == []
    return webhook


def test_slack_gets_its_challenge_back(sender, announced):
    make("slack")

    response = post_slack(sender, {"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3g"})

    assert (response.status_code, response.content) == (200, b"3eZbrw1aBm2rZgRNFdxV2595E9CY3g")
    assert response["Content-Type"].startswith("text/plain")
    assert response["X-Content-Type-Options"] == "nosniff"
    the_handshake("verified", announced)


def test_an_unsigned_question_of_slack_is_refused(sender, announced):
    make("slack")

    response = sender.post(PATH, {"type": "url_verification", "challenge": "abc"}, "application/json")

    assert response.status_code == 401
    assert b"abc" not in response.content
    assert Webhook.objects.get().status == "rejected"


@pytest.mark.parametrize("challenge", [SCRIPT, "a" * 513, "", "ü", None, {"a": 1}, "a b"])
def test_an_unsafe_challenge_is_not_echoed(sender, challenge):
    make("slack")

    response = post_slack(sender, {"type": "url_verification", "challenge": challenge})

    assert response.status_code == 400
    assert not challenge or str(challenge).encode() not in response.content


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("hub.mode=subscribe&hub.verify_token=t0ken&hub.challenge=1158201444", 200),
        ("hub.mode=subscribe&hub.verify_token=other&hub.challenge=1158201444", 401),
        ("hub.mode=subscribe&hub.verify_token=%FF&hub.challenge=1158201444", 401),
        (f"hub.mode=subscribe&hub.verify_token={SECRET}&hub.challenge=1158201444", 401),
        ("hub.mode=unsubscribe&hub.verify_token=t0ken&hub.challenge=1158201444", 401),
        ("hub.mode=subscribe&hub.verify_token=t0ken&hub.challenge=%3Cscript%3E", 400),
    ],
)
def test_meta_has_to_know_the_verify_token(sender, query, status):
    secrets = [{"value": SECRET}, {"value": "t0ken", "use": "verify_token"}]
    services.create_source(name="shop", scheme="meta", secrets=secrets)

    response = sender.get(f"{PATH}?{query}")

    assert response.status_code == status
    assert (response.content == b"1158201444") == (status == 200)


def test_zoom_gets_its_token_signed(sender, announced):
    make("zoom")

    response = post_zoom(
        sender, {"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}
    )

    token = mac(b"qgg8vlvZRS6UYooatFL8Aw").hexdigest()
    assert response.json() == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": token}
    the_handshake("verified", announced)


@pytest.mark.parametrize("payload", [{}, {"plainToken": ""}, {"plainToken": {"a": 1}}, {"plainToken": "x" * 513}])
def test_a_question_of_zoom_without_a_token_is_refused(sender, announced, payload):
    make("zoom")

    response = post_zoom(sender, {"event": "endpoint.url_validation", "payload": payload})

    assert (response.status_code, response["Content-Type"]) == (400, "text/plain; charset=utf-8")
    the_handshake("verified", announced)


def test_x_gets_its_token_signed(sender, announced):
    make("x")

    response = sender.get(f"{PATH}?crc_token=challenge_string&nonce=1")

    # printf challenge_string | openssl dgst -sha256 -hmac provider-secret -binary | base64
    assert response.json() == {"response_token": "sha256=/IgD1i4fHV7hPqDyzd7Mk+oi6eeykEOB/PrN2OBZPi8="}
    the_handshake("unsigned", announced)


@pytest.mark.parametrize("token", ['{"a":1}', "event=paid", SCRIPT])
def test_x_cannot_be_asked_to_sign_a_webhook(sender, token):
    make("x")

    response = sender.get(PATH, {"crc_token": token})

    assert response.status_code == 400
    assert b"sha256" not in response.content


def test_discord_pings_are_answered_and_wrong_ones_refused(sender, announced):
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    make("discord", key.public_key().public_bytes_raw().hex())

    def post(body, key=key):
        now, raw = str(int(time.time())), json.dumps(body).encode()
        headers = {"X-Signature-Ed25519": key.sign(now.encode() + raw).hex(), "X-Signature-Timestamp": now}
        return sender.post(PATH, raw, "application/json", headers=headers)

    interaction, event_ping = post({"type": 1, "id": "1"}), post({"version": 1, "type": 0})
    event = post({"version": 1, "type": 1, "event": {"type": "APPLICATION_AUTHORIZED"}})
    wrong = post({"type": 1}, Ed25519PrivateKey.generate())

    assert (interaction.status_code, interaction.json()) == (200, {"type": 1})
    assert (event_ping.status_code, event_ping.content) == (204, b"")
    assert (event.status_code, wrong.status_code) == (204, 401)
    assert [webhook.event_type for webhook in announced] == ["APPLICATION_AUTHORIZED"]


@pytest.mark.parametrize(("scheme", "name"), [("dropbox", "challenge"), ("onfleet", "check")])
def test_dropbox_and_onfleet_get_their_question_back(sender, announced, scheme, name):
    make(scheme, "00ff")

    response = sender.get(PATH, {name: "a1b2-c3"})

    assert (response.status_code, response.content) == (200, b"a1b2-c3")
    the_handshake("unsigned", announced)


@pytest.mark.parametrize("scheme", ["dropbox", "onfleet", "github", "none"])
def test_other_questions_are_webhooks_like_any(sender, announced, scheme):
    make(scheme, "00ff" if scheme != "none" else "")

    response = sender.get(PATH, {"hub.challenge": "abc", "crc_token": "abc", "question": "abc"})

    assert response.status_code == (201 if scheme == "none" else 401)
    assert b"abc" not in response.content


def test_xero_learns_whether_the_key_is_right(sender, announced):
    make("xero")
    body = b'{"events": []}'
    right = hmac.new(SECRET.encode(), body, hashlib.sha256).digest()

    def post(signature):
        return sender.post(PATH, body, "application/json", headers={"X-Xero-Signature": signature})

    assert post(base64.b64encode(right).decode()).status_code == 200
    the_handshake("verified", announced)
    assert post(BODY_BASE64).status_code == 401


@pytest.mark.parametrize("scheme", ["mandrill", "github", "none"])
def test_a_head_request_only_asks_whether_somebody_is_there(sender, announced, scheme):
    make(scheme, SECRET if scheme != "none" else "")

    response = sender.head(PATH)

    assert (response.status_code, response.content) == (200, b"")
    the_handshake("not_configured" if scheme == "none" else "unsigned", announced)


def test_options_names_the_methods_and_lets_cloud_events_in(sender, announced):
    make("github", allowed_methods=["POST", "OPTIONS"])

    response = sender.options(PATH, headers={"WebHook-Request-Origin": "eventgrid.azure.net"})

    assert (response.status_code, response["Allow"]) == (204, "POST, OPTIONS")
    assert response["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
    the_handshake("unsigned", announced)


def test_no_handshake_for_an_address_that_may_not_send(sender, announced):
    make("dropbox", allowed_addresses=["192.0.2.0/24"])

    assert sender.get(PATH, {"challenge": "abc"}).status_code == 401
    assert sender.head(PATH).status_code == 401
