"""What is signed here must verify there; the verifier itself is held by signatures that others made."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from automation_lab.core.exceptions import Invalid
from inbox.incoming import IncomingRequest
from inbox.replaying import signing_requests
from inbox.replaying.signing_requests import Signer, Unsigned
from inbox.verification.context import Context, Secret, with_query
from inbox.verification.judge import judge
from inbox.verification.results import Verification
from inbox.verification.schemes import SCHEMES

NOW = 1_700_000_000
URL = "https://lab.example/v1/webhooks/inbox/shop?a=1"
JSON = [("Content-Type", "application/json")]
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
BODY = b'{"event":"created","id":7}'
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ADYEN = json.dumps({"notificationItems": [{"NotificationRequestItem": {"pspReference": "1", "amount": {"value": 5}}}]})
ED25519 = Ed25519PrivateKey.generate()
ECDSA = ec.generate_private_key(ec.SECP256R1())
SECRETS = {"adyen": "44782DEF", "onfleet": "44782DEF", "standard_webhooks": WHSEC, "basic": "user:pass:word"}
BODIES = {"adyen": ADYEN.encode()}
BY_CERTIFICATE = {"paypal", "sns"}
BY_PRIVATE_KEY = {"discord", "sendgrid"}


def unsigned(body=BODY, *, headers=JSON, url=URL, message_id="msg_1"):
    return Unsigned(method="POST", url=url, headers=headers, body=body, message_id=message_id, now_seconds=NOW)


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def verdict(scheme, signed, *, secret, headers=JSON, options=None):
    query = [pair.split("=") for pair in signed.url.partition("?")[2].split("&") if pair]
    request = IncomingRequest(
        method="POST",
        path="/v1/webhooks/inbox/shop",
        query_params=query,
        headers=[list(pair) for pair in [*headers, *signed.headers.items()]],
        raw_body=signed.body,
    )
    now = datetime.fromtimestamp(NOW + 1, UTC)
    return judge(scheme, Context(request, (Secret("s", secret),), now, signed.url, options or {})).result


@pytest.mark.parametrize("scheme", sorted({*SCHEMES, "token", "basic", "hmac"} - BY_CERTIFICATE - BY_PRIVATE_KEY))
def test_what_is_signed_is_verified(scheme):
    secret = SECRETS.get(scheme, "provider-secret")
    headers = FORM if scheme == "mandrill" else JSON
    body = b"a=1&b=%C3%BC&a=2" if scheme == "mandrill" else BODIES.get(scheme, BODY)

    signed = signing_requests.sign(unsigned(body, headers=headers), Signer(secret), scheme=scheme, settings={})

    assert verdict(scheme, signed, secret=secret, headers=headers) == Verification.VERIFIED
    other = SECRETS.get(scheme, "provider-secreT").replace("4478", "4479").replace("user", "uses").replace("Sw", "Sx")
    assert verdict(scheme, signed, secret=other, headers=headers) != Verification.VERIFIED


@pytest.mark.parametrize(
    "options",
    [
        {"header": "X-Key", "prefix": "key-"},
        {"algorithm": "sha512", "encoding": "base64", "key_encoding": "base64", "prefix": "v1="},
        {"timestamp_header": "X-Time", "timestamp_unit": "milliseconds"},
        {"content": "{method}:{url}:{header:X-Id}:{body}", "header": "X-Sig", "separator": ","},
    ],
)
def test_the_settings_of_a_source_are_followed(options):
    scheme = "token" if len(options) == 2 and "prefix" in options else "hmac"
    secret = "c2VjcmV0LXNlY3JldA=="

    signed = signing_requests.sign(unsigned(), Signer(secret), scheme=scheme, settings=options)

    assert verdict(scheme, signed, secret=secret, options=options) == Verification.VERIFIED


@pytest.mark.parametrize("scheme", ["hubspot", "gitlab", "adyen", "standard_webhooks"])
def test_every_way_of_a_scheme_can_be_chosen(scheme):
    secret = WHSEC if scheme in ("gitlab", "standard_webhooks") else "44782DEF"
    for name in {check.name for check in SCHEMES[scheme]} - {"v1a"}:
        options = {"accept": [name]}

        signed = signing_requests.sign(
            unsigned(BODIES.get(scheme, BODY)), Signer(secret), scheme=scheme, settings=options
        )

        assert verdict(scheme, signed, secret=secret, options=options) == Verification.VERIFIED, name


@pytest.mark.parametrize("scheme", ["square", "twilio"])
@pytest.mark.parametrize("url", ["", URL])
def test_an_address_of_the_sources_own_is_completed_as_it_will_be_there(scheme, url):
    named = "https://shop.example/hook"
    request = replace(unsigned(url=url), named_url=named)

    signed = signing_requests.sign(request, Signer("secret"), scheme=scheme, settings={"url": named})

    called = replace(signed, url=with_query(named, signed.url.partition("?")[2]))
    assert verdict(scheme, called, secret="secret") == Verification.VERIFIED


def test_twilio_covers_a_form_and_any_other_body():
    for headers, body in ((FORM, b"To=%2B1&From=2&To=%2B1"), (JSON, BODY), (JSON, b"")):
        signed = signing_requests.sign(unsigned(body, headers=headers), Signer("t"), scheme="twilio", settings={})

        assert verdict("twilio", signed, secret="t", headers=headers) == Verification.VERIFIED
        assert ("bodySHA256" in signed.url) == (body == BODY)


@pytest.mark.parametrize(
    ("scheme", "key", "public"),
    [
        ("discord", ED25519, lambda raw: raw.hex()),
        ("standard_webhooks", ED25519, lambda raw: "whpk_" + base64.b64encode(raw).decode()),
    ],
)
def test_a_private_key_signs_for_the_schemes_that_take_a_public_one(scheme, key, public):
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    signed = signing_requests.sign(unsigned(), Signer(private_key=pem(key)), scheme=scheme, settings={})

    assert verdict(scheme, signed, secret=public(raw)) == Verification.VERIFIED


def test_a_private_key_signs_for_sendgrid():
    public = ECDSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    signed = signing_requests.sign(unsigned(), Signer(private_key=pem(ECDSA)), scheme="sendgrid", settings={})

    assert verdict("sendgrid", signed, secret=public) == Verification.VERIFIED


@pytest.mark.parametrize(
    ("scheme", "signer", "body", "words"),
    [
        ("none", Signer("s"), BODY, "signs nothing"),
        ("paypal", Signer("s"), BODY, "its certificate"),
        ("sns", Signer("s"), BODY, "its certificate"),
        ("discord", Signer("s"), BODY, "private key, which is not here"),
        ("discord", Signer(private_key=b"nonsense"), BODY, "not one in PEM"),
        ("discord", Signer(private_key=pem(ECDSA)), BODY, "a key for ed25519"),
        ("github", Signer(), BODY, "no secret"),
        ("onfleet", Signer("no hex"), BODY, "hexadecimal"),
        ("mailgun", Signer("s"), b"[]", "must be a JSON object"),
        ("linear", Signer("s"), b"not json", "must be a JSON object"),
        ("mandrill", Signer(), BODY, "no secret"),
    ],
)
def test_what_cannot_be_signed_is_said(scheme, signer, body, words):
    with pytest.raises(Invalid, match=words):
        signing_requests.sign(unsigned(body), signer, scheme=scheme, settings={})


def test_a_signature_names_the_id_it_was_given_or_the_one_that_is_there():
    given = [*JSON, ("Webhook-Id", "theirs")]

    own = signing_requests.sign(unsigned(), Signer(WHSEC), scheme="standard_webhooks", settings={})
    kept = signing_requests.sign(unsigned(headers=given), Signer(WHSEC), scheme="standard_webhooks", settings={})

    assert (own.headers["webhook-id"], kept.headers["webhook-id"]) == ("msg_1", "theirs")


def test_no_secret_is_in_the_text_of_a_signer():
    assert "very-secret" not in repr(Signer("very-secret", b"very-secret"))
