"""Verifying a stored webhook again: accepted once, and otherwise explained without a secret."""

from __future__ import annotations

import base64
import hmac
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from inbox import services, subscriptions
from inbox.models import Webhook
from inbox.receiving.storing import receive_webhook
from inbox.tests.factories import SourceFactory, WebhookFactory, incoming
from inbox.tests.signed_requests import BODY, SECRET, SIGNED
from inbox.tests.test_signed_by_certificate import Network

pytestmark = pytest.mark.django_db
INBOX = "/v1/webhooks/inbox"


def signature(body=BODY, secret=SECRET, algorithm="sha256"):
    return hmac.new(secret.encode(), body, algorithm)


def signed(body=BODY, *, secret=SECRET, header=None, sent=None, **values):
    """A push of GitHub; `sent` is what arrives when it is not what was signed."""
    headers = [("X-Hub-Signature-256", header or f"sha256={signature(body, secret).hexdigest()}")]
    return incoming(sent or body, headers=[*headers, ("X-GitHub-Delivery", "d-1")], **values)


def make(scheme="github", secret=SECRET, **values):
    return services.create_source(name="github", scheme=scheme, secrets=[{"value": secret}], **values)


def verify(api, webhook):
    response = api.post(f"{INBOX}/{webhook.pk}/verify")
    assert response.status_code == 200, response.json()
    return response.json()


def test_a_rejected_webhook_is_accepted_once_when_its_secret_is_right(api, announced):
    source = make(secret="wrong")
    webhook = receive_webhook(request=signed(), source=source)
    services.update_source(source=source, secrets=[{"value": SECRET}])

    first, again = verify(api, webhook), verify(api, webhook)

    secret_id = source.secrets[0]["id"]
    assert first == {
        "verification": "verified",
        "accepted": True,
        "matched_secret": secret_id,
        "findings": [f"It verifies with the secret {secret_id}."],
        "status": "received",
    }
    assert again["status"] == "received"
    assert [each.pk for each in announced] == [webhook.pk]
    stored = Webhook.objects.get()
    assert (stored.status, stored.verification, stored.dedupe_key) == ("received", "verified", "d-1")
    assert LogEntry.objects.filter(object_id=webhook.pk).count() == 1


def test_what_came_again_meanwhile_stays_the_first(api, announced):
    source = make(secret="wrong")
    early = receive_webhook(request=signed(), source=source)
    services.update_source(source=source, secrets=[{"value": SECRET}])
    first = receive_webhook(request=signed(), source=source)

    verify(api, early)

    stored = Webhook.objects.get(pk=early.pk)
    assert (stored.status, stored.duplicate_of_id) == ("received", first.pk)
    assert announced == [first]


def test_the_time_is_judged_as_it_was_when_it_came(api):
    source = make("slack", "wrong")
    long_ago = timezone.now() - timedelta(days=3)
    at = str(int(long_ago.timestamp()))
    value = f"v0={signature(b'v0:' + at.encode() + b':' + BODY).hexdigest()}"
    headers = [("X-Slack-Signature", value), ("X-Slack-Request-Timestamp", at)]
    webhook = receive_webhook(request=incoming(BODY, headers=headers), source=source)
    services.update_source(source=source, secrets=[{"value": SECRET}])

    assert verify(api, webhook)["verification"] == "stale"

    Webhook.objects.update(received_at=long_ago)
    assert verify(api, webhook)["verification"] == "verified"


@pytest.mark.parametrize(
    ("secret", "request_", "finding"),
    [
        (f"{SECRET} ", signed(), "without the space around it"),
        (f"'{SECRET}'", signed(), "without the quotation marks"),
        (f"SECRET={SECRET}", signed(), "without its name in front"),
        (SECRET, signed(secret=f"{SECRET}\n"), "with a line break at its end"),
        (SECRET, signed(BODY, sent=BODY + b"\n"), "without the line break at its end"),
        (SECRET, signed(BODY + b"\n", sent=BODY), "with a line break at its end"),
        (SECRET, signed(b'{"a":1}', sent=b'{"a": 1}'), "JSON written with other spaces"),
        (
            SECRET,
            signed(header=f"sha256={base64.b64encode(signature().digest()).decode()}"),
            "written in base64, not hex",
        ),
        (SECRET, signed(header=signature().hexdigest()), "without sha256= in front"),
        (SECRET, signed(header=f"sha1={signature(algorithm='sha1').hexdigest()}"), "signed with sha1, not sha256"),
        (SECRET.encode().hex(), signed(), "read as hexadecimal"),
        (base64.b64encode(SECRET.encode()).decode(), signed(), "read as base64"),
        (SECRET, signed(secret="another"), "probably signs with another one"),
        (SECRET, incoming(BODY, headers=[("X-Cal-Signature-256", signature().hexdigest())]), "as the scheme calcom"),
        (SECRET, incoming(BODY, headers=[("Stripe-Signature", "t=1,v1=00")]), "the header of the scheme stripe"),
        (
            SECRET,
            incoming(BODY, headers=[("X-Twilio-Signature", "AAAA")]),
            "X-Twilio-Signature, the header of the scheme",
        ),
        (SECRET, incoming(BODY, headers=[("X-Mandrill-Signature", "AAAA")]), "the header of the scheme mandrill"),
        (SECRET, incoming(BODY, headers=[("Paypal-Transmission-Sig", "AAAA")]), "the header of the scheme paypal"),
        (SECRET, incoming(b'{"notificationItems": []}'), "the fields of the scheme adyen"),
        (SECRET, incoming(b'{"signature": {"token": "t"}}'), "the fields of the scheme mailgun"),
        (
            SECRET,
            incoming(BODY, headers=[("Webhook-Signature", "AAAA")]),
            "webhook-signature, the header of the scheme",
        ),
        (SECRET, signed(header=f"SHA256={signature().hexdigest()}"), "comes with SHA256= in front, not sha256=."),
        (SECRET, incoming(BODY), "stands in X-Hub-Signature-256"),
    ],
)
def test_a_refusal_is_explained_in_words(api, secret, request_, finding):
    webhook = receive_webhook(request=request_, source=make(secret=secret))

    found = verify(api, webhook)

    assert (found["accepted"], found["status"]) == (False, "rejected")
    assert any(finding in sentence for sentence in found["findings"]), found["findings"]
    assert secret.strip() not in " ".join(found["findings"])


@pytest.mark.parametrize("value", [f"{SECRET} ", f" whsec_{SECRET}"])
def test_only_what_helps_is_named(api, value):
    found = verify(api, receive_webhook(request=signed(), source=make(secret=value)))

    assert len([sentence for sentence in found["findings"] if "is taken" in sentence]) == 1


@pytest.mark.parametrize(
    ("options", "name", "value", "finding"),
    [
        (
            {},
            "Authorization",
            SECRET,
            "in the header Authorization alone, not in Authorization after",
        ),
        ({}, "Authorization", f"Token {SECRET}", "in the header Authorization after Token, not in Authorization after"),
        ({}, "X-Token", SECRET, "in the header X-Token alone, not in Authorization after Bearer."),
        ({"header": "X-Token"}, "Authorization", f"bearer {SECRET}", "after bearer, not in X-Token alone."),
        ({"header": "X-Token"}, "X-Token", f"token={SECRET}", "after token=, not in X-Token alone."),
    ],
)
def test_a_token_in_another_place_is_found(api, options, name, value, finding):
    source = make("token", scheme_settings=options)

    found = verify(api, receive_webhook(request=incoming(BODY, headers=[(name, value)]), source=source))

    assert any(finding in sentence for sentence in found["findings"]), found["findings"]
    assert SECRET not in " ".join(found["findings"])


def test_a_webhook_of_adyen_is_recognised_by_its_items(api):
    adyen = next(each for each in SIGNED if each.name.startswith("adyen (its"))
    source = make(secret=adyen.secret)

    found = verify(api, receive_webhook(request=adyen.request(), source=source))

    assert "It is signed as the scheme adyen signs." in found["findings"]


def test_a_secret_of_tomorrow_that_matches_is_named(api):
    starts_at = timezone.now() + timedelta(days=1)
    secrets = [{"value": SECRET, "starts_at": starts_at, "expires_at": starts_at + timedelta(days=9)}]
    source = services.create_source(name="github", scheme="github", secrets=secrets)

    found = verify(api, receive_webhook(request=signed(), source=source))

    assert any(f"is not valid yet, only from {starts_at:%Y-%m-%d %H:%M} UTC" in text for text in found["findings"])


def test_an_old_secret_that_matches_is_named(api):
    yesterday = timezone.now() - timedelta(days=1)
    secrets = [{"value": "new"}, {"value": SECRET, "expires_at": yesterday}]
    source = services.create_source(name="github", scheme="github", secrets=secrets)

    found = verify(api, receive_webhook(request=signed(), source=source))

    assert f"The secret {source.secrets[1]['id']} matches, but it has expired." in found["findings"]


def test_a_secret_that_is_proven_points_to_the_body(api):
    source = make()
    receive_webhook(request=signed(), source=source)

    found = verify(api, receive_webhook(request=signed(sent=b"{}"), source=source))

    assert "altered on" in found["findings"][-1]


@pytest.mark.parametrize(
    ("called", "own"),
    [
        ("http://shop.example/v1/webhooks/inbox/github", "https://shop.example"),
        ("https://shop.example:443/v1/webhooks/inbox/github", "https://shop.example"),
        ("https://shop.example/v1/webhooks/inbox/github/", "https://shop.example"),
        ("https://shop.example/v1/webhooks/inbox/github", "https://other.example"),
        ("https://shop.example/v1/webhooks/inbox/github", ""),
    ],
)
def test_another_address_is_named(api, settings, called, own):
    settings.PUBLIC_URL = own
    value = base64.b64encode(signature(called.encode() + BODY).digest()).decode()
    headers = [("X-Square-HmacSha256-Signature", value), ("Host", "shop.example")]
    webhook = receive_webhook(request=incoming(BODY, headers=headers), source=make("square"))

    found = verify(api, webhook)

    assert any(f"signed the address {called};" in sentence for sentence in found["findings"]), found["findings"]


def test_a_source_without_a_scheme_accepts_what_was_refused(api, announced):
    source = make()
    webhook = receive_webhook(request=incoming(), source=source)
    services.update_source(source=source, scheme="none")

    assert verify(api, webhook)["findings"] == ["The source has no scheme: it accepts everything."]
    assert len(announced) == 1


@pytest.mark.parametrize("scheme", ["none", "github"])
def test_what_a_source_refused_is_not_let_in_by_taking_the_source_away(api, announced, scheme):
    source = make()
    webhook = receive_webhook(request=incoming(), source=source)
    services.update_source(source=source, scheme=scheme, enabled=False)

    disabled = api.post(f"{INBOX}/{webhook.pk}/verify")
    services.delete_source(source=source)
    deleted = api.post(f"{INBOX}/{webhook.pk}/verify")

    assert (disabled.status_code, disabled.json()["type"].rpartition(":")[2]) == (409, "source_unavailable")
    assert "enable it" in disabled.json()["detail"]
    assert (deleted.status_code, "create it again" in deleted.json()["detail"]) == (409, True)
    assert (Webhook.objects.get().status, announced) == ("rejected", [])


def test_a_handshake_that_was_refused_starts_nothing_when_it_is_accepted(api, announced):
    source = make("slack", "wrong")
    body, at = b'{"type": "url_verification", "challenge": "abc"}', str(int(timezone.now().timestamp()))
    value = f"v0={signature(b'v0:' + at.encode() + b':' + body).hexdigest()}"
    headers = [("X-Slack-Signature", value), ("X-Slack-Request-Timestamp", at), ("Idempotency-Key", "k")]
    webhook = receive_webhook(request=incoming(body, headers=headers), source=source)
    services.update_source(source=source, secrets=[{"value": SECRET}])

    assert verify(api, webhook)["status"] == "received"

    stored = Webhook.objects.get()
    assert (stored.verification, stored.flags, stored.dedupe_key) == ("verified", ["handshake"], "")
    assert announced == []


def test_a_chunked_form_is_complete_once_it_verifies(api):
    source = make(secret="wrong")
    request = signed(b"payload=%7B%7D")
    chunked = incoming(request.raw_body, headers=[*request.headers[1:], ("Transfer-Encoding", "chunked")])
    webhook = receive_webhook(request=chunked, source=source)
    services.update_source(source=source, secrets=[{"value": SECRET}])

    verify(api, webhook)

    stored = Webhook.objects.get()
    assert ("maybe_incomplete" in webhook.flags, "maybe_incomplete" in stored.flags) == (True, False)
    assert stored.dedupe_key == "d-1"


def test_an_accepted_webhook_stays_as_it_is(api, announced):
    webhook = WebhookFactory(source="unknown", status="failed")

    assert verify(api, webhook)["status"] == "failed"
    assert announced == []


def test_without_its_body_nothing_can_be_verified(api):
    webhook = WebhookFactory(flags=["payload_removed"], status="rejected")

    assert api.post(f"{INBOX}/{webhook.pk}/verify").status_code == 410


def test_every_refusal_looks_the_same_to_the_sender():
    make()
    bodies = set()

    for header in ("", "garbage", "sha256=00", "sha256=é", f"sha256={signature(b'x').hexdigest()}"):
        response = Client().post(f"{INBOX}/github", BODY, "application/json", headers={"X-Hub-Signature-256": header})
        assert response.status_code == 401
        bodies.add(response.content)

    assert len(bodies) == 1
    found = set(Webhook.objects.values_list("verification", flat=True))
    assert found == {"missing_header", "malformed_header", "mismatch"}


# --- SNS --------------------------------------------------------------------------------------------------------------

TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"
ADDRESS = (
    "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:1:a&Token=2336"
)


def confirmation(**values):
    body = {"Type": "SubscriptionConfirmation", "TopicArn": TOPIC, "SubscribeURL": ADDRESS, **values.pop("body", {})}
    return WebhookFactory(source="aws", verification="verified", flags=["handshake"], body=body, **values)


@pytest.fixture
def topic_source():
    return SourceFactory(name="aws", scheme="sns", scheme_settings={"topics": [TOPIC]})


def test_a_subscription_is_confirmed_at_aws(topic_source):
    network = Network(b"<ConfirmSubscriptionResponse/>")

    webhook = subscriptions.confirm_subscription(webhook=confirmation(), client=network)

    assert network.urls == [ADDRESS]
    assert Webhook.objects.get(pk=webhook.pk).flags == ["confirmed", "handshake"]


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"body": {"SubscribeURL": "https://evil.example/?Action=ConfirmSubscription&Token=1"}}, 403),
        (
            {
                "body": {
                    "SubscribeURL": "https://sns.eu-west-1.amazonaws.com@evil.example/?Action=ConfirmSubscription&a"
                }
            },
            403,
        ),
        ({"body": {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Publish&Token=1"}}, 403),
        ({"body": {"Type": "Notification"}}, 409),
        ({"body": {"TopicArn": TOPIC + "2"}}, 409),
        ({"verification": "mismatch"}, 409),
    ],
)
def test_nothing_else_is_confirmed(api, topic_source, values, status):
    webhook = confirmation(**{key: value for key, value in values.items() if key == "body"})
    Webhook.objects.filter(pk=webhook.pk).update(**{key: value for key, value in values.items() if key != "body"})

    assert api.post(f"{INBOX}/{webhook.pk}/confirm-subscription").status_code == status
