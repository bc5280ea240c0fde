"""Secrets and notification channels over the API."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from rest_framework.test import APIClient

from automation_lab import tokens
from automation_lab.core import crypto
from tasks import secrets
from tasks.models import NotificationChannel, Secret
from tasks.notifying import channels

pytestmark = pytest.mark.django_db

CANARY = "canary-value-7f3a9c"
HOOK = "https://hooks.example.com/services/T000/canary-7f3a9c"


@pytest.fixture
def secret() -> Secret:
    return secrets.set_secret(name="CRM_TOKEN", value=CANARY, allowed_hosts=["api.example.com"])


@pytest.fixture
def channel() -> NotificationChannel:
    return channels.create_channel(name="ops", kind="slack", target=HOOK)


def test_a_secret_is_made_encrypted_and_not_given_back(api):
    answer = api.post("/v1/secrets", {"name": "CRM_TOKEN", "value": CANARY, "allowed_hosts": ["API.example.com."]})

    made = answer.json()
    stored = Secret.objects.get()
    assert answer.status_code == 201
    assert "value" not in made
    assert made["allowed_hosts"] == ["api.example.com"]
    assert made["last4"] == "3a9c"
    assert made["rotated_at"] is not None
    assert CANARY not in stored.ciphertext
    assert crypto.decrypt(stored.ciphertext, bind="secret:CRM_TOKEN") == CANARY


def test_the_value_is_nowhere_but_in_its_ciphertext(api, browser, secret):
    api.patch(f"/v1/secrets/{secret.pk}", {"value": f"{CANARY}-new"})
    shown = [
        api.get("/v1/secrets").content,
        api.get(f"/v1/secrets/{secret.pk}").content,
        browser.get("/v1/secrets", HTTP_ACCEPT="text/html").content,
        browser.get(f"/v1/secrets/{secret.pk}", HTTP_ACCEPT="text/html").content,
        api.post("/v1/secrets", {"name": "1bad", "value": CANARY}).content,
        str(list(LogEntry.objects.values())).encode(),
    ]

    assert not [text for text in shown if CANARY.encode() in text]
    assert not [text for text in shown if secret.ciphertext.encode() in text]


def test_a_new_value_replaces_the_old_one(api, secret):
    answer = api.patch(f"/v1/secrets/{secret.pk}", {"value": "another-value-0001"})

    secret.refresh_from_db()
    assert answer.json()["last4"] == "0001"
    assert crypto.decrypt(secret.ciphertext, bind="secret:CRM_TOKEN") == "another-value-0001"


def test_a_change_without_value_keeps_it(api, secret):
    before = secret.rotated_at

    answer = api.patch(f"/v1/secrets/{secret.pk}", {"description": "For the CRM.", "allowed_hosts": []})

    secret.refresh_from_db()
    assert answer.json()["allowed_hosts"] == []
    assert secret.rotated_at == before
    assert crypto.decrypt(secret.ciphertext, bind="secret:CRM_TOKEN") == CANARY


def test_the_end_of_a_short_value_is_not_shown(api):
    assert api.post("/v1/secrets", {"name": "PIN", "value": "1234"}).json()["last4"] == ""


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"value": CANARY}, "name"),
        ({"name": "A"}, "value"),
        ({"name": "A", "value": ""}, "value"),
        ({"name": "A", "value": 5}, "value"),
        ({"name": "A", "value": "x" * 16_385}, "value"),
        ({"name": "1A", "value": "x"}, "name"),
        ({"name": "A-B", "value": "x"}, "name"),
        ({"name": "A B", "value": "x"}, "name"),
        ({"name": "Ä", "value": "x"}, "name"),
        ({"name": "A" * 65, "value": "x"}, "name"),
        ({"name": "CRM_TOKEN", "value": "x"}, "name"),
        ({"name": "A", "value": "x", "allowed_hosts": ["https://api.example.com"]}, "allowed_hosts"),
        ({"name": "A", "value": "x", "allowed_hosts": ["api.example.com:443"]}, "allowed_hosts"),
        ({"name": "A", "value": "x", "allowed_hosts": ["*"]}, "allowed_hosts"),
        ({"name": "A", "value": "x", "allowed_hosts": ["a..b"]}, "allowed_hosts"),
        ({"name": "A", "value": "x", "allowed_hosts": "api.example.com"}, "allowed_hosts"),
        ({"name": "A", "value": "x", "last4": "abcd"}, "last4"),
        ({"name": "A", "value": "x", "ciphertext": "abcd"}, "ciphertext"),
    ],
)
def test_a_bad_secret_names_the_field(api, secret, body, field):
    answer = api.post("/v1/secrets", body)

    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == {field}


@pytest.mark.parametrize("host", ["*.example.com", "localhost", "10.0.0.1", "[2001:db8::1]", "xn--bcher-kva.example"])
def test_hosts_that_a_secret_may_be_bound_to(api, host):
    assert api.post("/v1/secrets", {"name": "A", "value": "x", "allowed_hosts": [host]}).status_code == 201


def test_names_are_fixed(api, secret, channel):
    assert api.patch(f"/v1/secrets/{secret.pk}", {"name": "OTHER"}).status_code == 400
    assert api.patch(f"/v1/channels/{channel.pk}", {"name": "other"}).status_code == 400
    assert api.patch(f"/v1/secrets/{secret.pk}", {"name": "CRM_TOKEN"}).status_code == 200


def test_a_race_for_a_name_overwrites_nothing(secret):
    with pytest.raises(secrets.Conflict):
        secrets.set_secret(name="CRM_TOKEN", value="other", only_new=True)

    secret.refresh_from_db()
    assert crypto.decrypt(secret.ciphertext, bind="secret:CRM_TOKEN") == CANARY


@pytest.mark.parametrize("query", ["value=x", "ciphertext=x", "last4=3a9c", "ordering=ciphertext", "ordering=last4"])
def test_secrets_cannot_be_searched_by_what_is_secret(api, secret, query):
    assert api.get(f"/v1/secrets?{query}").status_code == 400


def test_a_secret_that_a_channel_signs_with_cannot_be_deleted(api, secret):
    hook = channels.create_channel(name="hook", kind="webhook", target=HOOK, secret=secret)

    assert api.delete(f"/v1/secrets/{secret.pk}").status_code == 409
    assert api.delete(f"/v1/channels/{hook.pk}").status_code == 204
    assert api.delete(f"/v1/secrets/{secret.pk}").status_code == 204


def test_a_channel_shows_a_hint_and_not_its_target(api, browser):
    answer = api.post("/v1/channels", {"name": "ops", "kind": "slack", "target": HOOK})
    made = answer.json()
    shown = [
        answer.content,
        api.get("/v1/channels").content,
        browser.get(f"/v1/channels/{made['id']}", HTTP_ACCEPT="text/html").content,
        str(list(LogEntry.objects.values())).encode(),
    ]

    assert answer.status_code == 201
    assert made["target_hint"] == "https://hooks.example.com/…"
    assert channels.target_of(NotificationChannel.objects.get()) == HOOK
    assert not [text for text in shown if b"canary" in text]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "slack", "target": "hooks.example.com/x"}, "target"),
        ({"kind": "slack", "target": "ftp://example.com"}, "target"),
        ({"kind": "slack", "target": "https://"}, "target"),
        ({"kind": "slack", "target": "https://example.com:99999/"}, "target"),
        ({"kind": "slack", "target": "https://example.com/\u0007"}, "target"),
        ({"kind": "slack", "target": "http://[::1"}, "target"),
        ({"kind": "email", "target": HOOK}, "target"),
        ({"kind": "email", "target": "a@example.com, b@example.com"}, "target"),
        ({"kind": "email", "target": "a@example.com\nBcc: b@example.com"}, "target"),
        ({"kind": "pigeon", "target": HOOK}, "kind"),
        ({"kind": "slack"}, "target"),
        ({"kind": "slack", "target": HOOK, "secret": "CRM_TOKEN"}, "secret"),
        ({"kind": "webhook", "target": HOOK, "secret": "NO_SUCH"}, "secret"),
        ({"kind": "webhook", "target": HOOK, "name": "two words"}, "name"),
        ({"kind": "webhook", "target": HOOK, "throttle_seconds": -1}, "throttle_seconds"),
        ({"kind": "webhook", "target": HOOK, "last_error": "x"}, "last_error"),
    ],
)
def test_a_bad_channel_names_the_field(api, secret, body, field):
    answer = api.post("/v1/channels", {"name": "ops", **body})

    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == {field}
    assert "canary" not in answer.content.decode()


def test_another_kind_needs_its_target(api, channel):
    path = f"/v1/channels/{channel.pk}"

    assert api.patch(path, {"kind": "email"}).status_code == 400
    assert api.patch(path, {"kind": "email", "target": "ops@example.com"}).json()["target_hint"] == "…@example.com"
    assert api.patch(path, {"enabled": False}).json()["kind"] == "email"


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 403), ("editor", 201), ("admin", 201)])
def test_editors_define_secrets(user, role, status):
    user.groups.set(Group.objects.filter(name=role))
    _, plain = tokens.create_token(user=user, name="t", expires_at=None)
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {plain}")

    assert client.get("/v1/secrets").status_code == 200
    assert client.post("/v1/secrets", {"name": "A", "value": "x"}).status_code == status


@pytest.mark.parametrize("path", ["/v1/secrets", "/v1/channels"])
def test_api_open_does_not_open_them(settings, admin_user, path):
    settings.API_OPEN = True
    local = APIClient(REMOTE_ADDR="127.0.0.1", HTTP_HOST="localhost")

    assert local.get(path).status_code == 403


@pytest.mark.parametrize("path", ["/v1/secrets", "/v1/channels"])
def test_they_need_a_token(anonymous_api, path):
    assert anonymous_api.get(path).status_code == 401


@pytest.mark.parametrize("rows", [1, 20])
def test_lists_take_the_same_queries_for_any_number_of_rows(api, django_assert_num_queries, rows):
    for number in range(rows):
        secret = secrets.set_secret(name=f"S{number}", value="x")
        channels.create_channel(name=f"c{number}", kind="webhook", target=HOOK, secret=secret)
    api.get("/v1/secrets")

    with django_assert_num_queries(3):  # the token, the count, the rows
        api.get("/v1/secrets")
    with django_assert_num_queries(3):
        api.get("/v1/channels")
