from __future__ import annotations

import pytest
from django.http import HttpResponse, JsonResponse
from django.test import RequestFactory

from automation_lab.middleware import SecurityHeadersMiddleware, add_headers

HTML = "text/html; charset=utf-8"


def policy(path: str, content_type: str = HTML, **extra: str) -> dict[str, str]:
    response = HttpResponse(content_type=content_type)
    add_headers(RequestFactory().get(path, **extra), response)
    directives = response["Content-Security-Policy"].split("; ")
    return dict(directive.partition(" ")[::2] for directive in directives)


def test_only_the_console_may_evaluate_strings():
    assert policy("/admin/")["script-src"] == "'self' 'unsafe-eval'"
    for path in ("/docs", "/redoc", "/v1/webhooks/inbox", "/approve/x", "/"):
        assert policy(path)["script-src"] == "'self'", path


def test_no_page_may_be_framed_or_run_foreign_scripts():
    for path in ("/admin/", "/docs", "/v1/tasks"):
        found = policy(path)
        assert found["frame-ancestors"] == "'none'"
        assert found["default-src"] == "'self'"
        assert found["object-src"] == "'none'"


def test_what_is_no_page_may_not_act_as_one():
    assert policy("/v1/webhooks/inbox/1/raw", "image/svg+xml") == {
        "default-src": "'none'",
        "frame-ancestors": "'none'",
        "sandbox": "",
    }


def test_redoc_may_start_its_search_worker():
    assert policy("/redoc")["worker-src"] == "blob:"


def test_the_console_may_reach_the_live_port(settings):
    settings.LIVE_PORT = 8123

    assert policy("/admin/", HTTP_HOST="lab.test:8000")["connect-src"] == "'self' ws://lab.test:8123"
    assert policy("/admin/", HTTP_HOST="[::1]:8000")["connect-src"] == "'self' ws://[::1]:8123"


@pytest.mark.parametrize("url", ["https://live.example.com", "wss://live.example.com"])
def test_the_console_may_reach_the_live_address(settings, url):
    settings.LIVE_URL = url

    assert policy("/admin/")["connect-src"] == "'self' wss://live.example.com"


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1", "/approve/token"])
def test_answers_of_the_api_are_not_kept_by_caches(path):
    response = JsonResponse({})
    add_headers(RequestFactory().get(path), response)

    assert response["Cache-Control"] == "no-store"


def test_a_header_of_the_view_stays():
    response = HttpResponse(headers={"Content-Security-Policy": "default-src 'self'", "Cache-Control": "max-age=5"})
    add_headers(RequestFactory().get("/v1/tasks"), response)

    assert response["Content-Security-Policy"] == "default-src 'self'"
    assert response["Cache-Control"] == "max-age=5"


@pytest.mark.parametrize("host", ["bad host", "a/b", "a@b", "x:y:z", "<script>"])
def test_a_malformed_host_is_a_problem_whatever_hosts_are_allowed(host):
    middleware = SecurityHeadersMiddleware(lambda request: HttpResponse())

    response = middleware(RequestFactory().get("/v1/tasks", HTTP_HOST=host))

    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert response["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.django_db
def test_the_sign_in_page_carries_the_headers(client):
    response = client.get("/admin/login/")

    assert response.status_code == 200
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "geolocation=()" in response["Permissions-Policy"]
