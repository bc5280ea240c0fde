from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.utils import timezone

from automation_lab.models import ApiToken

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("create_token", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_only_the_token_goes_to_standard_output_and_it_works(admin_user, anonymous_api):
    out, err = run("deploy")

    assert anonymous_api.get("/v1/tokens", HTTP_AUTHORIZATION=f"Bearer {out.strip()}").status_code == 200
    assert "deploy" in err
    assert out.strip() not in err


def test_user_scopes_and_lifetime(admin_user, user):
    run("ci", "--user", "pat", "--scope", "tasks:read", "--scope", "inbox:write", "--days", "7")

    token = ApiToken.objects.get()
    assert token.user == user
    assert token.scopes == ["inbox:write", "tasks:read"]
    assert abs(token.expiry - timezone.now() - timedelta(days=7)) < timedelta(minutes=1)
    assert LogEntry.objects.get().user == user


def test_no_expiry(admin_user):
    run("ci", "--days", "0")

    assert ApiToken.objects.get().expiry is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ci", "--user", "nobody"], 1),
        (["ci", "--scope", "everything"], 1),
        (["ci", "--days", "-1"], 2),
        (["ci", "--days", "999999999"], 2),
        (["preset"], 2),
        ([" "], 2),
        (["x" * 101], 2),
    ],
)
def test_what_cannot_be_made_is_refused(admin_user, arguments, code):
    with pytest.raises(CommandError) as ended:
        run(*arguments)

    assert ended.value.returncode == code
    assert not ApiToken.objects.exists()


def test_it_needs_a_superuser_or_a_name(db):
    with pytest.raises(CommandError, match="superuser"):
        run("ci")
