"""How a worker sends one stored webhook to another address: record the attempt, send, record what came back."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from django.db.models import QuerySet

from automation_lab.core import clock, crypto
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution import attempts, queue, retry
from automation_lab.core.execution.attempts import Outcome
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.failures import Interrupted, RunError, internal_error
from automation_lab.core.execution.interruptions import end_of
from automation_lab.core.execution.models import Execution
from automation_lab.core.execution.results import masked_text, storable
from automation_lab.core.execution.runner import Executable
from automation_lab.core.http import HttpClient, HttpError, HttpResponse
from automation_lab.core.redaction import redact_headers
from automation_lab.core.safe_json import dump
from inbox.models import Forward, ForwardAttempt, Source, Webhook
from inbox.replaying import signing_requests
from inbox.replaying.outgoing import EDITED_HEADER, MAX_HOPS, OutgoingWebhook, hop_of, kept_headers, outgoing_webhook

Status = Forward.Status
POLICY = retry.RetryPolicy(max_attempts=5, delay_seconds=5, max_delay_seconds=600)
TIMEOUT_SECONDS = 30
KEPT_BODY_CHARACTERS = 8_192


class ForwardExecutable(Executable):
    """Sends forwards. `http` is the outbound client, replaced in tests."""

    model = Forward

    def __init__(self, http: HttpClient | None = None) -> None:
        self.http = http or HttpClient()

    def rows(self) -> QuerySet[Forward]:
        return Forward.objects.select_related("webhook", "replay")

    def run(self, execution: Execution, claim: Claim) -> None:
        assert isinstance(execution, Forward)  # noqa: S101 - the registry pairs model and executable
        attempt = queue.persist(lambda: attempts.begin(execution, claim))
        outcome = self._attempt(execution, attempt, claim)
        queue.persist(lambda: _settle(attempt, outcome, claim))

    def _attempt(self, forward: Forward, attempt: ForwardAttempt, claim: Claim) -> Outcome:
        try:
            return Outcome(output=self._send(forward, claim))
        except Interrupted as interrupted:
            return Outcome(interrupted=interrupted)
        except RunError as error:
            return Outcome(error=error, decision=_decide(forward, attempt, error))

    def _send(self, forward: Forward, claim: Claim) -> dict[str, Any]:
        request = build_request(forward, now_seconds=int(time.time()))
        try:
            response = self.http.request(
                request.method,
                forward.target,
                headers=request.headers,
                query=request.query,
                content=request.body,
                timeout_seconds=TIMEOUT_SECONDS,
                cancel=claim.cancellation,
            )
        except HttpError as error:
            if error.code == "cancelled":
                raise Interrupted(claim.cancellation.reason, request_sent=error.request_sent) from error
            raise RunError(error.message, code=error.code) from error
        answer = _answer(response)
        if not 200 <= response.status_code < 300:
            raise RunError(
                f"The target answered {response.status_code}.",
                code=f"http.{response.status_code}",
                retry_after_seconds=response.retry_after,
                answer=answer,
            )
        return answer

    def crashed(self, execution: Execution, claim: Claim, *, now: datetime, error: Exception) -> None:
        message = internal_error(error)
        queue.finish(claim, status=Status.FAILED, now=now, error_message=message)
        attempts.close_crashed(execution, now=now, error_message=message)

    def taken_over(self, execution: Execution, *, worker: int, now: datetime) -> str:
        return attempts.close_lost(execution, worker=worker, now=now, noun="forward")

    def ended(self, execution: Execution, *, now: datetime) -> None:
        """Nothing hangs on a forward: its attempts ended when its worker let go."""


# --- the request ------------------------------------------------------------------------------------------------------


def build_request(forward: Forward, *, now_seconds: int) -> OutgoingWebhook:
    """What is sent now; a signature is made anew for each attempt. Raises RunError."""
    webhook, options = forward.webhook, forward.replay.options if forward.replay else {}
    if hop_of(webhook.headers) >= MAX_HOPS:
        raise RunError(f"Stopped: {MAX_HOPS} hops from lab to lab, so this is a loop.", code="limit.hops")
    extra, edited = _extra_headers(options), "body" in options
    if edited:
        extra.setdefault(EDITED_HEADER, "1")
    if not any(name.lower() == "idempotency-key" for name, _ in webhook.headers):
        extra.setdefault("Idempotency-Key", forward.effect_key())
    request = outgoing_webhook(
        webhook_id=webhook.pk,
        method=webhook.method,
        query_params=webhook.query_params,
        headers=kept_headers(webhook.headers, replaced=["content-encoding"]) if edited else webhook.headers,
        body=edited_body(options["body"]) if edited else bytes(webhook.raw_body),
        extra=extra,
    )
    return (
        _signed(request, webhook, forward.target, options["signing"], now_seconds) if "signing" in options else request
    )


def _extra_headers(options: dict[str, Any]) -> dict[str, str]:
    if "headers_ciphertext" not in options:
        return {}
    try:
        return orjson.loads(crypto.decrypt(options["headers_ciphertext"], bind=replay_binding(options["url"])))
    except crypto.DecryptionError as error:
        raise RunError(error.message, code="configuration.secret") from error


def edited_body(value: Any) -> bytes:
    """A text goes out as it is, any other value as JSON."""
    return (value if isinstance(value, str) else dump(value)).encode()


def replay_binding(url: str) -> str:
    """What the secrets of a replay are bound to when they are encrypted: they go to that address only."""
    return f"replay:{url}"


def _signed(
    request: OutgoingWebhook, webhook: Webhook, url: str, signing: dict[str, Any], now_seconds: int
) -> OutgoingWebhook:
    scheme, settings, secret = _signing_key(webhook, url, signing)
    unsigned = signing_requests.Unsigned(
        method=request.method,
        url=f"{url}{'&' if '?' in url else '?'}{urlencode(request.query)}" if request.query else url,
        headers=request.headers,
        body=request.body,
        message_id=signing_requests.message_id(webhook.delivery_id) or f"webhook-{webhook.pk}",
        now_seconds=now_seconds,
    )
    try:
        signed = signing_requests.sign(
            unsigned, signing_requests.Signer(secret=secret), scheme=scheme, settings=settings
        )
    except Invalid as error:
        raise RunError(error.message, code="configuration.signing") from error
    if (signed.body, signed.url) != (unsigned.body, unsigned.url):
        raise RunError(
            f"The scheme {scheme} signs inside the request, which a replay leaves as it was.",
            code="configuration.signing",
        )
    kept = kept_headers(request.headers, replaced=[*signed.headers, *signing_requests.SIGNATURE_HEADERS])
    return replace(request, headers=[*kept, *signed.headers.items()])


def _signing_key(webhook: Webhook, url: str, signing: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Scheme, settings and secret: those given with the replay, or the source's own. Raises RunError."""
    if signing["scheme"] != "source":
        try:
            return signing["scheme"], {}, crypto.decrypt(signing["ciphertext"], bind=replay_binding(url))
        except crypto.DecryptionError as error:
            raise RunError(error.message, code="configuration.secret") from error
    source = Source.objects.filter(name=webhook.source).first()
    secret = signing_requests.current_secret(source) if source else ""
    if source is None or not secret:
        raise RunError(f"The source {webhook.source} has no secret to sign with.", code="configuration.signing")
    return source.scheme, source.scheme_settings, secret


# --- what is recorded -------------------------------------------------------------------------------------------------


def _answer(response: HttpResponse) -> dict[str, Any]:
    """What came back, with its secrets masked before it is cut: half a secret would not be found."""
    body = masked_text(response.text)
    answer = {
        "status": response.status_code,
        "headers": redact_headers(response.headers),
        "body": body[:KEPT_BODY_CHARACTERS],
        "elapsed_ms": response.elapsed_ms,
    }
    return storable({**answer, "body_truncated": True} if len(body) > KEPT_BODY_CHARACTERS else answer)


def _decide(forward: Forward, attempt: ForwardAttempt, error: RunError) -> retry.Decision:
    """What follows from `error`: decided once, however often its record has to be written."""
    policy = forward.replay.options.get("retry_policy") if forward.replay else None
    now = queue.persist(clock.database_now)
    return retry.decide(
        retry.normalise(policy or {}, base=POLICY),
        attempt=attempt.number,
        failure=error.as_failure(),
        first_started_at=forward.started_at or now,
        now=now,
        deadline_at=forward.deadline_at,
    )


def _settle(attempt: ForwardAttempt, outcome: Outcome, claim: Claim) -> None:
    """Commit after the effect: answer and next attempt together, or nothing if this claim was replaced."""
    now = clock.database_now()
    if outcome.interrupted is not None:
        _settle_interruption(attempt, outcome.interrupted, claim, now)
    elif outcome.error is not None:
        _settle_error(attempt, outcome.error, outcome.decision, claim, now)
    else:
        queue.finish(claim, status=Status.SUCCESS, now=now, answer=outcome.output)
        attempts.close(attempt, status=ForwardAttempt.Status.SUCCESS, now=now, answer=outcome.output)


def _settle_error(
    attempt: ForwardAttempt, error: RunError, decision: retry.Decision, claim: Claim, now: datetime
) -> None:
    values: dict[str, Any] = {"now": now, "answer": error.answer, "error_message": masked_text(error.message)}
    if decision.at is not None:
        queue.park(claim, due_at=decision.at, status=Status.PENDING, **values)
    else:
        queue.finish(claim, status=attempts.status_of(error), **values)
    attempts.close_failed(attempt, error, decision, now=now)


def _settle_interruption(attempt: ForwardAttempt, interrupted: Interrupted, claim: Claim, now: datetime) -> None:
    end = end_of(claim, interrupted.reason)
    if end is None:
        attempts.release(attempt, claim, now=now)
        return
    queue.finish(claim, status=end.status, now=now, error_message=end.error_message)
    attempts.close_cut_off(attempt, end, now=now)
