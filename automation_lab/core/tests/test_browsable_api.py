from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from workflows.models import Workflow

pytestmark = [pytest.mark.django_db, pytest.mark.urls("automation_lab.core.tests.api_urls")]


def page(client: Client, path: str, status: int = 200, **extra) -> str:
    answer = client.get(path, HTTP_ACCEPT="text/html,application/xhtml+xml,*/*;q=0.8", **extra)
    assert answer.status_code == status
    assert answer["Content-Type"].startswith("text/html")
    return answer.content.decode()


@pytest.fixture
def workflow() -> Workflow:
    return Workflow.objects.create(name="one <script>")


def test_list_and_detail_have_forms(browser, workflow):
    listing = page(browser, "/v1/things?size=1")
    detail = page(browser, f"/v1/things/{workflow.pk}")

    assert 'data-override="content"' in listing
    assert "filtersModal" in listing
    assert 'name="enabled"' in listing
    assert "ordering=-created_at" in listing
    assert "deleteModal" in detail
    assert "PATCH" in detail
    assert "PUT request" not in detail


def test_the_pages_fit_small_screens(browser):
    assert 'name="viewport" content="width=device-width' in page(browser, "/v1/things")


def test_the_forms_offer_only_what_may_be_sent(browser, workflow):
    content = re.search(
        r'data-override="content"[^>]*>(.*?)</textarea>', page(browser, f"/v1/things/{workflow.pk}"), re.S
    )

    assert content is not None
    assert "timeout_seconds" in content[1]
    assert "created_at" not in content[1]
    assert "version" not in content[1]


def test_the_page_of_an_action_offers_to_run_it(browser, workflow):
    html = page(browser, f"/v1/things/{workflow.pk}/pause", status=405)

    assert 'data-override="content"' in html


def test_head_and_options_answer(browser, workflow):
    assert browser.head("/v1/things").status_code == 200
    described = browser.options("/v1/things").json()
    assert described["actions"]["POST"]["name"]["required"] is True


def test_stored_text_is_escaped(browser, workflow):
    assert "<script>" not in page(browser, f"/v1/things/{workflow.pk}").replace('<script src="/static/', "")


def test_nothing_is_loaded_from_elsewhere(browser, workflow):
    for path in ("/v1/things", f"/v1/things/{workflow.pk}", "/docs", "/redoc"):
        assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!testserver)[^"]+"', page(browser, path)), path


def test_no_inline_scripts(browser, workflow):
    for path in ("/v1/things", f"/v1/things/{workflow.pk}", "/docs", "/redoc"):
        html = page(browser, path)
        assert not re.findall(r"<script(?![^>]*(?:src=|application/json))[^>]*>", html), path
        assert not re.findall(r"<[^>]+\son[a-z]+=", html), path


def test_forms_without_permission_are_hidden(client, user, workflow):
    user.user_permissions.set(Permission.objects.filter(codename="view_workflow"))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    detail = page(client, f"/v1/things/{workflow.pk}")

    assert "deleteModal" not in detail
    assert 'data-override="content"' not in detail


def test_anonymous_people_are_offered_to_sign_in(client):
    html = page(client, "/v1/things?size=5", status=401)

    assert "/admin/login/?next=%2Fv1%2Fthings%3Fsize%3D5" in html


def test_problems_are_pages_too(browser):
    html = page(browser, "/v1/things?nmae=x", status=400)

    assert "did you mean" in html


def test_an_outage_is_a_page_that_needs_no_database(browser):
    answer = browser.post("/v1/echo?raise=database", "{}", content_type="application/json", HTTP_ACCEPT="text/html")

    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert b"<h1>Service Unavailable</h1>" in answer.content


def test_documentation_is_served_from_here(client):
    assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
    assert b"SwaggerUIBundle" in client.get("/docs?script=").content
    assert client.get("/docs?script=")["Content-Type"].startswith("application/javascript")
    assert "/openapi.json" in page(client, "/redoc")


def test_the_front_door_is_the_console(client):
    assert client.get("/")["Location"] == "/admin/"
