"""How the OpenAPI document is built: problem answers for every operation, stable names, our ways to sign in."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.contrib.django_filters import DjangoFilterExtension
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

from automation_lab.core.api.filters import ordering_fields
from automation_lab.core.api.problems import CONTENT_TYPE, ProblemSerializer

DESCRIPTIONS = {
    "400": "The request is not valid; `errors` names each fault.",
    "401": "No valid token or session.",
    "403": "The token's scopes or the user's permissions do not cover this.",
    "404": "There is no such object.",
    "405": "This path does not take this method.",
    "406": "The answer is available as JSON only.",
    "409": "The object is in a state in which this cannot be done, or contradicts another one.",
    "413": "The body is too large.",
    "415": "The body is not plain application/json.",
    "503": "The database does not answer at the moment; `Retry-After` says when to try again.",
}


class LabAutoSchema(AutoSchema):
    """Adds the problem answers that an operation can give beside those that a view documents itself."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation:
            responses = operation["responses"]
            for status in self._problem_statuses("requestBody" in operation):
                if status not in responses:
                    responses[status] = self._problem_response(status)
            operation["responses"] = dict(sorted(responses.items()))
        return operation

    def get_operation_id(self) -> str:
        """A list below one object (`/tasks/{task_id}/executions`) would share its name with the list of all."""
        name = super().get_operation_id()
        owner = re.search(r"{(\w+)_id}/", self.path)
        return f"{name}_of_{owner[1]}" if owner else name

    def _problem_statuses(self, has_body: bool) -> list[str]:
        statuses = ["400", "401", "403", "405", "406", "503"]
        if "{" in self.path:
            statuses.append("404")
        if self.method != "GET":
            statuses.append("409")
        if has_body:
            statuses += ["413", "415"]
        return statuses

    def _problem_response(self, status: str) -> dict[str, str]:
        """A reference: written out, the same answers would be most of the document."""
        component = ResolvedComponent(
            name=f"Problem{status}",
            type=ResolvedComponent.RESPONSE,
            schema=self._get_response_for_code(ProblemSerializer, status),
            object=status,
        )
        self.registry.register_on_missing(component)
        return component.ref

    def _get_response_for_code(
        self, serializer: Any, status_code: str, media_types: Any = None, direction: str = "response"
    ) -> Any:
        """Problems have their own media type, also where a view names them in `extend_schema`."""
        if serializer is ProblemSerializer or isinstance(serializer, ProblemSerializer):
            media_types = [CONTENT_TYPE]
        response = super()._get_response_for_code(serializer, status_code, media_types, direction)
        if media_types == [CONTENT_TYPE] and not response.get("description"):
            response["description"] = DESCRIPTIONS.get(status_code, "")
        return response


def loosen_free_values(result: Any, **kwargs: Any) -> Any:
    """Post-processing: "anything, or null" is anything; as `oneOf` null would match both and so be invalid."""
    if isinstance(result, dict):
        if result.get("oneOf") == [{}, {"type": "null"}]:
            result = {name: value for name, value in result.items() if name != "oneOf"}
        return {name: loosen_free_values(value) for name, value in result.items()}
    return [loosen_free_values(item) for item in result] if isinstance(result, list) else result


class StrictFilterExtension(DjangoFilterExtension):
    """Documents `ordering` beside the filters."""

    target_class = "automation_lab.core.api.filters.StrictFilterBackend"
    priority = 1

    def get_schema_operation_parameters(self, auto_schema: Any, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        parameters = super().get_schema_operation_parameters(auto_schema, *args, **kwargs)
        queryset = getattr(auto_schema.view, "queryset", None)
        if queryset is not None:
            names = [sign + name for name in ordering_fields(queryset, auto_schema.view) for sign in ("", "-")]
            parameters.append(
                {
                    "name": "ordering",
                    "in": "query",
                    "required": False,
                    "schema": {"type": "string"},
                    "description": f"One or more of {', '.join(names)}, separated by commas.",
                }
            )
        return parameters


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "automation_lab.core.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "A token of /v1/tokens or `manage.py create_token`."}


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "automation_lab.core.api.authentication.ConsoleSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "The console's session; writes need X-CSRFToken.",
        }


class OpenScheme(OpenApiAuthenticationExtension):
    """API_OPEN is no way to sign in, so it is no security scheme."""

    target_class = "automation_lab.core.api.authentication.OpenAuthentication"
    name: list[str] = []

    def get_security_requirement(self, auto_schema: Any) -> list[Any]:
        return []

    def get_security_definition(self, auto_schema: Any) -> list[Any]:
        return []
