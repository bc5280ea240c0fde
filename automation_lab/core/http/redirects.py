"""What a redirect makes of a request. Every hop is judged anew by the outbound rules; this decides what it may carry."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urljoin

from automation_lab.core.http.message import HttpError, RawHeaders
from automation_lab.core.outbound.syntax import Target, check_characters, parse_url

MAX_REDIRECTS = 5
STATUSES = frozenset({301, 302, 303, 307, 308})
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Never carried to another origin, whatever a caller adds."""

_SECRET_NAME = re.compile(r"auth|cookie|credential|key|password|secret|session|signature|token")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Outgoing:
    """One request as it is to be sent; `query` is added to the URL's own."""

    method: str
    url: str
    query: str
    headers: RawHeaders
    content: bytes | None


def redirected(sent: Outgoing, target: Target, status: int, location: str, secret_headers: frozenset[str]) -> Outgoing:
    """The request that follows `sent`. Raises HttpError or Blocked when the redirect is not to be followed."""
    check_characters(location)
    url = _join(target.url, location)
    new = parse_url(url)
    if target.scheme == "https" and new.scheme == "http":
        raise _refusal("it leads from https to http")
    following = replace(sent, url=url, query="")
    if _becomes_get(sent.method, status):
        following = _without_body(following)
    if new.origin == target.origin:
        return following
    # A 307 without a body repeats nothing, so it is no more than a 302: http to https is often done with it.
    if following.method not in _SAFE or following.content:
        raise _refusal("it would send the request's body to another host")
    return _without_secrets(following, secret_headers)


def _join(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:
        raise _refusal("its Location is not a URL") from None


def _becomes_get(method: str, status: int) -> bool:
    return (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST")


def _without_body(outgoing: Outgoing) -> Outgoing:
    headers = tuple(pair for pair in outgoing.headers if not pair[0].lower().startswith(b"content-"))
    return replace(outgoing, method="GET", content=None, headers=headers)


def _without_secrets(outgoing: Outgoing, secret_headers: frozenset[str]) -> Outgoing:
    named = SECRET_HEADERS | {name.lower() for name in secret_headers}
    kept = tuple(pair for pair in outgoing.headers if not _is_secret(pair[0].decode("ascii").lower(), named))
    return replace(outgoing, headers=kept)


def _is_secret(name: str, named: frozenset[str]) -> bool:
    return name in named or _SECRET_NAME.search(name) is not None


def _refusal(reason: str) -> HttpError:
    return HttpError(f"The redirect was not followed: {reason}.", code="runtime.redirects", request_sent=True)
