from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from inbox.incoming import IncomingRequest
from inbox.models import Source
from inbox.presets import PRESETS, find_delivery_id, find_event_type
from inbox.tests.factories import incoming

FORM = [["Content-Type", "application/x-www-form-urlencoded"]]


def found(scheme, request):
    source = Source(name="source", scheme=scheme)
    return find_event_type(request, source), find_delivery_id(request, source)


def form(**fields):
    return IncomingRequest(method="POST", path="/", headers=FORM, raw_body=urlencode(fields).encode())


@pytest.mark.parametrize(
    ("scheme", "headers", "body", "event_type", "delivery_id"),
    [
        ("github", {"X-Github-Event": "push", "X-Github-Delivery": "g-1"}, {"action": "a"}, "push", "g-1"),
        ("gitlab", {"X-Gitlab-Event": "Push Hook", "Idempotency-Key": "k", "Webhook-Id": "w"}, {}, "Push Hook", "k"),
        ("gitlab", {"X-Gitlab-Event-Uuid": "u"}, {"object_kind": "push"}, "push", "u"),
        ("stripe", {}, {"type": "charge.failed", "id": "evt_1"}, "charge.failed", "evt_1"),
        ("slack", {}, {"type": "event_callback", "event": {"type": "message"}, "event_id": "Ev1"}, "message", "Ev1"),
        ("slack", {}, {"type": "url_verification"}, "url_verification", ""),
        ("shopify", {"X-Shopify-Topic": "orders/paid", "X-Shopify-Event-Id": "s"}, {}, "orders/paid", "s"),
        ("standard_webhooks", {"Svix-Id": "msg_1"}, {"type": "a.b"}, "a.b", "msg_1"),
        ("linear", {"Linear-Delivery": "l"}, {"type": "Issue", "action": "create"}, "Issue", "l"),
        ("sendgrid", {}, [{"event": "open", "sg_event_id": "e"}], "open", "e"),
        ("hubspot", {}, [{"subscriptionType": "contact.creation", "eventId": 1}], "contact.creation", ""),
        ("mailgun", {}, {"event-data": {"event": "opened"}, "signature": {"token": "t"}}, "opened", "t"),
        (
            "adyen",
            {},
            {"notificationItems": [{"NotificationRequestItem": {"eventCode": "REFUND", "pspReference": "p"}}]},
            "REFUND",
            "REFUND:p",
        ),
        ("adyen", {}, {"notificationItems": [{"NotificationRequestItem": {"eventCode": "REFUND"}}]}, "REFUND", ""),
        ("atlassian", {"X-Event-Key": "repo:push"}, {}, "repo:push", ""),
        ("sns", {"X-Amz-Sns-Message-Type": "Notification"}, {"MessageId": "m"}, "Notification", "m"),
        ("meta", {}, {"object": "page", "entry": [{"changes": [{"field": "feed"}]}]}, "feed", ""),
        ("discord", {}, {"type": 1}, "1", ""),
        ("x", {}, {"for_user_id": "2", "tweet_create_events": [{}]}, "tweet_create_events", ""),
        ("mautic", {}, {"timestamp": 1, "mautic.lead_post_save_new": [{}]}, "mautic.lead_post_save_new", ""),
        ("none", {"X-Github-Event": "ping", "X-Github-Delivery": "g-2"}, {}, "ping", "g-2"),
        ("none", {"Idempotency-Key": "k"}, {"event": "paid"}, "paid", "k"),
        ("none", {}, {"type": "a", "id": "not a delivery id"}, "a", ""),
        ("none", {"X-Github-Delivery": "  "}, {"type": ""}, "", ""),
        ("none", {}, {"type": {"a": 1}, "event_type": True, "event": 10**50}, "", ""),
        ("none", {}, [1], "", ""),
        ("sendgrid", {}, [], "", ""),
    ],
)
def test_each_provider_puts_event_type_and_delivery_id_in_its_own_place(scheme, headers, body, event_type, delivery_id):
    request = incoming(json.dumps(body).encode(), headers=list(headers.items()))

    assert found(scheme, request) == (event_type, delivery_id)


def test_a_form_is_read_for_the_providers_that_send_one():
    request = form(MessageSid="SM1", MessageStatus="delivered")

    assert found("twilio", request) == ("delivered", "SM1:delivered")
    assert found("slack", form(command="/deploy")) == ("/deploy", "")
    assert found("mandrill", form(mandrill_events='[{"event": "open", "_id": "m"}]')) == ("open", "")


@pytest.mark.parametrize("events", ["", "[]", "{}", "[[", "[" * 100_000, "\ud800", '[{"event": ["open"]}]', "é"])
def test_a_form_without_what_a_provider_puts_there_names_nothing(events):
    request = form(mandrill_events=events.encode("utf-8", "surrogatepass"))

    assert found("mandrill", request) == ("", "")


def test_a_form_of_too_many_fields_names_nothing():
    assert found("twilio", form(**{f"f{number}": 1 for number in range(1001)}, CallStatus="ringing")) == ("", "")


@pytest.mark.parametrize("scheme", PRESETS)
@pytest.mark.parametrize("body", [None, [], {}, [[]], "x", 1, {"event": [{}]}, [None], {"entry": {"0": {}}}])
def test_no_body_breaks_a_preset(scheme, body):
    assert all(isinstance(value, str) for value in found(scheme, incoming(json.dumps(body).encode())))


def test_a_source_can_name_its_own_places():
    source = Source(
        name="shop", event_type_from=["query:kind", "body:kind"], delivery_id_from=["body:order.id+header:X-Try"]
    )
    body = {"kind": "paid", "order": {"id": 7}, "type": "other"}
    request = incoming(json.dumps(body).encode(), headers=[("X-Try", "2"), ("Idempotency-Key", "k")])

    assert (find_event_type(request, source), find_delivery_id(request, source)) == ("paid", "7:2")
    assert find_delivery_id(incoming(headers=[("Idempotency-Key", "k")]), source) == ""
