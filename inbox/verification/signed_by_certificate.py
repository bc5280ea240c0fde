"""PayPal and SNS: signed with a certificate, whose address comes with the request."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from inbox.verification import certificates
from inbox.verification.context import Context
from inbox.verification.engine import Check, Refused, judge_age, matching, sent_header
from inbox.verification.keys import UnusableKey, from_base64, rsa_verifies
from inbox.verification.results import Verdict, Verification
from inbox.verification.signed_parts import DAY, decoded, needed_at, text_at


@dataclass(frozen=True)
class CertificateCheck(Check):
    tolerance_seconds: int = 300
    addresses: ClassVar[re.Pattern[str]]

    @property
    def judges_time(self) -> bool:
        return True

    def _public_key(self, url: str) -> RSAPublicKey:
        key = certificates.shared.public_key(url, self.addresses)
        if key is None:
            raise Refused(Verification.UNTRUSTED_CERTIFICATE)
        return key


def instant(text: str) -> float:
    """An RFC 3339 time with its offset, in seconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    raise Refused(Verification.MALFORMED_HEADER)


@dataclass(frozen=True)
class PayPalCheck(CertificateCheck):
    """RSA over ids, time, the id of the webhook (which is the secret here) and the checksum of the body.

    Source: PayPal, "Integrate webhooks", section "Verify the webhook signature". PayPal repeats for three days, perhaps
    under the time of the first attempt.
    """

    header: str = "Paypal-Transmission-Sig"
    tolerance_seconds: int = 3 * DAY
    addresses = re.compile(r"https://api(?:-m)?(?:\.sandbox)?\.paypal\.com/v1/notifications/certs/[A-Za-z0-9-]{1,100}")

    def _verify(self, context: Context) -> Verdict:
        keys = self._keys(context)
        transmission_id, sent_at = (sent_header(context, f"Paypal-Transmission-{name}") for name in ("Id", "Time"))
        signature = decoded(sent_header(context, self.header), from_base64)
        if sent_header(context, "Paypal-Auth-Algo").lower() != "sha256withrsa":
            raise Refused(Verification.UNSUPPORTED)
        signed_at = instant(sent_at)
        public_key = self._public_key(sent_header(context, "Paypal-Cert-Url"))
        start = f"{transmission_id}|{sent_at}|".encode("latin-1", "replace")
        end = f"|{zlib.crc32(context.request.raw_body)}".encode()
        found = matching(
            keys, lambda webhook_id: rsa_verifies(public_key, start + webhook_id + end, signature, hashes.SHA256())
        )
        return Verdict(judge_age(signed_at, context.now, context.tolerance(self.tolerance_seconds)), found)


@dataclass(frozen=True)
class SnsCheck(CertificateCheck):
    """RSA over fields of the body. The certificate is the same for all customers of AWS, hence topics must be named.

    Source: AWS, "Verifying the signatures of Amazon SNS messages". SNS repeats for an hour under the time of publishing.
    """

    tolerance_seconds: int = 2 * 3600
    addresses = re.compile(
        r"https://sns\.[a-z0-9-]{1,30}\.amazonaws\.com(?:\.cn)?/SimpleNotificationService-[0-9a-f]{1,64}\.pem"
    )
    algorithms: ClassVar[dict[str, type[hashes.HashAlgorithm]]] = {"1": hashes.SHA1, "2": hashes.SHA256}

    def check_secret(self, value: str) -> None:
        raise UnusableKey("SNS has no secret: name the topics in scheme_settings instead.")

    def _verify(self, context: Context) -> Verdict:
        topics = context.options.get("topics")
        if not topics:
            raise Refused(Verification.NO_SECRET)
        body = context.request.parsed.value
        signature = decoded(needed_at(body, "Signature"), from_base64)
        algorithm = self.algorithms.get(needed_at(body, "SignatureVersion"))
        if algorithm is None:
            raise Refused(Verification.UNSUPPORTED)
        signed_at = instant(needed_at(body, "Timestamp"))
        message = sns_message(body)
        public_key = self._public_key(needed_at(body, "SigningCertURL"))
        if not rsa_verifies(public_key, message, signature, algorithm()):
            raise Refused(Verification.MISMATCH)
        if body["TopicArn"] not in topics:
            raise Refused(Verification.UNKNOWN_SENDER)
        return Verdict(judge_age(signed_at, context.now, context.tolerance(self.tolerance_seconds)))


_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SNS_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_MAY_BE_EMPTY = ("Message", "Subject")


def sns_message(body: Any) -> bytes:
    """What SNS signs: names and values of these fields, each on its own line, an absent subject left out."""
    names = _SNS_FIELDS.get(needed_at(body, "Type"))
    if names is None:
        raise Refused(Verification.MISSING_FIELD)
    present = [name for name in names if name != "Subject" or isinstance(body.get(name), str)]
    values = {name: text_at(body, name) if name in _MAY_BE_EMPTY else needed_at(body, name) for name in present}
    return "".join(f"{name}\n{value}\n" for name, value in values.items()).encode("utf-8", "replace")
