"""Who calls the API: a bearer token, a console session, or (API_OPEN=1, this machine only) nobody in particular."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from knox.crypto import hash_token
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

MAX_TOKEN_LENGTH = 512
LAST_USED_INTERVAL = timedelta(minutes=1)
CHALLENGE = 'Bearer realm="Automation Lab"'


class OpenAccess:
    """`request.auth` of a request let in by API_OPEN: views with `closed_when_open` refuse it."""


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`. Any token that is not exactly a valid one is a 401; tokens are never parsed."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "").strip()
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
        api_token = self._find(token.strip())
        if api_token is None:
            raise AuthenticationFailed("This token is unknown, expired or revoked.", code="invalid_token")
        if not api_token.user.is_active:
            raise AuthenticationFailed("The user of this token is disabled.", code="user_disabled")
        self._note_use(api_token)
        return api_token.user, api_token

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    def _find(self, token: str) -> Any | None:
        if not token or len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            return None
        now = timezone.now()
        return (
            apps.get_model(settings.KNOX_TOKEN_MODEL)
            .objects.select_related("user")
            .filter(Q(expiry=None) | Q(expiry__gt=now), digest=hash_token(token))
            .first()
        )

    def _note_use(self, api_token: Any) -> None:
        """Once a minute at most: a write for every request would cost more than the request."""
        now = timezone.now()
        due = now - LAST_USED_INTERVAL
        if api_token.last_used_at is None or api_token.last_used_at < due:
            fresh = Q(last_used_at=None) | Q(last_used_at__lt=due)
            type(api_token).objects.filter(fresh, pk=api_token.pk).update(last_used_at=now)


class ConsoleSessionAuthentication(SessionAuthentication):
    """The console's session, with the CSRF token on every write."""


class OpenAuthentication(BaseAuthentication):
    """API_OPEN=1: requests that can only come from this machine act as the first superuser, without a token."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        if not settings.API_OPEN:
            return None
        reason = why_not_local(request._request)
        if reason:
            raise AuthenticationFailed(
                f"API_OPEN=1 does not cover this request: {reason} Send a token.", code="not_local"
            )
        user = get_user_model().objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
        if user is None:
            raise AuthenticationFailed("API_OPEN=1 needs an active superuser to act as.", code="no_superuser")
        return user, OpenAccess()


def why_not_local(request: HttpRequest) -> str:
    """Why `request` may have been sent by another machine or by a foreign web page; "" if it cannot have been."""
    meta = request.META
    if not _is_loopback(meta.get("REMOTE_ADDR", "")):
        return "it does not come from a loopback address."
    host = request.get_host()
    if not _is_loopback(urlsplit(f"//{host}").hostname or ""):
        return "its Host is not a loopback name."
    if "HTTP_FORWARDED" in meta or "HTTP_VIA" in meta or any(key.startswith("HTTP_X_FORWARDED") for key in meta):
        return "it has been forwarded by a proxy."
    if meta.get("HTTP_ORIGIN", f"{request.scheme}://{host}") != f"{request.scheme}://{host}":
        return "its Origin is another site."
    if meta.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        return "another site's page sent it."
    # A page can send a form anywhere without asking; it cannot send JSON, PATCH or DELETE without a pre-flight.
    if request.method not in ("GET", "HEAD", "OPTIONS", "DELETE") and request.content_type != "application/json":
        return "a write needs Content-Type: application/json."
    return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
