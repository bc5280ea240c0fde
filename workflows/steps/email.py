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

from automation_lab.core import expressions
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import Reference, contains_secret
from workflows.models import MessageTemplate
from workflows.steps.base import Fault, StepContext, StepType, message_faults, message_references

ADDRESSES = {"type": ["string", "array"], "items": {"type": "string"}}
WRITTEN = ("subject", "text", "html")


@dataclass(frozen=True)
class Message:
    """Recipients, and the sources of the texts: message templates, not rendered yet."""

    to: list[str]
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
            "cc": {**ADDRESSES, "default": [], "title": "Cc"},
            "bcc": {**ADDRESSES, "default": [], "title": "Bcc"},
            "subject": {"type": "string", "maxLength": 500, "title": "Subject"},
            "text": {"type": "string", "title": "Text"},
            "html": {"type": "string", "title": "HTML"},
            "reply_to": {"type": "string", "title": "Reply to"},
            "max_recipients": {"type": "integer", "minimum": 1, "maximum": 50, "default": 50, "title": "At most"},
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        message = _message(config, context)
        to, cc, bcc = message.to, _addresses(config["cc"]), _addresses(config["bcc"])
        _check_recipients(to, [*to, *cc, *bcc], config["max_recipients"])
        message_id = f"<{context.idempotency_key}@{_sender_domain()}>"
        mail = EmailMultiAlternatives(
            subject=" ".join(context.message(message.subject).split()),
            body=context.message(message.text),
            reply_to=_addresses(config.get("reply_to")),
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

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        return {field: message_references(config.get(field)) for field in WRITTEN}

    def warnings(self, config: dict[str, Any]) -> list[str]:
        name = config.get("template")
        if not isinstance(name, str) or expressions.has_expression(name):
            return []
        template = MessageTemplate.objects.filter(name=name).first()
        if template is None:
            return [f"There is no message template named {name!r} yet: the step fails until it exists."]
        if not template.to and not config.get("to"):
            return [f"Neither the step nor the template {name!r} has a recipient: the step fails until one has."]
        return []


def _message(config: dict[str, Any], context: StepContext) -> Message:
    template = _template(config["template"]) if config.get("template") else None
    # Only what a person has written is a template: the config's addresses are rendered, and may hold anybody's data.
    to = config.get("to") or (context.message(template.to) if template else "")
    subject, text, html = (str(config.get(field) or getattr(template, field, "")) for field in WRITTEN)
    return Message(to=_addresses(to), subject=subject, text=text, html=html)


def _template(name: str) -> MessageTemplate:
    template = MessageTemplate.objects.filter(name=name).first()
    if template is None:
        raise RunError(
            f"There is no message template named {name!r}: add it under Message templates, or write the message "
            "into the step.",
            code="configuration.template",
        )
    return template


def _addresses(value: Any) -> list[str]:
    if contains_secret(value):
        raise RunError("A secret cannot be an address.", code="expression.secret")
    parts = value if isinstance(value, list) else str(value or "").split(",")
    return [address for part in parts for piece in str(part).split(",") if (address := " ".join(piece.split()))]


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
