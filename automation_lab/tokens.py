"""API tokens: made, preset by API_TOKEN, revoked. The plain value exists only in the answer that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from knox.crypto import create_token_string, hash_token

from automation_lab.core.exceptions import Invalid
from automation_lab.models import ApiToken

PREFIX = "lab_"
DEFAULT_LIFETIME = timedelta(days=90)
PRESET_NAME = "preset"
PRESET_MIN_LENGTH = 32
KEY_LENGTH = 15  # knox's: what is kept of the value in plain text
ID_LENGTH = 16


def create_token(
    *, user: Any, name: str, scopes: Sequence[str] = (), expires_at: datetime | None
) -> tuple[ApiToken, str]:
    """A new token and its plain value, which cannot be had again. `expires_at` None: never."""
    if name == PRESET_NAME:
        raise Invalid(f'The name "{PRESET_NAME}" belongs to the token of API_TOKEN.', field="name")
    unknown = sorted(set(scopes) - set(ApiToken.Scope.values))
    if unknown:
        known = ", ".join(ApiToken.Scope.values)
        raise Invalid(f"Unknown scopes: {', '.join(unknown)}; known are {known}.", field="scopes")
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid("The expiry is in the past.", field="expires_at")
    plain = PREFIX + create_token_string()
    token = ApiToken(
        digest=hash_token(plain),
        token_key=plain[:KEY_LENGTH],
        user=user,
        name=name,
        scopes=sorted(set(scopes)),
        expiry=expires_at,
    )
    token.save(force_insert=True)
    return token, plain


@transaction.atomic
def set_preset_token(plain: str, user: Any) -> ApiToken:
    """The token of the API_TOKEN setting: without expiry, for all that `user` may do; replaces the one preset before."""
    if len(plain) < PRESET_MIN_LENGTH or not plain.isascii() or any(character.isspace() for character in plain):
        raise Invalid(f"API_TOKEN needs at least {PRESET_MIN_LENGTH} ASCII characters without spaces.")
    digest = hash_token(plain)
    ApiToken.objects.filter(name=PRESET_NAME).exclude(digest=digest).delete()
    token, _ = ApiToken.objects.update_or_create(
        digest=digest,
        defaults={
            "token_key": plain[:KEY_LENGTH],
            "user": user,
            "expiry": None,
            "name": PRESET_NAME,
            "scopes": [],
        },
    )
    return token


def revoke_token(token: ApiToken) -> None:
    """The token stops working at once."""
    token.delete()


def public_id(token: ApiToken) -> str:
    """What names a token in the API: the head of its digest, from which nothing can be derived."""
    return token.digest[:ID_LENGTH]
