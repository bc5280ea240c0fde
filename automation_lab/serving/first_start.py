"""What an installation needs before it can be used: an admin user and an API token."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import transaction

from automation_lab import tokens
from automation_lab.core import clock
from automation_lab.core.exceptions import Conflict

TOKEN_DAYS = 90


@dataclass(frozen=True)
class Prepared:
    """What was made, with the plain values that are shown once; empty where nothing new was made or it was given."""

    username: str = ""
    password: str = ""
    token: str = ""

    def lines(self) -> list[str]:
        shown = {"user name": self.username, "password": self.password, "API token": self.token}
        return [f"  {name:<11}{value}" for name, value in shown.items() if value]


@transaction.atomic
def prepare() -> Prepared:
    """Make the first admin user, and a token for it; install the token of API_TOKEN. Does nothing the second time.

    Raises Conflict when somebody who may not do all has the name of the first admin.
    """
    users = get_user_model()._default_manager
    admin = users.filter(is_superuser=True, is_active=True).order_by("pk").first()
    prepared = Prepared()
    if admin is None:
        admin, prepared = _first_admin()
    if settings.API_TOKEN:
        tokens.set_preset_token(settings.API_TOKEN, admin)
    return prepared


def _first_admin() -> tuple[User, Prepared]:
    users, name = get_user_model()._default_manager, settings.ADMIN_USERNAME
    if users.filter(username=name).exists():
        raise Conflict(
            f'There is no active superuser, and "{name}" is taken: run createsuperuser, or set another ADMIN_USERNAME.'
        )
    password = settings.ADMIN_PASSWORD or secrets.token_urlsafe(12)
    admin = users.create_superuser(name, password=password)
    token = "" if settings.API_TOKEN else _first_token(admin)
    return admin, Prepared(admin.get_username(), "" if settings.ADMIN_PASSWORD else password, token)


def _first_token(admin: User) -> str:
    expires_at = clock.database_now() + timedelta(days=TOKEN_DAYS)
    return tokens.create_token(user=admin, name="First start", scopes=[], expires_at=expires_at)[1]
