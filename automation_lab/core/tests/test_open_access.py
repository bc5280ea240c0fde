"""API_OPEN=1: what it opens, to whom, and what stays closed."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from automation_lab.models import ApiToken

pytestmark = [pytest.mark.django_db, pytest.mark.urls("automation_lab.core.tests.api_urls")]


@pytest.fixture
def local(settings, admin_user) -> APIClient:
    settings.API_OPEN = True
    return APIClient(REMOTE_ADDR="127.0.0.1", HTTP_HOST="localhost:8000")


def test_a_local_request_needs_no_token(local):
    assert local.get("/v1/things").status_code == 200
    assert local.post("/v1/things", {"name": "one"}).status_code == 201


@pytest.mark.parametrize(
    "extra",
    [
        {"REMOTE_ADDR": "127.8.9.10"},
        {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:8000"},
        {"REMOTE_ADDR": "::ffff:127.0.0.1"},
        {"HTTP_HOST": "127.0.0.1"},
        {"HTTP_ORIGIN": "http://localhost:8000"},
        {"HTTP_SEC_FETCH_SITE": "same-origin"},
        {"HTTP_SEC_FETCH_SITE": "none"},
    ],
)
def test_other_ways_to_be_local(local, extra):
    assert local.get("/v1/things", **extra).status_code == 200


@pytest.mark.parametrize(
    "extra",
    [
        {"REMOTE_ADDR": "192.168.1.5"},
        {"REMOTE_ADDR": ""},
        {"HTTP_HOST": "lab.example"},
        {"HTTP_HOST": "localhost.evil.example"},
        {"HTTP_HOST": "127.0.0.1.evil.example"},
        {"HTTP_FORWARDED": "for=1.1.1.1"},
        {"HTTP_VIA": "1.1 proxy"},
        {"HTTP_X_FORWARDED_FOR": "1.1.1.1"},
        {"HTTP_X_FORWARDED_HOST": "localhost"},
        {"HTTP_X_FORWARDED_PROTO": "http"},
        {"HTTP_ORIGIN": "http://evil.example"},
        {"HTTP_ORIGIN": "http://localhost:3000"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
    ],
)
def test_what_may_come_from_elsewhere_needs_a_token(local, extra):
    answer = local.get("/v1/things", **extra)

    assert answer.status_code == 401
    assert "API_OPEN" in answer.json()["detail"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_write_that_a_form_could_send_is_refused(local, content_type):
    answer = local.generic("POST", "/v1/things", '{"name": "x"}', content_type=content_type)

    assert answer.status_code == 401
    assert "application/json" in answer.json()["detail"]


def test_closed_resources_stay_closed(local):
    assert local.get("/v1/closed").status_code == 403
    assert local.post("/v1/closed", {"name": "x"}).status_code == 403
    assert local.get("/v1/tokens").status_code == 403
    assert local.post("/v1/tokens", {"name": "x"}).status_code == 403
    assert not ApiToken.objects.exists()


def test_a_wrong_token_is_not_open_access(local):
    assert local.get("/v1/things", HTTP_AUTHORIZATION="Bearer wrong").status_code == 401


def test_closed_by_default(admin_user):
    local = APIClient(REMOTE_ADDR="127.0.0.1", HTTP_HOST="localhost")

    assert local.get("/v1/things").status_code == 401


def test_it_needs_a_superuser_to_act_as(local, admin_user):
    admin_user.is_superuser = False
    admin_user.save()

    assert local.get("/v1/things").status_code == 401
