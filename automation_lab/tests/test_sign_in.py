"""Signing in to the console: who may, and what those are told who may not."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

PASSWORD = "correct horse battery"

pytestmark = pytest.mark.django_db


def sign_in(client, username, password):
    return client.post(reverse("admin:login"), {"username": username, "password": password})


def test_who_is_added_in_the_console_may_sign_in_to_it(console):
    viewer = Group.objects.get(name="viewer")

    console.post(
        reverse("admin:auth_user_add"),
        {"username": "vera", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD},
    )
    User.objects.get(username="vera").groups.add(viewer)

    vera = Client()
    assert sign_in(vera, "vera", PASSWORD).status_code == 302
    assert vera.get(reverse("admin:apilogs_apilog_changelist")).status_code == 200


def test_after_five_failures_a_page_says_how_long_to_wait(client):
    User.objects.create_superuser("root", password=PASSWORD)

    for _ in range(5):
        refused = sign_in(client, "root", "wrong")

    assert refused.status_code == 429
    assert refused["Retry-After"] == "900"
    assert b"Wait 15 minutes" in refused.content
    assert b'href="/admin/"' in refused.content
    assert sign_in(client, "root", PASSWORD).status_code == 429


def test_a_form_without_its_token_is_refused_with_what_to_do(admin_user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user, backend="django.contrib.auth.backends.ModelBackend")

    refused = client.post(reverse("admin:auth_user_add"), {"username": "vera"})

    assert refused.status_code == 403
    assert b"Go back, open the page anew" in refused.content
    assert b"PUBLIC_URL" in refused.content


def test_a_page_that_a_role_does_not_include_says_who_can_change_that(as_role):
    refused = as_role("viewer").get(reverse("admin:auth_user_changelist"))

    assert refused.status_code == 403
    assert b"An admin can add you to a group" in refused.content
