"""Who gets in without signing in: a frozen list, so that no view is opened by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from automation_lab.core.api.permissions import SCOPE_AREAS, RolePermission
from automation_lab.core.api.viewsets import LabAPIView

OPEN_BELOW_V1 = {"receive"}
CLOSED_WHEN_OPEN = {"ApiTokenViewSet", "SecretViewSet", "NotificationChannelViewSet"}


def walk(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for item in patterns:
        route = prefix + str(item.pattern)
        if isinstance(item, URLResolver):
            yield from walk(item.url_patterns, route)
        else:
            yield route, item


def below_v1() -> list[tuple[str, URLPattern]]:
    return [(route, item) for route, item in walk(get_resolver().url_patterns) if route.startswith("v1/")]


def example(route: str) -> str:
    parts = []
    for part in route.split("/"):
        converter = part.strip("<>").partition(":")[0] if part.startswith("<") else ""
        parts.append({"": part, "int": "1", "token_id": "0" * 16}.get(converter, "example"))
    return "/" + "/".join(parts)


def api_views() -> list[tuple[str, Any]]:
    return [(route, item.callback.cls) for route, item in below_v1() if hasattr(item.callback, "cls")]


def test_only_the_known_addresses_are_outside_the_api_layer():
    outside = {item.name or route for route, item in below_v1() if not hasattr(item.callback, "cls")}

    assert outside <= OPEN_BELOW_V1 | {"approve", "callback"}


def test_every_view_checks_scope_and_role():
    for route, view in api_views():
        assert issubclass(view, LabAPIView), route
        assert view.scope_area in SCOPE_AREAS, route
        assert RolePermission in view.permission_classes, route


def test_what_api_open_leaves_closed():
    assert {view.__name__ for _, view in api_views() if view.closed_when_open} >= CLOSED_WHEN_OPEN


@pytest.mark.django_db
def test_without_signing_in_every_address_is_a_401(anonymous_api):
    routes = sorted({route for route, _ in api_views()})
    assert len(routes) > 20

    for route in routes:
        for method in ("get", "post", "patch", "delete"):
            answer = getattr(anonymous_api, method)(example(route))
            assert answer.status_code == 401, f"{method} {route}"
            assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.django_db
def test_every_list_opens_as_json_and_as_a_page(api, browser):
    lists = sorted({route for route, _ in api_views() if "<" not in route})
    opened = 0

    for route in lists:
        answer = api.get(f"/{route}")
        assert answer.status_code in (200, 405), f"{route}: {answer.content[:300]!r}"
        if answer.status_code == 200 and answer["Content-Type"] == "application/json":
            page = browser.get(f"/{route}", HTTP_ACCEPT="text/html")
            assert page.status_code == 200, route
            opened += 1
    assert opened > 8


@pytest.mark.django_db
def test_every_list_refuses_a_parameter_that_it_does_not_know(api):
    for route in sorted({route for route, _ in api_views() if "<" not in route}):
        answer = api.get(f"/{route}?no_such_parameter=1")

        assert answer.status_code in (400, 405), route
