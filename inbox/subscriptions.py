"""Confirming an SNS subscription: the only case in which an address out of a webhook is called."""

from __future__ import annotations

import re

from django.utils import timezone

from automation_lab.core.exceptions import Conflict, Refused, Unavailable
from automation_lab.core.http import HttpClient, HttpError
from inbox.models import Source, Webhook
from inbox.receiving.handshakes import FLAG
from inbox.verification.results import Verification

CONFIRMED = "confirmed"
TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 65_536
_ADDRESS = re.compile(
    r"https://sns\.[a-z0-9-]{1,30}\.amazonaws\.com(?:\.cn)?/\?Action=ConfirmSubscription&[A-Za-z0-9&=:%._-]{1,2000}"
)


def confirm_subscription(*, webhook: Webhook, client: HttpClient | None = None) -> Webhook:
    """Visit the address of a verified SubscriptionConfirmation. To be called outside a transaction.

    Raises Conflict for any other webhook, Refused for an address that is not AWS's, Unavailable without its answer.
    """
    url = _subscribe_url(webhook)
    try:
        response = (client or HttpClient()).request(
            "GET", url, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_ANSWER_BYTES
        )
    except HttpError as exc:
        raise Unavailable(f"AWS does not answer: {exc.message}", code="confirmation_failed") from exc
    if response.status_code != 200:
        raise Conflict(f"AWS answered {response.status_code}; the token may be older than three days.")
    webhook.flags = sorted({*webhook.flags, CONFIRMED})
    Webhook.objects.filter(pk=webhook.pk).update(flags=webhook.flags, updated_at=timezone.now())
    return webhook


def _subscribe_url(webhook: Webhook) -> str:
    body = webhook.body if isinstance(webhook.body, dict) else {}
    verified = webhook.verification == Verification.VERIFIED and FLAG in webhook.flags
    if not verified or body.get("Type") != "SubscriptionConfirmation":
        raise Conflict("This is not a verified SubscriptionConfirmation of SNS.")
    source = Source.objects.filter(name=webhook.source).first()
    if source is None or body.get("TopicArn") not in source.scheme_settings.get("topics", ()):
        raise Conflict("The source does not name this topic any more.")
    url = str(body.get("SubscribeURL", ""))
    if not _ADDRESS.fullmatch(url):
        raise Refused("The address of the confirmation is not one of AWS.")
    return url
