"""Sends one message to one channel: e-mail through Django, everything else through the guarded HTTP client."""

from __future__ import annotations

import smtplib
from typing import Any

from django.core.mail import EmailMessage

from automation_lab.core import crypto
from automation_lab.core.cancellation import Cancellation
from automation_lab.core.execution.failures import RunError
from automation_lab.core.http import HttpClient
from tasks.handlers import http_call, webhook
from tasks.handlers.http_call import CallContext
from tasks.models import NotificationChannel
from tasks.notifying import channels
from tasks.notifying.messages import Message, payload
from tasks.secret_context import reveal_secret

TIMEOUT_SECONDS = 15


def send(
    channel: NotificationChannel, message: Message, *, http: HttpClient, key: str, cancellation: Cancellation
) -> dict[str, Any]:
    """Deliver `message`; `key` is the same over attempts. Returns what came back. Raises RunError or Interrupted."""
    try:
        target = channels.target_of(channel)
        secret = reveal_secret(channel.secret) if channel.secret else ""
    except crypto.DecryptionError as error:
        raise RunError(
            f"The target or the signing secret of channel {channel.name} cannot be decrypted.",
            code="configuration.channel",
        ) from error
    if channel.kind == NotificationChannel.Kind.EMAIL:
        return _send_mail(target, message, key)
    context = CallContext(http=http, cancellation=cancellation, idempotency_key=key, deadline_seconds=TIMEOUT_SECONDS)
    if channel.kind == NotificationChannel.Kind.WEBHOOK:
        config = {
            "url": target,
            "payload": payload(channel.kind, message),
            "event": "",
            "secret": secret,
            "headers": {},
        }
        answer = webhook.send({**config, "expect_status": "2xx", "timeout_seconds": TIMEOUT_SECONDS}, context)
    else:
        answer = http_call.post_json(target, payload(channel.kind, message), context, timeout_seconds=TIMEOUT_SECONDS)
    return {"status": answer["status"], "elapsed_ms": answer["elapsed_ms"]}


def _send_mail(target: str, message: Message, key: str) -> dict[str, Any]:
    mail = EmailMessage(message.headline, message.body, to=[target], headers={"Message-ID": f"<{key}@automation-lab>"})
    try:
        mail.send()
    except smtplib.SMTPResponseException as error:
        raise RunError(f"The mail server refused: {error.smtp_code}.", code=f"smtp.{error.smtp_code}") from error
    except (smtplib.SMTPException, OSError) as error:
        raise RunError(
            f"The mail server could not be used: {type(error).__name__}.", code="communication.smtp"
        ) from error
    return {"accepted": True}
