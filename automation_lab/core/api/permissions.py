"""What a caller may do: the scopes of the token and the permissions of its user, both."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from automation_lab.core.api.authentication import OpenAccess

SCOPE_AREAS = ("inbox", "tasks", "workflows", "logs", "admin")
METHOD_PERMISSIONS = {"POST": "add", "PATCH": "change", "PUT": "change", "DELETE": "delete"}


class RolePermission(BasePermission):
    """Reads `scope_area`, `action_permissions` and `closed_when_open` of the view; everything not named is refused.

    A view tells its model by `queryset` or `permission_model`; one without a model asks for the scope alone.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not (request.user and request.user.is_authenticated):
            return False
        if request.method not in view.allowed_methods:
            return True  # answered as 405
        self._check_open(request, view)
        self._check_scope(request, view)
        permission = required_permission(request.method or "", view)
        if permission and not request.user.has_perm(permission):
            raise PermissionDenied(f'Your user lacks the permission "{permission}".', code="missing_permission")
        return True

    def _check_open(self, request: Request, view: Any) -> None:
        if isinstance(request.auth, OpenAccess) and getattr(view, "closed_when_open", False):
            raise PermissionDenied("API_OPEN=1 does not open this resource: send a token.", code="closed_when_open")

    def _check_scope(self, request: Request, view: Any) -> None:
        area = getattr(view, "scope_area", "")
        if area not in SCOPE_AREAS:
            raise ImproperlyConfigured(f"{type(view).__name__} needs scope_area, one of {', '.join(SCOPE_AREAS)}.")
        check_scope(request, area)


def check_scope(request: Request, area: str) -> None:
    """Refuse a token whose scopes do not cover this method on `area`."""
    scopes = getattr(request.auth, "scopes", None)
    if not scopes or "admin" in scopes:
        return
    accepted = ["admin"] if area == "admin" else [f"{area}:write"]
    if request.method in SAFE_METHODS and area != "admin":
        accepted.insert(0, f"{area}:read")
    if not set(accepted) & set(scopes):
        raise PermissionDenied(f'This token lacks the scope "{accepted[0]}".', code="missing_scope")


def required_permission(method: str, view: Any) -> str:
    """The Django permission for what `view` is about to do, such as `tasks.add_scheduledtask`; "" without a model."""
    action = getattr(view, "action", None) or ""
    wanted = getattr(view, "action_permissions", {}).get(action)
    if wanted and "." in wanted:
        return str(wanted)
    model = _model(view)
    if model is None:
        return ""
    if not wanted:
        wanted = "view" if method in SAFE_METHODS else _verb(method, action)
    return f"{model._meta.app_label}.{wanted}_{model._meta.model_name}"


def _verb(method: str, action: str) -> str:
    """An extra action such as cancel changes the object; it does not add one."""
    return "change" if method == "POST" and action not in ("", "create") else METHOD_PERMISSIONS.get(method, "change")


def _model(view: Any) -> type[Model] | None:
    model = getattr(view, "permission_model", None)
    if model is None and getattr(view, "queryset", None) is not None:
        model = view.queryset.model
    return model
