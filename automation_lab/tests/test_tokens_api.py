"""The tokens API, and with it signing in by token."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from rest_framework.test import APIClient

from automation_lab import tokens
from automation_lab.models import ApiToken

pytestmark = pytest.mark.django_db


def client_of(user: User, *scopes: str, expires_at=None) -> APIClient:
    _, plain = tokens.create_token(user=user, name="one", scopes=scopes, expires_at=expires_at)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    return client


def test_a_new_token_is_shown_once_and_works(api):
    answer = api.post("/v1/tokens", {"name": "deploy", "scopes": ["tasks:read"]})

    assert answer.status_code == 201
    made = answer.json()
    assert made["token"].startswith("lab_")
    assert made["prefix"] == made["token"][:8]
    listed = api.get(f"/v1/tokens/{made['id']}").json()
    assert "token" not in listed
    assert listed["scopes"] == ["tasks:read"]
    assert made["token"] not in api.get("/v1/tokens").content.decode()


def test_a_token_expires_after_90_days_unless_told_otherwise(api):
    by_default = api.post("/v1/tokens", {"name": "a"}).json()["expires_at"]
    never = api.post("/v1/tokens", {"name": "b", "expires_at": None}).json()["expires_at"]

    assert abs(datetime.fromisoformat(by_default) - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)
    assert never is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"name": "preset"}, "name"),
        ({"name": "x", "scopes": ["everything"]}, "scopes[0]"),
        ({"name": "x", "scopes": "admin"}, "scopes"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": 5}, "expires_at"),
        ({"name": "x", "nmae": "x"}, "nmae"),
        ({"name": "x", "user": "root"}, "user"),
        ({"name": "x", "token": "lab_mine"}, "token"),
    ],
)
def test_a_bad_token_request_names_the_field(api, body, field):
    answer = api.post("/v1/tokens", body)

    assert answer.status_code == 400
    assert field in [error["field"] for error in answer.json()["errors"]]


def test_the_digest_is_nowhere_in_the_api_or_the_audit(api):
    made = api.post("/v1/tokens", {"name": "deploy"}).json()
    digest = ApiToken.objects.get(name="deploy").digest

    shown = api.get("/v1/tokens").content.decode()
    entry = LogEntry.objects.get()

    assert digest not in shown
    assert entry.object_id == made["id"]
    assert made["token"] not in f"{entry.object_repr} {entry.change_message}"


def test_a_revoked_token_stops_at_once(api):
    made = api.post("/v1/tokens", {"name": "deploy"}).json()
    other = APIClient()
    other.credentials(HTTP_AUTHORIZATION=f"Bearer {made['token']}")
    assert other.get("/v1/tokens").status_code == 200

    assert api.delete(f"/v1/tokens/{made['id']}").status_code == 204

    assert other.get("/v1/tokens").status_code == 401


def test_people_see_and_revoke_their_own_tokens_only(api, user, admin_user):
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="automation_lab"))
    of_admin = tokens.public_id(ApiToken.objects.get(user=admin_user))

    theirs = client_of(user)

    assert [row["user"] for row in theirs.get("/v1/tokens").json()["results"]] == ["pat"]
    assert theirs.delete(f"/v1/tokens/{of_admin}").status_code == 404
    assert theirs.get(f"/v1/tokens/{of_admin}").status_code == 404


def test_an_unknown_token_id_is_a_problem(api):
    assert api.get("/v1/tokens/0123456789abcdef").json()["type"] == "urn:automation-lab:problem:not_found"
    assert api.get("/v1/tokens/zzz").status_code == 404


def test_a_token_needs_the_admin_scope_for_tokens(admin_user):
    narrow = client_of(admin_user, "tasks:write")

    answer = narrow.get("/v1/tokens")

    assert answer.status_code == 403
    assert '"admin"' in answer.json()["detail"]


def test_a_user_without_the_permission_is_told_its_name(user):
    answer = client_of(user).get("/v1/tokens")

    assert answer.status_code == 403
    assert "automation_lab.view_apitoken" in answer.json()["detail"]


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer lab_",
        "Bearer lab_" + "0" * 60,
        "Bearer " + "x" * 10_000,
        "Bearer t\xf6ken",
        "Bearer lab_\x80\xff",
        "Bearer a b c",
        "bearer \x00",
        "Token abc",
        "Basic YTpi",
        "nonsense",
    ],
)
def test_anything_but_a_valid_token_is_a_401(anonymous_api, header):
    answer = anonymous_api.get("/v1/tokens", HTTP_AUTHORIZATION=header)

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer["Content-Type"] == "application/problem+json"


def test_case_and_length_of_a_token_matter(admin_user):
    _, plain = tokens.create_token(user=admin_user, name="one", expires_at=None)

    for wrong in (plain.upper(), plain[:-1], plain + "0"):
        assert APIClient().get("/v1/tokens", HTTP_AUTHORIZATION=f"Bearer {wrong}").status_code == 401


def test_an_expired_token_and_a_disabled_user_are_401(admin_user):
    late = client_of(admin_user, expires_at=timezone.now() + timedelta(hours=1))
    ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert late.get("/v1/tokens").status_code == 401

    ApiToken.objects.update(expiry=None)
    admin_user.is_active = False
    admin_user.save()

    assert late.get("/v1/tokens").status_code == 401
    assert ApiToken.objects.count() == 1


def test_last_use_is_written_at_most_once_a_minute(api, django_assert_num_queries):
    api.get("/v1/tokens")
    first = ApiToken.objects.get().last_used_at

    with django_assert_num_queries(3):  # token, count, rows
        api.get("/v1/tokens")
    assert ApiToken.objects.get().last_used_at == first

    ApiToken.objects.update(last_used_at=first - timedelta(seconds=61))
    api.get("/v1/tokens")
    assert ApiToken.objects.get().last_used_at >= first


def test_a_preset_token_replaces_the_one_before(admin_user, anonymous_api):
    tokens.set_preset_token("a" * 32, admin_user)
    tokens.set_preset_token("b" * 32, admin_user)
    tokens.set_preset_token("b" * 32, admin_user)

    assert ApiToken.objects.count() == 1
    assert anonymous_api.get("/v1/tokens", HTTP_AUTHORIZATION="Bearer " + "a" * 32).status_code == 401
    assert anonymous_api.get("/v1/tokens", HTTP_AUTHORIZATION="Bearer " + "b" * 32).status_code == 200


@pytest.mark.parametrize("plain", ["short", "a" * 31, "a" * 31 + " ", "ä" * 32])
def test_a_weak_preset_token_is_refused(admin_user, plain):
    with pytest.raises(tokens.Invalid):
        tokens.set_preset_token(plain, admin_user)
