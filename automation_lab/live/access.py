"""Who may watch, and what: the API's rules, and the Origin of pages that come with a cookie."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from django.conf import settings
from django.contrib.auth import get_user
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import Error
from django.http import HttpRequest
from django.utils.http import is_same_domain
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from automation_lab.core.api.authentication import OpenAuthentication, TokenAuthentication
from automation_lab.core.live import Topic
from automation_lab.core.registry import live_topics
from automation_lab.live.answers import Refusal


def admitted_types(scope: Mapping[str, Any]) -> frozenset[str]:
    """The message types for the client of `scope`, as things are now. Raises Refusal."""
    request = ASGIRequest({**scope, "type": "http", "method": "GET"}, BytesIO())
    try:
        request.get_host()
        user, auth = _identify(request)
        readable = {topic.name for topic in live_topics.values() if _may_read(topic, user, auth)}
    except DisallowedHost as exc:
        raise Refusal(400, "bad_host", "The Host header names no host of this server.") from exc
    except AuthenticationFailed as exc:
        raise Refusal(401, str(exc.get_codes()), str(exc.detail)) from exc
    except Error as exc:
        raise Refusal(503, "database_unavailable", "The database does not answer at the moment; try again.") from exc
    return _choose(readable, scope.get("query_string", b""))


def _identify(request: HttpRequest) -> tuple[Any, Any]:
    """(user, authentication), by the first of token, session, API_OPEN that is there."""
    found = TokenAuthentication().authenticate(Request(request)) or _session_user(request)
    found = found or OpenAuthentication().authenticate(Request(request))
    if found is None:
        raise AuthenticationFailed(
            "Send Authorization: Bearer <token>, or sign in to the console.", code="not_authenticated"
        )
    return found


def _session_user(request: HttpRequest) -> tuple[Any, None] | None:
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not cookie:
        return None
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(cookie)
    user = get_user(request)
    if not user.is_authenticated:
        return None
    # Any page can open a WebSocket anywhere, and the browser sends the cookie along: only its Origin tells them apart.
    if not _is_own_origin(request):
        raise Refusal(403, "foreign_origin", "This page may not watch: its Origin is neither this host nor PUBLIC_URL.")
    return user, None


def _is_own_origin(request: HttpRequest) -> bool:
    """The console's page has this host's name, on another port, or is one that the settings trust."""
    try:
        origin = urlsplit(request.META.get("HTTP_ORIGIN", ""))
        own = urlsplit(f"//{request.get_host()}").hostname
        if origin.scheme not in ("http", "https") or not origin.hostname:
            return False
        if origin.hostname == own and (origin.scheme == "https" or not settings.SESSION_COOKIE_SECURE):
            return True
        return any(_trusts(urlsplit(trusted), origin) for trusted in settings.CSRF_TRUSTED_ORIGINS)
    except ValueError:  # no URL at all
        return False


def _trusts(trusted: SplitResult, origin: SplitResult) -> bool:
    """`trusted` may begin with `*.`, as Django has it for forms; ports count."""
    pattern = trusted.netloc.lower().removeprefix("*")
    return trusted.scheme == origin.scheme and is_same_domain(origin.netloc.lower(), pattern)


def _may_read(topic: Topic, user: Any, auth: Any) -> bool:
    scopes = set(getattr(auth, "scopes", None) or ())
    in_scope = not scopes or bool(scopes & {"admin", f"{topic.area}:read", f"{topic.area}:write"})
    return in_scope and user.has_perm(topic.permission)


def _choose(readable: set[str], query: bytes) -> frozenset[str]:
    """The types that the query asks for, by default all readable ones."""
    parameters = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    unknown = sorted(set(parameters) - {"types"})
    if unknown:
        raise Refusal(400, "unknown_parameter", f'"{unknown[0]}" is no parameter; there is only "types".')
    wanted = {name.strip() for name in ",".join(parameters.get("types", [])).split(",")}
    if "types" not in parameters:
        wanted = readable
    known = set(live_topics)
    if wanted - known:
        listed = ", ".join(sorted(known))
        raise Refusal(400, "unknown_type", f'"{min(wanted - known)}" is no message type; known are {listed}.')
    if not wanted or wanted - readable:
        what = ", ".join(sorted(wanted - readable)) or "anything here"
        raise Refusal(403, "permission_denied", f"Your token or user may not read {what}.")
    return frozenset(wanted)
