from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from rest_framework.test import APIClient

from automation_lab import tokens
from workflows.models import Workflow

pytestmark = [pytest.mark.django_db, pytest.mark.urls("automation_lab.core.tests.api_urls")]


@pytest.fixture
def thing() -> str:
    return f"/v1/things/{Workflow.objects.create(name='one').pk}"


def client_for(user: User, *scopes: str) -> APIClient:
    _, plain = tokens.create_token(user=user, name="t", scopes=scopes, expires_at=None)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    return client


def allow(user: User, *codenames: str) -> None:
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))


def outcomes(client: APIClient, thing: str) -> dict[str, int]:
    return {
        "list": client.get("/v1/things").status_code,
        "read": client.get(thing).status_code,
        "add": client.post("/v1/things", {"name": "two"}).status_code,
        "change": client.patch(thing, {"enabled": False}).status_code,
        "pause": client.post(f"{thing}/pause").status_code,
        "start": client.post(f"{thing}/start").status_code,
        "delete": client.delete(thing).status_code,
    }


ALL = {"list": 200, "read": 200, "add": 201, "change": 200, "pause": 200, "start": 202, "delete": 204}
NONE = dict.fromkeys(ALL, 403)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ([], ALL),
        (["admin"], ALL),
        (["workflows:write"], ALL),
        (["workflows:read"], NONE | {"list": 200, "read": 200}),
        (["tasks:write", "inbox:read"], NONE),
        (["tasks:read", "workflows:write"], ALL),
    ],
)
def test_scopes_decide_for_a_superuser(admin_user, thing, scopes, expected):
    assert outcomes(client_for(admin_user, *scopes), thing) == expected


@pytest.mark.parametrize(
    ("codenames", "expected"),
    [
        ([], NONE),
        (["view_workflow"], NONE | {"list": 200, "read": 200}),
        (["add_workflow"], NONE | {"add": 201}),
        (["change_workflow"], NONE | {"change": 200, "pause": 200}),
        (["add_workflowexecution"], NONE | {"start": 202}),
        (["delete_workflow"], NONE | {"delete": 204}),
    ],
)
def test_permissions_decide_for_everybody_else(user, thing, codenames, expected):
    allow(user, *codenames)

    assert outcomes(client_for(user), thing) == expected


def test_a_scope_gives_nothing_that_the_user_may_not_do(user, thing):
    assert outcomes(client_for(user, "admin"), thing) == NONE


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("viewer", NONE | {"list": 200, "read": 200}),
        ("operator", NONE | {"list": 200, "read": 200, "start": 202}),
        ("editor", ALL),
        ("admin", ALL),
    ],
)
def test_roles(user, thing, role, expected):
    user.groups.set(Group.objects.filter(name=role))

    assert outcomes(client_for(user), thing) == expected


def test_only_the_admin_role_manages_tokens_and_people():
    def has(role: str, codename: str) -> bool:
        return Group.objects.get(name=role).permissions.filter(codename=codename).exists()

    for codename in ("add_apitoken", "view_apitoken", "change_user"):
        assert has("admin", codename)
        assert not any(has(role, codename) for role in ("viewer", "operator", "editor"))


def test_a_refusal_names_what_is_missing(user, thing):
    allow(user, "view_workflow")

    by_permission = client_for(user).delete(thing).json()
    by_scope = client_for(user, "tasks:read").get(thing).json()

    assert by_permission["type"].endswith("missing_permission")
    assert "workflows.delete_workflow" in by_permission["detail"]
    assert by_scope["type"].endswith("missing_scope")
    assert "workflows:read" in by_scope["detail"]


def test_anonymous_requests_are_401_for_every_method(anonymous_api, thing):
    for method in ("get", "post", "patch", "delete", "options"):
        answer = getattr(anonymous_api, method)(thing)
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_session_writes_with_its_csrf_token_only(admin_user, thing):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(admin_user, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(thing, HTTP_ACCEPT="text/html")
    token = page.cookies["csrftoken"].value

    assert client.patch(thing, {"enabled": False}).status_code == 403
    assert client.patch(thing, {"enabled": False}, HTTP_X_CSRFTOKEN=token).status_code == 200


def test_a_view_without_scope_area_is_a_programming_error(admin_user, rf):
    from django.core.exceptions import ImproperlyConfigured

    from automation_lab.core.tests.api_urls import EchoView

    class Forgotten(EchoView):
        scope_area = ""

    request = rf.post(
        "/", HTTP_AUTHORIZATION=f"Bearer {tokens.create_token(user=admin_user, name='t', expires_at=None)[1]}"
    )

    with pytest.raises(ImproperlyConfigured, match="Forgotten"):
        Forgotten.as_view()(request)
