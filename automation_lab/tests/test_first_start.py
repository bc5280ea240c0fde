from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from knox.crypto import hash_token

from automation_lab.models import ApiToken
from automation_lab.serving import first_start

pytestmark = pytest.mark.django_db


def test_the_first_start_makes_an_admin_and_a_token_that_work(client):
    prepared = first_start.prepare()

    assert prepared.username == "admin"
    assert User.objects.get().check_password(prepared.password)
    assert client.get("/v1/tokens", headers={"Authorization": f"Bearer {prepared.token}"}).status_code == 200
    assert ApiToken.objects.get().expiry is not None


def test_the_second_start_makes_and_shows_nothing():
    first_start.prepare()

    assert first_start.prepare().lines() == []
    assert (User.objects.count(), ApiToken.objects.count()) == (1, 1)


def test_a_lab_without_a_superuser_whose_name_is_taken_says_what_to_do():
    User.objects.create(username="admin")

    with pytest.raises(CommandError, match="createsuperuser"):
        call_command("migrate", prepare=True, verbosity=0)


def test_given_credentials_are_used_and_not_shown(settings):
    settings.ADMIN_USERNAME, settings.ADMIN_PASSWORD, settings.API_TOKEN = "ops", "correct horse battery", "t" * 32

    prepared = first_start.prepare()

    assert prepared.lines() == ["  user name  ops"]
    assert User.objects.get(username="ops").check_password("correct horse battery")
    assert ApiToken.objects.get().digest == hash_token("t" * 32)


def test_a_changed_api_token_replaces_the_old_one(settings):
    settings.API_TOKEN = "t" * 32
    first_start.prepare()
    settings.API_TOKEN = "u" * 32

    first_start.prepare()

    assert [token.digest for token in ApiToken.objects.all()] == [hash_token("u" * 32)]


def test_an_installation_with_an_admin_gets_no_other_one(admin_user):
    assert first_start.prepare().username == ""
    assert User.objects.count() == 1


def test_containers_prepare_together_with_the_migration():
    output = io.StringIO()

    call_command("migrate", "--prepare", verbosity=0, stdout=output)

    assert "API token  lab_" in output.getvalue()
    assert User.objects.filter(is_superuser=True).count() == 1


def test_a_migration_alone_makes_no_user():
    call_command("migrate", verbosity=0)

    assert not User.objects.exists()
