"""What the console says about webhooks and sources, in sentences: results of checks with advice, rules, limits. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from inbox.verification import explain
from inbox.verification.configuration import settings_schema
from inbox.verification.engine import Check, Scheme
from inbox.verification.results import Verification
from inbox.verification.schemes import checks_of
from inbox.verification.signed_parts import DAY

V = Verification

REASONS: dict[str, str] = {
    **{str(result): sentence for result, sentence in explain.REASONS.items()},
    V.VERIFIED: "The signature is right.",
    V.NOT_CONFIGURED: "Nobody checked who sent it: the source has no scheme.",
    V.UNSIGNED: "A question by which the provider makes sure of the address. It is not signed and starts nothing.",
    V.MISSING_HEADER: "A header that the scheme needs is missing.",
}
ADVICE: dict[str, str] = {
    V.NOT_CONFIGURED: "Choose a scheme and set its secret, or confirm that the source is open.",
    V.MISMATCH: "Compare the secret with the sender's, then verify again: that names the likely cause.",
    V.STALE: "A late repetition, or a clock that is wrong. Raise the tolerance only if the sender repeats old requests.",
    V.FUTURE: "Compare the clocks of the sender and of this machine.",
    V.MISSING_HEADER: "Set the secret at the sender, so that it signs, or choose the scheme that it uses.",
    V.MALFORMED_HEADER: "Choose the scheme that the sender uses; verify again to see which one it looks like.",
    V.MISSING_FIELD: "Choose the scheme that the sender uses, or switch its signatures on.",
    V.NO_SECRET: "Set the secret of the source, then verify again.",
    V.NO_PUBLIC_URL: "Set PUBLIC_URL, or the address in the settings of the scheme, then verify again.",
    V.UNKNOWN_SENDER: "Name the account or topic in the settings of the scheme, if it is yours.",
    V.UNTRUSTED_CERTIFICATE: "Most likely a forgery. Nothing to do.",
    V.ADDRESS_NOT_ALLOWED: "Add the address to the source's allowed addresses, if it is the sender's.",
    V.UNSUPPORTED: "Switch the sender to the algorithm that the scheme names.",
}


def label_of(verification: str) -> str:
    """The result as a label, such as "signature does not match"."""
    return str(Verification(verification).label).lower() if verification in Verification.values else verification


def reason_of(verification: str) -> str:
    return REASONS.get(verification, "")


def advice_of(verification: str) -> str:
    return ADVICE.get(verification, "")


# --- schemes ----------------------------------------------------------------------------------------------------------

NAMES = {
    "none": "No check",
    "token": "Token in a header",
    "basic": "User and password",
    "hmac": "HMAC, described by hand",
    "standard_webhooks": "Standard Webhooks (Svix)",
    "github": "GitHub",
    "gitlab": "GitLab",
    "sendgrid": "SendGrid",
    "hubspot": "HubSpot",
    "paypal": "PayPal",
    "line": "LINE",
    "atlassian": "Jira and Bitbucket",
    "x": "X (Twitter)",
    "sns": "Amazon SNS",
    "customerio": "Customer.io",
    "calcom": "Cal.com",
}
KEYS = {
    "utf-8": "any text",
    "hex": "hexadecimal digits",
    "base64": "base64",
    "whsec": "whsec_ and base64",
    "whpk": "a public key for v1a, whpk_ and base64",
    "ed25519-hex": "hexadecimal digits",
    "ecdsa": "base64 or PEM",
}
ALGORITHMS = {"ed25519": "Ed25519 signature", "ecdsa": "ECDSA signature", "plain-sha256": "SHA256"}
TODO = {
    "none": "Nothing. Anybody who knows the address may send.",
    "token": "Give the sender the address above; it puts the secret into the header.",
    "basic": "Give the sender the address above, the user and the password; the secret is user:password.",
    "sns": "Subscribe the address above as HTTPS, then confirm the subscription on the page of its webhook.",
    "meta": "Give Meta the address above and the same verify token as here. The secret is the app secret.",
}
GIVEN = {
    "stripe": "the signing secret of the endpoint",
    "slack": "the signing secret of the app",
    "shopify": "the client secret of the app",
    "twilio": "the auth token of the account",
    "linear": "the signing secret of the webhook",
    "paypal": "the id of the webhook",
    "sendgrid": "the verification key of the signed event webhook",
    "square": "the signature key of the subscription",
    "hubspot": "the client secret of the app",
    "discord": "the public key of the application",
    "zoom": "the secret token of the app",
    "mailgun": "the HTTP webhook signing key",
    "adyen": "the HMAC key of the webhook",
    "line": "the channel secret",
    "paddle": "the secret key of the destination",
    "x": "the consumer secret of the app",
    "xero": "the webhook key of the app",
    "dropbox": "the app secret",
    "mandrill": "the key of the webhook",
    "customerio": "the signing key of the webhook",
    "onfleet": "the webhook secret of the organisation",
}
"""What the provider gives out to be set as the secret here."""


def sender_sentence(scheme: str) -> str:
    """What has to be done at the sender."""
    if scheme in GIVEN:
        return f"Give {scheme_name(scheme)} the address above, and set here as the secret {GIVEN[scheme]}."
    return TODO.get(scheme, "Give the sender the address above and the same secret as here.")


def scheme_name(scheme: str) -> str:
    return NAMES.get(scheme, scheme.replace("_", " ").title())


def scheme_lines(scheme: str, options: dict[str, Any]) -> list[str]:
    """What the sender has to be told, and how a request of this scheme is checked."""
    checks = checks_of(scheme, options)
    sentences = [sender_sentence(scheme)]
    keys = dict.fromkeys(KEYS[check.key] for check in checks if check.key in KEYS and isinstance(check, Scheme))
    if keys and [*keys] != ["any text"]:
        sentences.append(f"The secret is written as {', or '.join(keys)}.")
    sentences += [("" if number == 0 else "Or ") + _check_sentence(check) for number, check in enumerate(checks)]
    if any(check.judges_time for check in checks):
        tolerance = options.get("tolerance_seconds") or max(getattr(check, "tolerance_seconds", 0) for check in checks)
        sentences.append(f"The signed time may be off by {span(tolerance)}, in both directions.")
    if any(check.signs_url for check in checks):
        exactly = options.get("url") or "the one above"
        sentences.append(f"The address is signed, too: give the sender exactly {exactly}.")
    return sentences


def _check_sentence(check: Check) -> str:
    if not isinstance(check, Scheme):
        return "Checked by the provider's own rules."
    if check.algorithm == "equal":
        return f"{check.header}: {check.prefix}the secret itself{' in base64' if check.encoding == 'base64' else ''}."
    before = f"{check.field}=" if check.field else check.prefix
    algorithm = ALGORITHMS.get(check.algorithm, f"HMAC-{check.algorithm.upper()}")
    return f"{check.header}: {before}{algorithm} of {_content(check)} in {check.encoding}."


def _content(check: Scheme) -> str:
    """`webhook-id.timestamp.body`, `url + body`, or "the body"."""
    if check.content == "{body}":
        return "the body"
    texts = [part.removeprefix("header:") for part in check.parts]
    between = [text or " + " for text in texts[2:-1:2]]
    return texts[0] + "".join(name + text for name, text in zip(texts[1::2], [*between, texts[-1]], strict=True))


# --- rules ------------------------------------------------------------------------------------------------------------


def dedupe_sentence(rule: dict[str, Any]) -> str:
    by = rule.get("by")
    if by == "delivery_id":
        return "A delivery id that came before makes a repetition: kept, linked, answered 200, starting nothing."
    if by == "json_path":
        return f"The same value at {rule.get('path')} makes a repetition: kept and linked, starting nothing."
    if by == "body_hash":
        return f"The same body within {span(rule.get('window_seconds', 0))} makes a repetition, starting nothing."
    return "Every webhook counts as new, repeated or not."


def retention_sentence(rule: dict[str, Any], default_days: int | None) -> str:
    parts = []
    if days := rule.get("days") or default_days:
        parts.append(f"for {_plural(days, 'day')}")
    if count := rule.get("count"):
        parts.append(f"the newest {count:,}")
    if size := rule.get("bytes"):
        parts.append(f"up to {size:,} bytes of bodies")
    kept = f"Webhooks are kept {', '.join(parts)}." if parts else "Webhooks are kept until they are deleted."
    early = f" Bodies go after {_plural(rule['payload_days'], 'day')}." if rule.get("payload_days") else ""
    return kept + early


def span(seconds: int) -> str:
    """`5 minutes`, `1 day`, `90 seconds`."""
    for length, unit in ((DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length and seconds % length == 0:
            return _plural(seconds // length, unit)
    return _plural(seconds, "second")


def ago(past: timedelta) -> str:
    """`today`, `12 days ago`."""
    return f"{_plural(past.days, 'day')} ago" if past.days > 0 else "today"


def _plural(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"


def setting_names(scheme: str) -> list[str]:
    """The settings that this scheme has."""
    return list(settings_schema(scheme)["properties"])
