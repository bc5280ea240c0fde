"""The receiving endpoint in the API's document: it is no DRF view, and still the address that users look for."""

from __future__ import annotations

from typing import Any

from automation_lab.core.api.problems import CONTENT_TYPE

PATH = "/v1/webhooks/inbox/{source}"
REFUSALS = {
    "400": "The body ended early, or its length is contradictory.",
    "401": "The source's scheme does not accept the signature; the request is kept as rejected.",
    "404": "The name is no source's, or the source is disabled.",
    "405": "The source does not take this method; `Allow` says which.",
    "413": "The body is larger than the source accepts.",
    "429": "More requests than the source, the address or the lab may send; `Retry-After` says when to come again.",
    "503": "The database does not answer at the moment; `Retry-After` says when to send again.",
}
ANSWER = {
    "type": "object",
    "required": ["id", "status", "duplicate"],
    "properties": {
        "id": {"type": "integer"},
        "status": {"type": "string", "enum": ["received"]},
        "duplicate": {"type": "boolean"},
    },
}


def describe_receiving(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    result["paths"][PATH] = {"post": _operation()}
    return result


def _operation() -> dict[str, Any]:
    return {
        "operationId": "webhooks_receive",
        "summary": "Receive a webhook",
        "description": (
            "Any method, any content, and any path below this one. The body is stored byte by byte before this answers; "
            "JSON is parsed beside it. A delivery id that was received before makes a duplicate, which starts nothing. "
            "A source can have an answer of its own instead of the one shown here, and a provider that asks before it "
            "sends (a challenge, HEAD, OPTIONS) gets the answer it expects."
        ),
        "tags": ["webhooks"],
        "security": [{}],
        "parameters": [
            _parameter("source", "path", {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}, required=True),
            _parameter("event_type", "query", {"type": "string", "maxLength": 255}),
        ],
        "requestBody": {"content": {"*/*": {"schema": {}}}},
        "responses": {
            "200": _answer("A duplicate: received before under the same delivery id.", "application/json", ANSWER),
            "201": _answer("Stored.", "application/json", ANSWER),
            **{
                status: _answer(reason, CONTENT_TYPE, {"$ref": "#/components/schemas/Problem"})
                for status, reason in REFUSALS.items()
            },
        },
    }


def _parameter(name: str, place: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _answer(description: str, content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}
