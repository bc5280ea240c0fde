"""Headers that tell browsers what pages of this server may do, and the refusal of malformed host names."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from automation_lab.core.api import problems

PERMISSIONS = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
# What is not a page is never to be rendered as one, whatever a sender put into it.
POLICY_OF_DATA = "default-src 'none'; frame-ancestors 'none'; sandbox"
PAGE: dict[str, str] = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",  # the console, the browsable API and the API documentation style elements
    "img-src": "'self' data:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
# Alpine.js, which the console's theme ships, evaluates the expressions in its attributes.
CONSOLE = PAGE | {"script-src": "'self' 'unsafe-eval'"}
REDOC = PAGE | {"worker-src": "blob:"}


class SecurityHeadersMiddleware:
    """Outermost but for the API log, so that errors and static files carry the headers too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost:
            response: HttpResponseBase = _bad_host(request)
        else:
            response = self.get_response(request)
        add_headers(request, response)
        return response


def add_headers(request: HttpRequest, response: HttpResponseBase) -> None:
    """A header that the view has set stays."""
    response.headers.setdefault("Content-Security-Policy", _policy(request, response))
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("X-Frame-Options", "DENY")
    response.headers.setdefault("Permissions-Policy", PERMISSIONS)
    if request.path.startswith(("/v1/", "/approve/")) or request.path == "/v1":
        response.headers.setdefault("Cache-Control", "no-store")


def _bad_host(request: HttpRequest) -> HttpResponse:
    detail = "The Host header names no host of this server, as ALLOWED_HOSTS has them."
    body = problems.problem(status=400, detail=detail, code="bad_host", path=request.path)
    return JsonResponse(body, status=400, content_type=problems.CONTENT_TYPE)


def _policy(request: HttpRequest, response: HttpResponseBase) -> str:
    if not response.headers.get("Content-Type", "").startswith("text/html"):
        return POLICY_OF_DATA
    if request.path.startswith("/admin/"):
        directives = CONSOLE | {"connect-src": f"'self' {_live_origins(request)}"}
    else:
        directives = REDOC if request.path == "/redoc" else PAGE
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _live_origins(request: HttpRequest) -> str:
    """Where the console's scripts find the live port."""
    if settings.LIVE_URL:
        parts = urlsplit(settings.LIVE_URL)
        scheme = "wss" if parts.scheme in ("https", "wss") else "ws"
        return f"{scheme}://{parts.netloc}"
    host = urlsplit(f"//{request.get_host()}").hostname or "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"{'wss' if request.is_secure() else 'ws'}://{shown}:{settings.LIVE_PORT}"
