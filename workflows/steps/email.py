"""The step type `email`: one message, from a stored template or from the config."""

from __future__ import annotations

import smtplib
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email

from automation_lab.core.execution.failures import RunError
from workflows.models import MessageTemplate
from workflows.steps.base import Fault, StepContext, StepType, message_faults

ADDRESSES = {"type": ["string", "array"], "items": {"type": "string"}}
WRITTEN = ("subject", "text", "html")


@dataclass(frozen=True)
class Message:
    """The sources of a message: message templates, not rendered yet."""

    to: Any
    subject: str
    text: str
    html: str


class EmailStep(StepType):
    """Send one e-mail; the output is `{"accepted", "message_id"}`. What the config gives wins over the template."""

    key = "email"
    title = "E-mail"
    has_effect = True
    retries = True
    unrendered = frozenset(WRITTEN)
    config_schema = {
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": ["template"]}, {"required": ["to", "subject"]}],
        "properties": {
            "template": {"type": "string", "minLength": 1, "title": "Template"},
            "to": {**ADDRESSES, "title": "To"},
            "cc": {**ADDRESSES, "default": []},
            "bcc": {**ADDRESSES, "default": []},
            "subject": {"type": "string", "maxLength": 500, "title": "Subject"},
            "text": {"type": "string", "title": "Text"},
            "html": {"type": "string", "title": "HTML"},
            "reply_to": {"type": "string"},
            "max_recipients": {"type": "integer", "minimum": 1, "maximum": 50, "default": 50},
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        message = _message(config)
        to = _addresses(message.to, context)
        cc, bcc = _addresses(config["cc"], context), _addresses(config["bcc"], context)
        _check_recipients(to, [*to, *cc, *bcc], config["max_recipients"])
        message_id = f"<{context.idempotency_key}@{_sender_domain()}>"
        mail = EmailMultiAlternatives(
            subject=" ".join(context.message(message.subject).split()),
            body=context.message(message.text),
            reply_to=_addresses(config.get("reply_to"), context),
            headers={"Message-ID": message_id},
            to=to,
            cc=cc,
            bcc=bcc,
        )
        if message.html:
            mail.attach_alternative(context.message(message.html, html=True), "text/html")
        _send(mail)
        context.log("info", f"Sent to {len(mail.recipients())} recipients.")
        return {"accepted": mail.recipients(), "message_id": message_id}

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        return [
            fault
            for field in WRITTEN
            if isinstance(config.get(field), str)
            for fault in message_faults(config[field], names, field)
        ]

    def warnings(self, config: dict[str, Any]) -> list[str]:
        name = config.get("template")
        if not isinstance(name, str):
            return []
        template = MessageTemplate.objects.filter(name=name).first()
        if template is None:
            return [f"There is no message template named {name!r} yet: the step fails until it exists."]
        if not template.to and not config.get("to"):
            return [f"Neither the step nor the template {name!r} has a recipient: the step fails until one has."]
        return []


def _message(config: dict[str, Any]) -> Message:
    template = None
    if name := config.get("template"):
        template = MessageTemplate.objects.filter(name=name).first()
        if template is None:
            raise RunError(
                f"There is no message template named {name!r}: add it under Message templates, or write the message "
                "into the step.",
                code="configuration.template",
            )
    to, *written = [config.get(field) or getattr(template, field, "") for field in ("to", *WRITTEN)]
    subject, text, html = map(str, written)
    return Message(to=to, subject=subject, text=text, html=html)


def _addresses(value: Any, context: StepContext) -> list[str]:
    parts = value if isinstance(value, list) else str(value or "").split(",")
    addresses = [" ".join(context.message(str(part)).split()) for part in parts]
    return [address for part in addresses for address in (piece.strip() for piece in part.split(",")) if address]


def _check_recipients(to: list[str], everyone: list[str], limit: int) -> None:
    if not to:
        raise RunError(
            "The message has no recipient: give `to`, here or in the template.", code="configuration.recipient"
        )
    if len(everyone) > limit:
        raise RunError(
            f"{len(everyone)} recipients are more than max_recipients ({limit}).", code="configuration.recipient"
        )
    for address in everyone:
        try:
            validate_email(parseaddr(address)[1])
        except ValidationError as error:
            raise RunError(f"{address!r} is not an e-mail address.", code="configuration.recipient") from error


def _sender_domain() -> str:
    return parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"


def _send(mail: EmailMultiAlternatives) -> None:
    try:
        mail.send()
    except smtplib.SMTPResponseException as error:
        raise RunError(f"The mail server refused: {error.smtp_code}.", code=f"smtp.{error.smtp_code}") from error
    except smtplib.SMTPRecipientsRefused as error:
        raise RunError("The mail server refused every recipient.", code="smtp.550") from error
    except (smtplib.SMTPException, OSError) as error:
        raise RunError(
            f"The mail server could not be used: {type(error).__name__}.",
            code="communication.smtp",
            outcome_unknown=isinstance(error, smtplib.SMTPServerDisconnected),
        ) from error
