"""The replay target `url`: every webhook becomes a forward to one allowed address."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from automation_lab.core import clock, crypto
from automation_lab.core.exceptions import Invalid, Refused
from automation_lab.core.execution import queue, retry
from automation_lab.core.http.message import HttpError, encode_headers
from automation_lab.core.outbound import check_url, policy_from_settings
from automation_lab.core.registry import ReplayTarget
from automation_lab.core.safe_json import dump
from automation_lab.core.signing import decode_standard_secret
from inbox.models import Forward, Replay, Webhook
from inbox.replaying.forwarding import POLICY, edited_body, replay_binding

Mode = Forward.Mode
KNOWN = ("url", "mode", "body", "headers", "signing", "retry_policy")
MAX_BODY_BYTES = 1024 * 1024
MAX_HEADERS = 50


def check(options: dict[str, Any]) -> dict[str, Any]:
    """The options to keep, with the signing secret encrypted. Raises Invalid."""
    url = options.get("url", "")
    if not url:
        raise Invalid("Give the url to send to.", field="url", code="required")
    try:
        check_url(url, policy_from_settings())
    except Refused as error:
        raise Invalid(f"This address is not allowed: {error.message}", field="url", code=error.code) from error
    kept: dict[str, Any] = {"url": url, "mode": _mode(options)}
    if "body" in options:
        kept["body"] = _checked_body(options["body"])
    if options.get("headers"):
        _check_headers(options["headers"])
        kept["headers"] = sorted(options["headers"])
        kept["headers_ciphertext"] = crypto.encrypt(dump(options["headers"]), bind=replay_binding(url))
    if options.get("signing"):
        kept["signing"] = _checked_signing(options["signing"], url)
    if options.get("retry_policy"):
        kept["retry_policy"] = _checked_policy(options["retry_policy"])
    return kept


def start(webhook: Webhook, replay: Replay) -> list[Forward]:
    forward = Forward(
        webhook=webhook,
        replay=replay,
        target=replay.options["url"],
        mode=replay.options["mode"],
        trigger="replay",
        correlation_id=replay.correlation_id,
    )
    return [queue.enqueue(forward, due_at=clock.database_now())]


def executions(replay: Replay) -> QuerySet[Forward]:
    return Forward.objects.filter(replay=replay)


def _mode(options: dict[str, Any]) -> str:
    """What was asked for must be what the other options do."""
    mode = options.get("mode") or (
        Mode.EDITED if "body" in options else Mode.RESIGNED if options.get("signing") else Mode.ORIGINAL
    )
    if (mode == Mode.EDITED) != ("body" in options):
        raise Invalid("The mode edited goes with a body, and a body with the mode edited.", field="mode")
    if mode == Mode.RESIGNED and not options.get("signing"):
        raise Invalid('The mode resigned needs signing, such as {"scheme": "source"}.', field="signing")
    if mode == Mode.ORIGINAL and options.get("signing"):
        raise Invalid("With signing the mode is resigned or edited.", field="mode")
    return str(mode)


def _checked_body(body: Any) -> Any:
    if len(edited_body(body)) > MAX_BODY_BYTES:
        raise Invalid(f"An edited body has at most {MAX_BODY_BYTES:,} bytes.", field="body", code="too_long")
    return body


def _check_headers(headers: dict[str, Any]) -> None:
    if len(headers) > MAX_HEADERS or not all(isinstance(value, str) for value in headers.values()):
        raise Invalid(f"Headers are at most {MAX_HEADERS} names with texts.", field="headers")
    try:
        sent = encode_headers(headers)
    except HttpError as error:
        raise Invalid(error.message, field="headers") from error
    if len(sent) < len(headers):
        raise Invalid("Headers of the connection cannot be set; leave them out.", field="headers")


def _checked_signing(signing: dict[str, Any], url: str) -> dict[str, Any]:
    if signing["scheme"] == "source":
        return {"scheme": "source"}
    secret = signing.get("secret", "")
    try:
        decode_standard_secret(secret)
    except Invalid as error:
        raise Invalid(error.message, field="signing.secret", code=error.code) from error
    return {"scheme": signing["scheme"], "ciphertext": crypto.encrypt(secret, bind=replay_binding(url))}


def _checked_policy(policy: dict[str, Any]) -> dict[str, Any]:
    if policy.get("retry_if") is not None:
        raise Invalid("A forward has no names that retry_if could use: leave it out.", field="retry_policy.retry_if")
    return retry.normalise(policy, base=POLICY).as_dict()


TARGET = ReplayTarget(
    check=check, start=start, executions=executions, permission="inbox.add_forward", scope_area="inbox"
)
