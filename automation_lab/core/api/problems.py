"""Every error of the API as a problem document (RFC 9457): what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.core import exceptions as django_exceptions
from django.db import DataError, Error, IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404, HttpRequest
from django.utils.encoding import iri_to_uri
from rest_framework import exceptions, serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from automation_lab.core.exceptions import AutomationLabError, Conflict, Gone, Invalid, NotFound, Refused, Unavailable
from automation_lab.core.request_body import LengthRequired, TooLarge

CONTENT_TYPE = "application/problem+json"
DATABASE_RETRY_SECONDS = 5
STATUS_BY_ERROR: dict[type[AutomationLabError], int] = {
    Invalid: 400,
    Refused: 403,
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    LengthRequired: 411,
    TooLarge: 413,
    Unavailable: 503,
}


class FieldErrorSerializer(serializers.Serializer):
    field = serializers.CharField(
        help_text="Path into the body, such as `config.url` or `steps[2].type`; a parameter's name; or empty."
    )
    code = serializers.CharField(help_text="Stable, for programs.")
    detail = serializers.CharField(help_text="For people.")


class ProblemSerializer(serializers.Serializer):
    """What is wrong (RFC 9457)."""

    type = serializers.CharField(help_text="A stable URN that ends in the error's code.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField(help_text="The path of the request.")
    errors = FieldErrorSerializer(many=True, required=False)  # type: ignore[assignment]  # a field of that name


def problem(
    *, status: int, detail: str, code: str, path: str, errors: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"urn:automation-lab:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": iri_to_uri(path),
    }
    if errors:
        body["errors"] = errors
    return body


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's hook: the problem for `exc`, or None for a programming error, which becomes a logged 500."""
    request = context["request"]
    found = describe(exc)
    if found is None:
        return None
    status, code, detail, errors = found
    if isinstance(exc, exceptions.MethodNotAllowed):
        detail = f"{request.method} is not possible here; {', '.join(context['view'].allowed_methods)} are."
    body = problem(status=status, detail=detail, code=code, path=request.path, errors=errors)
    response = Response(body, status=status, headers=_headers(exc, status))
    response.error_class = type(exc).__name__  # type: ignore[attr-defined]  # for the API log
    if getattr(getattr(request, "accepted_renderer", None), "format", "") != "api":
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), "application/json"
        response.content_type = CONTENT_TYPE
    return response


def describe(exc: BaseException) -> tuple[int, str, str, list[dict[str, Any]]] | None:
    """(status, code, detail, errors) of `exc`; None if it is not an error that may be shown."""
    if isinstance(exc, Http404):
        return 404, "not_found", "There is nothing here.", []
    if isinstance(exc, (django_exceptions.ValidationError, serializers.ValidationError)):
        return _describe_validation(serializers.as_serializer_error(exc))
    if isinstance(exc, django_exceptions.PermissionDenied):
        return 403, "permission_denied", str(exc) or "You may not do this.", []
    if isinstance(exc, exceptions.NotAuthenticated):
        return 401, _code(exc), "Send Authorization: Bearer <token>, or sign in to the console.", []
    if isinstance(exc, exceptions.NotAcceptable):
        offered = ", ".join(renderer.media_type for renderer in exc.available_renderers or [])
        return 406, _code(exc), f"The Accept header asks for none of {offered}.", []
    if isinstance(exc, exceptions.APIException):
        return exc.status_code, _code(exc), str(exc.detail), []
    if isinstance(exc, AutomationLabError):
        return _describe_own(exc)
    if isinstance(exc, (ProtectedError, RestrictedError)):
        return 409, "in_use", "Other objects still refer to this one; change or delete them first.", []
    if isinstance(exc, Error):
        return _describe_database(exc)
    return None


def _describe_own(exc: AutomationLabError) -> tuple[int, str, str, list[dict[str, Any]]]:
    status = next((status for error, status in STATUS_BY_ERROR.items() if isinstance(exc, error)), 400)
    errors = exc.errors if isinstance(exc, Invalid) else []
    if not errors and exc.field:
        errors = [{"field": exc.field, "code": exc.code, "detail": exc.message}]
    return status, exc.code, exc.message, errors


def _describe_database(exc: Error) -> tuple[int, str, str, list[dict[str, Any]]] | None:
    if isinstance(exc, (OperationalError, InterfaceError)):
        return 503, "database_unavailable", "The database does not answer at the moment; repeat the request.", []
    if isinstance(exc, IntegrityError):
        return 409, "conflict", "This contradicts what another request has just stored, or a rule of the data.", []
    if isinstance(exc, DataError):
        return 400, "invalid", "One of the values cannot be stored.", []
    return None


def _describe_validation(detail: Any) -> tuple[int, str, str, list[dict[str, Any]]]:
    errors = list(flatten(detail))
    first = errors[0] if errors else {"field": "", "detail": "The input is not valid."}
    where = f"{first['field']}: " if first["field"] else ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return 400, "invalid", f"{where}{first['detail']}{more}", errors


def flatten(detail: Any, field: str = "") -> Iterator[dict[str, Any]]:
    """DRF's nested errors as `{field, code, detail}` with paths such as `steps[2].config`."""
    if isinstance(detail, Mapping):
        for key, value in detail.items():
            if key in ("non_field_errors", "__all__"):
                yield from flatten(value, field)
            elif isinstance(key, int):
                yield from flatten(value, f"{field}[{key}]")
            else:
                yield from flatten(value, f"{field}.{key}" if field else str(key))
    elif isinstance(detail, (list, tuple)):
        for index, value in enumerate(detail):
            nested = isinstance(value, (Mapping, list, tuple))
            yield from flatten(value, f"{field}[{index}]" if nested else field)
    else:
        yield {"field": field, "code": str(getattr(detail, "code", "") or "invalid"), "detail": str(detail)}


def _code(exc: exceptions.APIException) -> str:
    codes = exc.get_codes()
    return codes if isinstance(codes, str) else str(exc.default_code)


def _headers(exc: Exception, status: int) -> dict[str, str]:
    headers = {}
    if getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = str(exc.auth_header)  # type: ignore[attr-defined]
    wait = getattr(exc, "wait", None)
    if status == 429:
        headers["Retry-After"] = str(max(1, round(wait))) if wait else "60"
    if status == 503:
        headers["Retry-After"] = str(round(wait) if wait else DATABASE_RETRY_SECONDS)
    return headers


def wants_problem(request: HttpRequest) -> bool:
    """Whether an error outside a view is answered as a problem document: below /v1/ always."""
    return request.path.startswith("/v1/") or request.path == "/v1"
