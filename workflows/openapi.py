"""The callback endpoint in the API's document: it is no DRF view."""

from __future__ import annotations

from typing import Any

from automation_lab.core.api.problems import CONTENT_TYPE

PATH = "/v1/callbacks/{token}"
REFUSALS = {
    "400": "The body ended early, or its length is contradictory.",
    "404": "There is no such link.",
    "405": "Only POST is taken.",
    "409": "This is not the request that the step waits for; the link stays valid.",
    "410": "The link was used already, or its time is over.",
    "413": "The body is too large.",
    "503": "The database does not answer at the moment; `Retry-After` says when to send again.",
}


def describe_callbacks(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    result["paths"][PATH] = {"post": _operation()}
    return result


def _operation() -> dict[str, Any]:
    problem = {"content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    return {
        "operationId": "callbacks_receive",
        "summary": "Answer a waiting workflow",
        "description": (
            "The one-time link of a `wait_for_webhook` step, `callbacks.<id>` in its workflow. Any content type; the body "
            "becomes the step's output and the run goes on. The step can have an answer of its own."
        ),
        "tags": ["callbacks"],
        "security": [],
        "parameters": [{"name": "token", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {"content": {"*/*": {"schema": {}}}},
        "responses": {
            "200": {"description": "Taken.", "content": {"application/json": {"schema": {}}}},
            **{status: {"description": reason, **problem} for status, reason in REFUSALS.items()},
        },
    }
