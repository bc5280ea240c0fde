"""The HTTP call that the task type `api_call` and the workflow step `api_call` share."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from automation_lab.core import json_schema
from automation_lab.core.cancellation import Cancellation
from automation_lab.core.execution.failures import Interrupted, RunError
from automation_lab.core.execution.results import masked_text
from automation_lab.core.expressions import contains_secret, reveal
from automation_lab.core.http import SECRET_HEADERS, HttpClient, HttpError, HttpResponse
from automation_lab.core.safe_json import dump

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
IDEMPOTENT_METHODS = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
KEPT_BODY_CHARACTERS = 8_192

STATUS = {"pattern": "^[1-5]([0-9][0-9]|[xX][xX])$", "minimum": 100, "maximum": 599}
EXPECT_STATUS: dict[str, Any] = {
    "type": ["string", "integer", "array"],
    **STATUS,
    "items": {"type": ["string", "integer"], **STATUS},
    "minItems": 1,
    "default": "2xx",
    "description": 'Such as 200, "2xx" or [200, 404].',
    "title": "Expected status",
}
CREDENTIALS = {"bearer": "token", "header": "value", "hmac": "secret"}
"""Type of auth -> what it cannot do without. (Basic may go without user name or password, but not without both.)"""
BASIC_ALONE: dict[str, Any] = {
    "if": {"required": ["type"], "properties": {"type": {"const": "basic"}, "password": False}},
    "then": {"required": ["username"]},
}

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "method": {"enum": METHODS, "default": "GET", "title": "Method"},
        "url": {"type": "string", "format": "uri", "minLength": 1, "maxLength": 2048, "title": "URL"},
        "query": {"type": "object", "default": {}, "title": "Query parameters"},
        "headers": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "default": {},
            "title": "Headers",
        },
        "body": {"title": "Body"},
        "body_type": {"enum": ["json", "form", "text", "none"], "default": "json", "title": "Body type"},
        "auth": {
            "type": "object",
            "additionalProperties": False,
            "required": ["type"],
            "properties": {
                "type": {"enum": ["none", "basic", "bearer", "header", "hmac"]},
                "username": {"type": "string"},
                "password": {"type": "string"},
                "token": {"type": "string"},
                "name": {"type": "string", "description": "Header that carries the value or the signature."},
                "value": {"type": "string"},
                "secret": {"type": "string", "description": "Key of the HMAC-SHA256 over the body."},
            },
            "allOf": [
                BASIC_ALONE,
                *(
                    {
                        "if": {"required": ["type"], "properties": {"type": {"const": kind}}},
                        "then": {"required": [name]},
                    }
                    for kind, name in CREDENTIALS.items()
                ),
            ],
            "title": "Authentication",
        },
        "expect_status": EXPECT_STATUS,
        "response": {"enum": ["auto", "json", "text", "base64"], "default": "auto", "title": "Read the answer as"},
        "max_bytes": {
            "type": "integer",
            "minimum": 1,
            "maximum": 5_242_880,
            "default": 5_242_880,
            "title": "Largest answer in bytes",
        },
        "follow_redirects": {"type": "boolean", "default": False, "title": "Follow redirects"},
        "verify_tls": {"type": "boolean", "default": True, "title": "Check the certificate"},
        "idempotency_header": {
            "title": "Idempotency header",
            "type": "string",
            "default": "Idempotency-Key",
            "description": "Header with the key that stays the same over automatic attempts; empty: none is sent.",
        },
        "timeout_seconds": {
            "type": "number",
            "minimum": 0.1,
            "maximum": 300,
            "default": 30,
            "title": "Timeout in seconds",
        },
        "extract": {
            "title": "Extract",
            "type": "object",
            "additionalProperties": {"type": "string"},
            "default": {},
            "description": "Name: expression over `response`.",
        },
    },
}
UNRENDERED = frozenset({"extract"})


@dataclass(frozen=True)
class CallContext:
    """What a call needs beside its config. `deadline_seconds` is what is left of the attempt's time."""

    http: HttpClient
    cancellation: Cancellation
    idempotency_key: str
    deadline_seconds: float
    hop: int = 0
    allowed_hosts: dict[str, list[str]] = field(default_factory=dict)
    """Secret name -> hosts it may be sent to, for every secret that the config names."""


def is_safe_to_repeat(config: dict[str, Any]) -> bool:
    """Whether sending it twice does no harm: by its method, or because the receiver can tell by the key."""
    return config.get("method", "GET") in IDEMPOTENT_METHODS or bool(config.get("idempotency_header"))


def call(config: dict[str, Any], context: CallContext) -> dict[str, Any]:
    """Send the request that the rendered, complete `config` describes.

    Returns `{"status", "headers", "body", "elapsed_ms"}`. Raises RunError, or Interrupted when cancelled.
    """
    check_secret_hosts(config["url"], context.allowed_hosts)
    content, content_type = _body(config)
    headers = _headers(config, content_type, content, context)
    try:
        response = context.http.request(
            config["method"],
            reveal(config["url"]),
            headers=headers,
            query={name: _texts(reveal(value)) for name, value in config["query"].items()},
            content=content,
            timeout_seconds=max(0.1, min(config["timeout_seconds"], context.deadline_seconds)),
            max_bytes=config["max_bytes"],
            follow_redirects=config["follow_redirects"],
            verify_tls=config["verify_tls"],
            cancel=context.cancellation,
            secret_headers=_secret_headers(config),
        )
    except HttpError as error:
        raise _run_error(error, config, context) from error
    answer = _answer(response, config["response"])
    _check_status(response, config["expect_status"], answer)
    return answer


def post_json(url: str, body: Any, context: CallContext, *, timeout_seconds: float) -> dict[str, Any]:
    """Send `body` as JSON, with the defaults of everything else."""
    config = json_schema.with_defaults({"method": "POST", "url": url, "body": body}, CONFIG_SCHEMA)
    return call({**config, "timeout_seconds": timeout_seconds}, context)


def check_secret_hosts(url: Any, allowed_hosts: dict[str, list[str]]) -> None:
    """Refuse to send a secret to a host that it is not bound to. A secret without hosts may go anywhere."""
    host = (urlsplit(str(reveal(url))).hostname or "").rstrip(".").lower()
    for name, hosts in allowed_hosts.items():
        if hosts and not any(_host_matches(host, allowed.lower()) for allowed in hosts):
            raise RunError(
                f"The secret {name} may not be sent to {host}: add the host to the secret, or remove the secret here.",
                code="authorization.secret_host",
            )


def _host_matches(host: str, allowed: str) -> bool:
    return host == allowed or (allowed.startswith("*.") and host.endswith(allowed[1:]))


def _body(config: dict[str, Any]) -> tuple[bytes | None, str]:
    body, body_type = reveal(config.get("body")), config["body_type"]
    if body is None or body_type == "none":
        return None, ""
    if body_type == "form":
        if not isinstance(body, dict):
            raise RunError("A form body must be an object.", code="configuration.body")
        return urlencode(
            {name: _texts(value) for name, value in body.items()}, doseq=True
        ).encode(), "application/x-www-form-urlencoded"
    if body_type == "text":
        return _text(body).encode(), "text/plain; charset=utf-8"
    return dump(body).encode(), "application/json"


def _headers(
    config: dict[str, Any], content_type: str, content: bytes | None, context: CallContext
) -> list[tuple[str, str]]:
    headers = {name: _text(reveal(value)) for name, value in config["headers"].items()}
    given = {name.lower() for name in headers}
    if content_type and "content-type" not in given:
        headers["Content-Type"] = content_type
    key_header = config["idempotency_header"]
    if key_header and config["method"] not in ("GET", "HEAD") and key_header.lower() not in given:
        headers[key_header] = context.idempotency_key
    headers["X-Automation-Lab-Hop"] = str(context.hop + 1)
    headers.update(_auth_headers(reveal(config.get("auth") or {}), content or b""))
    return list(headers.items())


def _auth_headers(auth: dict[str, Any], content: bytes) -> dict[str, str]:
    kind = auth.get("type", "none")
    if kind == "basic":
        pair = f"{auth.get('username', '')}:{auth.get('password', '')}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    if kind == "bearer":
        return {"Authorization": f"Bearer {auth.get('token', '')}"}
    if kind == "header":
        return {auth.get("name") or "X-Api-Key": str(auth.get("value", ""))}
    if kind == "hmac":
        digest = hmac.new(str(auth.get("secret", "")).encode(), content, hashlib.sha256).hexdigest()
        return {auth.get("name") or "X-Signature-256": f"sha256={digest}"}
    return {}


def _secret_headers(config: dict[str, Any]) -> frozenset[str]:
    """Headers that a redirect must not carry to another origin."""
    secret = {name for name, value in config["headers"].items() if contains_secret(value)}
    return SECRET_HEADERS | secret | {(config.get("auth") or {}).get("name") or "X-Api-Key"}


def _run_error(error: HttpError, config: dict[str, Any], context: CallContext) -> Exception:
    if error.code == "cancelled":
        return Interrupted(context.cancellation.reason, request_sent=error.request_sent)
    unknown = error.request_sent and not is_safe_to_repeat(config)
    return RunError(error.message, code=error.code, outcome_unknown=unknown)


def _answer(response: HttpResponse, read_as: str) -> dict[str, Any]:
    return {
        "status": response.status_code,
        "headers": {name.lower(): value for name, value in response.headers},
        "body": _parsed(response, read_as),
        "elapsed_ms": response.elapsed_ms,
    }


def _parsed(response: HttpResponse, read_as: str) -> Any:
    if read_as == "text":
        return response.text
    if read_as == "base64":
        return base64.b64encode(response.body).decode()
    if read_as == "json":
        try:
            return orjson.loads(response.body)
        except orjson.JSONDecodeError as error:
            raise RunError(f"The answer is not JSON: {error}", code="validation.json") from error
    return response.parsed_body


def _check_status(response: HttpResponse, expected: Any, answer: dict[str, Any]) -> None:
    wanted = expected if isinstance(expected, list) else [expected]
    if any(_status_matches(response.status_code, str(item)) for item in wanted):
        return
    raise RunError(
        f"The target answered {response.status_code}; expected {', '.join(str(item) for item in wanted)}.",
        code=f"http.{response.status_code}",
        retry_after_seconds=response.retry_after,
        answer=capped_answer(answer),
    )


def _status_matches(status: int, pattern: str) -> bool:
    return str(status) == pattern or (pattern.lower().endswith("xx") and str(status)[0] == pattern[0])


def capped_answer(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer as attempts keep it: the body as text, at most 8 kB of it. Masked first: a cut secret is not found."""
    body = answer["body"]
    text = masked_text(body if isinstance(body, str) else dump(body))
    if len(text) <= KEPT_BODY_CHARACTERS:
        return answer
    return {**answer, "body": text[:KEPT_BODY_CHARACTERS], "body_truncated": True}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return value if isinstance(value, str) else dump(value)


def _texts(value: Any) -> str | list[str]:
    return [_text(item) for item in value] if isinstance(value, list) else _text(value)


def secret_names(references: Iterable[Any]) -> set[str]:
    """Names of the secrets among the `references` of a config."""
    return {reference.path[0] for reference in references if reference.root == "secrets" and reference.path}
