from __future__ import annotations

import hmac
import json
import os

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from inbox import services
from inbox.models import Source, Webhook
from inbox.receiving import sources
from inbox.tests.factories import SourceFactory

pytestmark = pytest.mark.django_db
PATH = "/v1/webhooks/inbox/github"


@pytest.fixture
def sender():
    """A client as senders are: without token or session, and without a CSRF token."""
    return Client(enforce_csrf_checks=True)


def test_a_new_delivery_is_answered_201_and_a_repeated_one_200(sender):
    first = sender.post(PATH, {"a": 1}, "application/json", headers={"X-GitHub-Delivery": "d-1"})
    again = sender.post(PATH, {"a": 1}, "application/json", headers={"X-GitHub-Delivery": "d-1"})

    stored, repeated = Webhook.objects.order_by("pk")
    assert (first.status_code, first.json()) == (201, {"id": stored.pk, "status": "received", "duplicate": False})
    assert (again.status_code, again.json()) == (200, {"id": repeated.pk, "status": "received", "duplicate": True})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_every_common_method_is_received(sender, method):
    response = sender.generic(method, PATH, b"{}", "application/json")

    assert response.status_code == 201
    assert Webhook.objects.get().method == method


def test_a_head_request_is_received_and_answered_without_a_body(sender):
    response = sender.head(PATH)

    assert (response.status_code, response.content) == (200, b"")
    assert Webhook.objects.get().method == "HEAD"


@pytest.mark.parametrize("method", ["FOO", "TRACE", "PROPFIND", "POST" * 20])
def test_other_methods_are_refused_with_the_ones_that_are_not(sender, method):
    response = sender.generic(method, PATH, b"{}")

    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert not Webhook.objects.exists()


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("/", "/v1/webhooks/inbox/github/"),
        ("/a/b", "/v1/webhooks/inbox/github/a/b"),
        ("//", "/v1/webhooks/inbox/github//"),
        ("/%0A%C3%BC", "/v1/webhooks/inbox/github/\nü"),
        ("/%00", "/v1/webhooks/inbox/github/\ufffd"),
        ("/%FF", "/v1/webhooks/inbox/github/%FF"),
        ("/raw", "/v1/webhooks/inbox/github/raw"),
    ],
)
def test_whatever_follows_the_name_is_received_too(sender, rest, path):
    response = sender.post(PATH + rest, b"{}", "application/json")

    assert response.status_code == 201
    webhook = Webhook.objects.get()
    assert (webhook.source, webhook.path) == ("github", path)


@pytest.mark.parametrize(
    "name",
    ["", "GitHub", "-a", "a.b", "gith%C3%BCb", "a" * 65, "export", "1/x", "9" * 5000, "github%0A", "%00", "a%20b"],
)
def test_other_names_are_not_found(sender, name):
    response = sender.post(f"/v1/webhooks/inbox/{name}", b"{}", "application/json")

    assert response.status_code in (401, 404, 405)  # "export" is an address of the API
    assert response["Content-Type"] == "application/problem+json"
    assert not Webhook.objects.exists()


@pytest.mark.parametrize("name", ["a", "0a", "a_-", "a" * 64, "12-34"])
def test_names_of_letters_digits_and_dashes_are_received(sender, name):
    assert sender.post(f"/v1/webhooks/inbox/{name}", b"{}", "application/json").status_code == 201


def test_an_unknown_and_a_disabled_source_give_the_same_answer(sender, settings):
    settings.INBOX_ACCEPT_UNKNOWN = False
    SourceFactory(name="github", enabled=False)

    disabled = sender.post(PATH, b"{}", "application/json")
    unknown = sender.post("/v1/webhooks/inbox/gitlab", b"{}", "application/json")

    assert disabled.status_code == unknown.status_code == 404
    assert disabled.content.replace(b"github", b"gitlab") == unknown.content
    assert not Webhook.objects.exists()


def test_a_name_that_is_none_is_refused_with_what_a_name_is(sender):
    refused = sender.post("/v1/webhooks/inbox/GitHub", b"{}", "application/json")

    assert refused.status_code == 404
    assert "lower-case letters" in refused.json()["detail"]


def test_a_disabled_source_is_closed_although_unknown_names_are_accepted(sender):
    SourceFactory(name="github", enabled=False)

    assert sender.post(PATH, b"{}", "application/json").status_code == 404


def test_a_source_limits_methods_and_sizes(sender):
    SourceFactory(name="github", allowed_methods=["POST"], max_body_bytes=10)

    assert sender.get(PATH)["Allow"] == "POST"
    assert sender.post(PATH, b"x" * 10, "text/plain").status_code == 201
    refused = sender.post(PATH, b"x" * 11, "text/plain")
    assert refused.status_code == 413
    assert "10 bytes" in refused.json()["detail"]


def test_a_source_gives_its_own_answer(sender):
    SourceFactory(
        name="github", response={"status": 202, "headers": {"Cache-Control": "no-store"}, "body": {"ok": True}}
    )

    response = sender.post(PATH, b"{}", "application/json")

    assert (response.status_code, json.loads(response.content)) == (202, {"ok": True})
    assert (response["Content-Type"], response["Cache-Control"]) == ("application/json", "no-store")


def test_a_text_of_a_source_is_answered_as_text(sender):
    SourceFactory(name="github", response={"body": "<b>ok</b>"})

    response = sender.post(PATH, b"{}", "application/json")

    assert (response.status_code, response.content) == (201, b"<b>ok</b>")
    assert response["Content-Type"].startswith("text/plain")
    assert response["X-Content-Type-Options"] == "nosniff"


def test_a_204_has_no_body(sender):
    SourceFactory(name="github", response={"status": 204, "body": "ignored"})

    assert sender.post(PATH, b"{}", "application/json").content == b""


def test_a_sender_that_is_not_accepted_learns_nothing_but_401(sender):
    SourceFactory(name="github", scheme="github")

    response = sender.post(PATH, b"{}", "application/json", headers={"X-Hub-Signature-256": "sha256=00"})

    assert response.status_code == 401
    assert response.json()["detail"] == "The signature is not accepted."
    assert Webhook.objects.get().status == "rejected"


def test_a_session_gains_nothing_and_none_is_made(browser):
    response = browser.post(PATH, b"{}", "application/json")

    assert response.status_code == 201
    assert not response.cookies


def test_the_query_names_the_event_type(sender):
    sender.post(
        f"{PATH}?event_type=deploy&x=%00&x=%ff&y", b"{}", "application/json", headers={"X-GitHub-Event": "push"}
    )

    webhook = Webhook.objects.get()
    assert webhook.event_type == "deploy"
    assert webhook.query_params == [["event_type", "deploy"], ["x", "\ufffd"], ["x", "\ufffd"], ["y", ""]]
    assert webhook.flags == ["characters_replaced"]


def test_variables_of_the_server_are_no_headers_of_the_sender(sender, monkeypatch):
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://user:password@proxy")

    sender.post(PATH, b"{}", "application/json", HTTP_PROXY=os.environ["HTTP_PROXY"], HTTP_X_NOTE="a")

    names = [name for name, _ in Webhook.objects.get().headers]
    assert "Proxy" not in names
    assert "X-Note" in names


def test_a_long_query_is_cut(sender):
    sender.post(f"{PATH}?{'a&' * 1500}", b"{}", "application/json")

    webhook = Webhook.objects.get()
    assert len(webhook.query_params) == 1000
    assert "query_truncated" in webhook.flags


@pytest.mark.django_db(transaction=True)
def test_without_a_database_the_sender_is_asked_to_come_again(sender, monkeypatch):
    connection.close()

    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "HOST", "/nowhere")
        response = sender.post(PATH, b"{}", "application/json")

    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert response.json()["type"] == "urn:automation-lab:problem:database_unavailable"


# --- sources that another process changes -----------------------------------------------------------------------------


@pytest.fixture
def remembering(settings):
    """What is changed inside a test's transaction is never forgotten here, as if another process had changed it."""
    settings.INBOX_SOURCE_CACHE_SECONDS = 60
    yield
    sources.forget("github")


def send(sender, secret=b"", **headers):
    if secret:
        headers["X-Hub-Signature-256"] = f"sha256={hmac.new(secret, b'{}', 'sha256').hexdigest()}"
    return sender.post(PATH, b"{}", "application/json", headers=headers).status_code


def test_secrets_are_rotated_without_a_gap(sender, remembering):
    source = services.create_source(name="github", scheme="github", secrets=[{"value": "old"}])
    assert send(sender, b"old") == 201

    services.update_source(source=source, secrets=[{"id": source.secrets[0]["id"]}, {"value": "new"}])
    assert (send(sender, b"new"), send(sender, b"old")) == (201, 201)

    services.update_source(source=source, secrets=[{"id": source.secrets[1]["id"]}])
    assert (send(sender, b"old"), send(sender, b"new")) == (401, 201)
    assert Webhook.objects.filter(status="rejected").count() == 1


def test_a_method_is_allowed_at_once(sender, remembering):
    source = services.create_source(name="github", scheme="none", allowed_methods=["POST"])
    assert (send(sender), sender.get(PATH).status_code) == (201, 405)

    services.update_source(source=source, allowed_methods=["GET", "POST"])

    assert sender.get(PATH).status_code == 201


def test_a_name_in_use_is_closed_at_once(sender, remembering):
    assert send(sender) == 201

    source = services.create_source(name="github", scheme="github", secrets=[{"value": "secret"}])
    assert (send(sender), send(sender, b"secret")) == (401, 201)

    services.update_source(source=source, enabled=False)
    assert (send(sender, b"secret"), Webhook.objects.count()) == (404, 3)

    services.update_source(source=source, enabled=True)
    assert send(sender, b"secret") == 201

    services.update_source(source=source, allowed_methods=["PUT"])
    assert (send(sender, b"secret"), Webhook.objects.count()) == (405, 4)


def test_a_source_receives_from_its_creation_to_its_end(sender, remembering, settings):
    settings.INBOX_ACCEPT_UNKNOWN = False
    assert send(sender) == 404

    source = services.create_source(name="github")
    assert send(sender) == 201

    services.delete_source(source=source)
    assert (send(sender), Webhook.objects.count()) == (404, 1)


def test_a_source_that_changes_all_the_time_lets_its_sender_come_again(sender, monkeypatch):
    stale = Source(name="github", updated_at=timezone.now())
    monkeypatch.setattr("inbox.views.find_source", lambda name: stale)

    response = sender.post(PATH, b"{}", "application/json")

    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert not Webhook.objects.exists()
