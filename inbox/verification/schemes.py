"""How each provider signs, as data: the first question of every new scheme is whether `Scheme` can already say it.

Source: the providers' own documentation and libraries; the test vectors of each are in tests/test_schemes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inbox.verification.engine import Check, Scheme
from inbox.verification.signed_by_certificate import PayPalCheck, SnsCheck
from inbox.verification.signed_parts import DAY, AdyenCheck, FormCheck, MailgunCheck

SECONDS_BEFORE_BODY = "{timestamp}.{body}"


def _standard(name: str, header: str, **values: Any) -> Scheme:
    """Standard Webhooks, whose headers start with webhook- or svix-."""
    return Scheme(
        name=name,
        header=f"{header}-signature",
        content=f"{{header:{header}-id}}.{{timestamp}}.{{body}}",
        timestamp=f"header:{header}-timestamp",
        encoding="base64",
        separator=" ",
        **values,
    )


_V1 = {"prefix": "v1,", "key": "whsec"}
_V1A = {"prefix": "v1a,", "key": "whpk", "algorithm": "ed25519"}
_HUB_SIGNATURE = Scheme(header="X-Hub-Signature-256", prefix="sha256=")

SCHEMES: dict[str, tuple[Check, ...]] = {
    "standard_webhooks": (
        _standard("v1", "webhook", **_V1),
        _standard("v1", "svix", **_V1),
        _standard("v1a", "webhook", **_V1A),
        _standard("v1a", "svix", **_V1A),
    ),
    "github": (_HUB_SIGNATURE,),
    "gitlab": (
        Scheme(name="token", header="X-Gitlab-Token", algorithm="equal", encoding="text"),
        _standard("signature", "webhook", **_V1),
    ),
    "stripe": (
        Scheme(
            header="Stripe-Signature",
            content=SECONDS_BEFORE_BODY,
            separator=",",
            field="v1",
            timestamp="field:t",
        ),
    ),
    "slack": (
        Scheme(
            header="X-Slack-Signature",
            content="v0:{timestamp}:{body}",
            prefix="v0=",
            timestamp="header:X-Slack-Request-Timestamp",
        ),
    ),
    "shopify": (Scheme(header="X-Shopify-Hmac-Sha256", encoding="base64"),),
    "twilio": (FormCheck(header="X-Twilio-Signature", distinct_values=True),),
    "linear": (Scheme(header="Linear-Signature", timestamp="body:webhookTimestamp", unit="milliseconds"),),
    "paypal": (PayPalCheck(),),
    # Repeated for a day, perhaps under the time of the first attempt.
    "sendgrid": (
        Scheme(
            header="X-Twilio-Email-Event-Webhook-Signature",
            content="{timestamp}{body}",
            algorithm="ecdsa",
            key="ecdsa",
            encoding="base64",
            timestamp="header:X-Twilio-Email-Event-Webhook-Timestamp",
            tolerance_seconds=DAY,
        ),
    ),
    "square": (Scheme(header="X-Square-HmacSha256-Signature", content="{url}{body}", encoding="base64"),),
    # v1 and v2 are plain hashes without a time: who strips v3 could repeat an old request, and lengthen its body.
    "hubspot": (
        Scheme(
            name="v3",
            header="X-HubSpot-Signature-v3",
            content="{method}{url}{body}{timestamp}",
            encoding="base64",
            timestamp="header:X-HubSpot-Request-Timestamp",
            unit="milliseconds",
        ),
        Scheme(
            name="v2",
            header="X-HubSpot-Signature",
            content="{method}{url}{body}",
            algorithm="plain-sha256",
            only_when_named=True,
        ),
        Scheme(name="v1", header="X-HubSpot-Signature", algorithm="plain-sha256", only_when_named=True),
    ),
    "discord": (
        Scheme(
            header="X-Signature-Ed25519",
            content="{timestamp}{body}",
            algorithm="ed25519",
            key="ed25519-hex",
            timestamp="header:X-Signature-Timestamp",
        ),
    ),
    "zoom": (
        Scheme(
            header="X-Zm-Signature",
            content="v0:{timestamp}:{body}",
            prefix="v0=",
            timestamp="header:X-Zm-Request-Timestamp",
        ),
    ),
    "mailgun": (MailgunCheck(),),
    "adyen": (AdyenCheck(), Scheme(name="body", header="HmacSignature", key="hex", encoding="base64")),
    "line": (Scheme(header="X-Line-Signature", encoding="base64"),),
    "atlassian": (Scheme(header="X-Hub-Signature", prefix="sha256="),),
    "paddle": (
        Scheme(
            header="Paddle-Signature",
            content="{timestamp}:{body}",
            separator=";",
            field="h1",
            timestamp="field:ts",
        ),
    ),
    "meta": (_HUB_SIGNATURE,),
    "x": (Scheme(header="X-Twitter-Webhooks-Signature", prefix="sha256=", encoding="base64"),),
    "xero": (Scheme(header="X-Xero-Signature", encoding="base64"),),
    "sns": (SnsCheck(),),
    "dropbox": (Scheme(header="X-Dropbox-Signature"),),
    "mandrill": (FormCheck(header="X-Mandrill-Signature"),),
    "customerio": (
        Scheme(
            header="X-CIO-Signature",
            content="v0:{timestamp}:{body}",
            timestamp="header:X-CIO-Timestamp",
        ),
    ),
    "onfleet": (Scheme(header="X-Onfleet-Signature", algorithm="sha512", key="hex"),),
    "calcom": (Scheme(header="X-Cal-Signature-256"),),
    "mautic": (Scheme(header="Webhook-Signature", encoding="base64"),),
}


def checks_of(scheme: str, options: dict[str, Any]) -> tuple[Check, ...]:
    """The ways in which a source of this scheme and these settings may sign; none for `none`."""
    if scheme == "none":
        return ()
    if scheme in GENERIC:
        return (GENERIC[scheme](options),)
    accepted = options.get("accept")
    return tuple(
        check for check in SCHEMES[scheme] if (check.name in accepted if accepted else not check.only_when_named)
    )


def _token(options: dict[str, Any]) -> Scheme:
    header = options.get("header", "Authorization")
    prefix = options.get("prefix", "Bearer " if header.lower() == "authorization" else "")
    return Scheme(name="token", header=header, prefix=prefix, algorithm="equal", encoding="text")


def _basic(options: dict[str, Any]) -> Scheme:
    """The secret is `user:password`, compared as a whole: a password may hold a colon."""
    return Scheme(name="basic", header="Authorization", prefix="Basic ", algorithm="equal", encoding="base64")


def _hmac(options: dict[str, Any]) -> Scheme:
    timestamp_header = options.get("timestamp_header", "")
    return Scheme(
        header=options.get("header", "X-Signature"),
        content=options.get("content", SECONDS_BEFORE_BODY if timestamp_header else "{body}"),
        algorithm=options.get("algorithm", "sha256"),
        key=options.get("key_encoding", "utf-8"),
        encoding=options.get("encoding", "hex"),
        prefix=options.get("prefix", ""),
        separator=options.get("separator", ""),
        timestamp=f"header:{timestamp_header}" if timestamp_header else "",
        unit=options.get("timestamp_unit", "seconds"),
    )


GENERIC: dict[str, Callable[[dict[str, Any]], Scheme]] = {"token": _token, "basic": _basic, "hmac": _hmac}
