"""manage.py create_token: an API token from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from automation_lab import tokens
from automation_lab.core import audit
from automation_lab.core.commands import LabCommand
from automation_lab.core.exceptions import NotFound
from automation_lab.models import ApiToken

MOST_DAYS = 3650


class Command(LabCommand):
    """Make an API token and print it; it cannot be shown again."""

    help = "Make an API token and print it; it cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="what the token is for")
        parser.add_argument("--user", help="whose rights it has; the first superuser when left out")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            choices=ApiToken.Scope.values,
            metavar="SCOPE",
            help=f"may be repeated: {', '.join(ApiToken.Scope.values)}; none: all the user may do",
        )
        parser.add_argument("--days", type=int, default=tokens.DEFAULT_LIFETIME.days, help="lifetime, 0: no expiry")

    def work(self, **options: Any) -> int:
        days = options["days"]
        if not 0 <= days <= MOST_DAYS:
            raise self.usage(f"--days is a number from 0 (no expiry) to {MOST_DAYS}.")
        expires_at = timezone.now() + timedelta(days=days) if days else None
        user = _find_user(options["user"])
        name = options["name"].strip()
        if not 1 <= len(name) <= 100:
            raise self.usage("The name has 1 to 100 characters.")
        with transaction.atomic():
            token, plain = tokens.create_token(user=user, name=name, scopes=options["scope"], expires_at=expires_at)
            audit.record(user, token, audit.ADDITION, "Made by create_token.", object_id=tokens.public_id(token))
        until = f"until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "without expiry"
        self.stderr.write(f'Token "{name}" of {user.get_username()}, {until}. It is shown this once:')
        self.stdout.write(plain)
        return 0


def _find_user(username: str | None) -> Any:
    users = get_user_model().objects.filter(is_active=True)
    if username:
        user = users.filter(username=username).first()
        if user is None:
            raise NotFound(f'There is no active user "{username}".')
        return user
    user = users.filter(is_superuser=True).order_by("pk").first()
    if user is None:
        raise NotFound("There is no superuser yet: run manage.py createsuperuser, or name one with --user.")
    return user
