"""Judging a stored webhook again with today's secrets, and explaining what does not match."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from automation_lab.core.exceptions import Conflict, Gone
from inbox.incoming import IncomingRequest
from inbox.models import PAYLOAD_REMOVED, Source, Webhook
from inbox.receiving.storing import accept_rejected
from inbox.secrets import signing_secrets
from inbox.verification import judge
from inbox.verification.context import Context, public_url, usable
from inbox.verification.explain import explain
from inbox.verification.results import Verdict, Verification


@dataclass(frozen=True)
class Reverified:
    """`findings` are sentences for the operator, without secrets. `webhook` is as it is now."""

    webhook: Webhook
    verdict: Verdict
    findings: list[str]


def verify_again(*, webhook: Webhook) -> Reverified:
    """Judge `webhook` with the secrets that are valid now, its time as it was when it came.

    A rejected one that verifies now is accepted and announced like a new one, once. To be called outside a
    transaction. Raises Gone without its body, Conflict for a rejected one that its source cannot take any more,
    CertificateUnavailable.
    """
    if PAYLOAD_REMOVED in webhook.flags:
        raise Gone("The body of this webhook was removed, so nothing can be verified.", code=PAYLOAD_REMOVED)
    source = _source_of(webhook)
    request = stored_request(webhook)
    verdict = judge.verify(source, request, received_at=webhook.received_at)
    if verdict.accepted:
        if webhook.status == Webhook.Status.REJECTED:
            webhook = accept_rejected(webhook=webhook, request=request, source=source, verdict=verdict)
        return Reverified(webhook, verdict, [_acceptance(verdict)])
    return Reverified(webhook, verdict, _findings(webhook, source, request, verdict))


def _source_of(webhook: Webhook) -> Source:
    """Without a source nothing would be checked, and what was refused would be let in."""
    source = Source.objects.filter(name=webhook.source).first()
    if webhook.status == Webhook.Status.REJECTED and not (source and source.enabled):
        state = "switched off: enable it" if source else "deleted: create it again, with its scheme and secrets,"
        raise Conflict(f"The source {webhook.source} is {state} to verify what it refused.", code="source_unavailable")
    return source or Source(name=webhook.source)


def stored_request(webhook: Webhook) -> IncomingRequest:
    return IncomingRequest(
        method=webhook.method,
        path=webhook.path,
        query_params=webhook.query_params,
        query_string=webhook.query_string,
        headers=webhook.headers,
        raw_body=bytes(webhook.raw_body),
        remote_addr=webhook.remote_addr,
        correlation_id=webhook.correlation_id,
    )


def _acceptance(verdict: Verdict) -> str:
    if verdict.result == Verification.NOT_CONFIGURED:
        return "The source has no scheme: it accepts everything."
    return f"It verifies with the secret {verdict.secret_id}." if verdict.secret_id else "It verifies."


def _findings(webhook: Webhook, source: Source, request: IncomingRequest, verdict: Verdict) -> list[str]:
    secrets, now = signing_secrets(source), timezone.now()
    context = Context(
        request=request,
        secrets=usable(secrets, now),
        now=webhook.received_at,
        url=public_url(request, source.scheme_settings),
        options=source.scheme_settings,
    )
    findings = explain(source.scheme, verdict, context, secrets, now=now)
    if len(secrets) < sum(secret.get("use", "signature") == "signature" for secret in source.secrets):
        findings.append("A secret of the source cannot be decrypted with this installation's keys; set it again.")
    if "headers_truncated" in webhook.flags:
        findings.append("Not all of its headers were stored, so one that is missing here may have been sent.")
    if len(findings) == 1 and verdict.result == Verification.MISMATCH:
        findings.append(_last_resort(source, context))
    return findings


def _last_resort(source: Source, context: Context) -> str:
    ids = [secret.id for secret in context.secrets]
    proven = Webhook.objects.filter(
        source=source.name, verification=Verification.VERIFIED, matched_secret__in=ids
    ).exists()
    if proven:
        return (
            "The same secret verified other webhooks of this source, so the body or the signed headers were altered on "
            "their way, or this request is forged."
        )
    return "No secret of this source has verified anything yet: the sender probably signs with another one."
