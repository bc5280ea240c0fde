"""What is known of the providers: where each puts the event type and its own id of a delivery. Data; one small reader.

A place is `header:NAME`, `body:dotted.path` (a number picks from a list), `form:FIELD` or `query:NAME`; places joined with
`+` are all needed and make one value. The first place of a rule that holds something wins. Some providers need two more:
`form_json:FIELD.dotted.path` reads JSON in a form, and `key:PART` is the first name in the body that holds PART.
Source: the providers' own documentation of their webhooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automation_lab.core.safe_json import parse_webhook_body

if TYPE_CHECKING:
    from inbox.incoming import IncomingRequest
    from inbox.models import Source

JSON = "application/json"

Places = tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """With `answer_status`, the provider wants just this status and would take our own answer for a fault or a reply."""

    event_type: Places = ()
    delivery_id: Places = ()
    answer_status: int = 0


PRESETS: dict[str, Preset] = {
    "none": Preset(),
    "token": Preset(),
    "basic": Preset(),
    "hmac": Preset(),
    "standard_webhooks": Preset(("body:type",), ("header:webhook-id", "header:svix-id")),
    "github": Preset(("header:X-GitHub-Event",), ("header:X-GitHub-Delivery",)),
    "gitlab": Preset(
        ("header:X-Gitlab-Event", "body:object_kind"),
        ("header:Idempotency-Key", "header:webhook-id", "header:X-Gitlab-Event-UUID"),
    ),
    "stripe": Preset(("body:type",), ("body:id",)),
    "slack": Preset(("body:event.type", "body:type", "form:command"), ("body:event_id",), 200),
    "shopify": Preset(("header:X-Shopify-Topic",), ("header:X-Shopify-Event-Id",)),
    # The sid alone names the message, of which every change of state is a delivery of its own.
    "twilio": Preset(
        ("form:MessageStatus", "form:CallStatus"),
        ("header:I-Twilio-Idempotency-Token", "form:MessageSid+form:MessageStatus", "form:CallSid+form:CallStatus"),
        204,
    ),
    "linear": Preset(("header:Linear-Event", "body:type"), ("header:Linear-Delivery",), 200),
    "paypal": Preset(("body:event_type",), ("body:id", "header:Paypal-Transmission-Id")),
    "sendgrid": Preset(("body:0.event",), ("body:0.sg_event_id",)),
    "square": Preset(("body:type",), ("body:event_id",)),
    # Its eventId is documented as not unique.
    "hubspot": Preset(("body:0.subscriptionType",)),
    "discord": Preset(("body:event.type", "body:type"), (), 204),
    "zoom": Preset(("body:event",)),
    "mailgun": Preset(("body:event-data.event",), ("body:signature.token", "form:token")),
    "adyen": Preset(
        ("body:notificationItems.0.NotificationRequestItem.eventCode",),
        (
            "body:notificationItems.0.NotificationRequestItem.eventCode"
            "+body:notificationItems.0.NotificationRequestItem.pspReference",
        ),
    ),
    "line": Preset(("body:events.0.type",), ("body:events.0.webhookEventId",)),
    "atlassian": Preset(("header:X-Event-Key", "body:webhookEvent"), ("header:X-Atlassian-Webhook-Identifier",)),
    "paddle": Preset(("body:event_type",), ("body:event_id",)),
    "meta": Preset(("body:entry.0.changes.0.field", "body:object"), (), 200),
    "x": Preset(("key:_event",)),
    "xero": Preset(("body:events.0.eventType",), (), 200),
    "sns": Preset(("header:X-Amz-Sns-Message-Type", "body:Type"), ("body:MessageId",)),
    "dropbox": Preset(),
    "mandrill": Preset(("form_json:mandrill_events.0.event",)),
    "customerio": Preset(("body:metric",), ("body:event_id",)),
    "onfleet": Preset(("body:triggerName",)),
    "calcom": Preset(("body:triggerEvent",)),
    "mautic": Preset(("key:mautic.",)),
}

WELL_KNOWN = Preset(
    event_type=(
        "header:X-GitHub-Event",
        "header:X-Gitlab-Event",
        "header:X-Gitea-Event",
        "header:X-Event-Key",
        "header:X-Shopify-Topic",
        "header:Linear-Event",
        "header:X-Amz-Sns-Message-Type",
        "header:Ce-Type",
        "body:type",
        "body:event_type",
        "body:event",
    ),
    delivery_id=(
        "header:X-GitHub-Delivery",
        "header:X-Gitea-Delivery",
        "header:webhook-id",
        "header:svix-id",
        "header:X-Shopify-Event-Id",
        "header:Linear-Delivery",
        "header:X-Atlassian-Webhook-Identifier",
        "header:I-Twilio-Idempotency-Token",
        "header:Idempotency-Key",
    ),
)


def find_event_type(request: IncomingRequest, source: Source) -> str:
    """What kind of event this is, or an empty string: the source's own rule, or `?event_type=`, preset, well-known places."""
    if source.event_type_from:
        return _first(source.event_type_from, request)
    asked = request.query("event_type").strip()
    return asked or _first(PRESETS[source.scheme].event_type + WELL_KNOWN.event_type, request)


def find_delivery_id(request: IncomingRequest, source: Source) -> str:
    """The sender's own id of this delivery, or an empty string: the source's own rule, or preset, well-known headers."""
    own = source.delivery_id_from
    return _first(own or PRESETS[source.scheme].delivery_id + WELL_KNOWN.delivery_id, request)


def find_at(place: str, request: IncomingRequest) -> str:
    """What stands at one place, or an empty string."""
    return _first([place], request)


def _first(places: Sequence[str], request: IncomingRequest) -> str:
    body = request.parsed.value
    found = ([_read(part, request, body) for part in place.split("+")] for place in places)
    return next((":".join(values) for values in found if all(values)), "")


def _read(place: str, request: IncomingRequest, body: Any) -> str:
    kind, _, name = place.partition(":")
    if kind == "header":
        return request.header(name).strip()
    if kind == "form":
        return request.form.get(name, "").strip()
    if kind == "query":
        return request.query(name).strip()
    if kind == "key":
        return next((key for key in body if name in key), "") if isinstance(body, dict) else ""
    path = name.split(".")
    if kind == "form_json":
        body = parse_webhook_body(request.form.get(path.pop(0), "").encode("utf-8", "surrogatepass"), JSON).value
    return _text(_walk(body, path))


def _walk(value: Any, path: list[str]) -> Any:
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _text(value: Any) -> str:
    """Only texts and whole numbers name something; a number too long to be written is none."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**40:
        return str(value)
    return ""
