"""Every provider: the right signature is accepted, and each way of being wrong gives its own result."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from inbox.incoming import IncomingRequest
from inbox.models import Source
from inbox.presets import PRESETS
from inbox.receiving.handshakes import find_handshake
from inbox.tests.signed_requests import (
    BODY_HEX,
    SIGNED,
    STANDARD_BODY,
    STANDARD_V1,
    TWILIO_BODY,
    TWILIO_JSON_HASH,
    TWILIO_URL,
    WHSEC,
    Signed,
)
from inbox.verification import Verdict, Verification
from inbox.verification.context import Context, Secret, public_url
from inbox.verification.explain import explain
from inbox.verification.judge import judge
from inbox.verification.schemes import GENERIC, SCHEMES

TIMED = [signed for signed in SIGNED if signed.tolerance]
WITH_TIME_HEADER = [signed for signed in SIGNED if signed.timestamp]
IN_A_HEADER = [signed for signed in SIGNED if signed.signature]
CODED = [signed for signed in IN_A_HEADER if not signed.is_plain]
BY_NAME = {signed.name: signed for signed in SIGNED}


@pytest.fixture(autouse=True)
def _own_address(settings):
    settings.PUBLIC_URL = "https://lab.example"


def verdict(signed: Signed, request: IncomingRequest | None = None, *, secrets=None, now=None, options=None):
    options = signed.options if options is None else options
    request = request or signed.request()
    context = Context(
        request=request,
        secrets=tuple(Secret(f"s{number}", value) for number, value in enumerate(secrets or [signed.secret])),
        now=now or signed.now,
        url=public_url(request, options),
        options=options,
    )
    return judge(signed.scheme, context)


def result(*args, **kwargs) -> str:
    return verdict(*args, **kwargs).result.value


def changed_at(text: str, index: int) -> str:
    """`text` with another character of the same kind at `index`."""
    replacement = "b" if text[index] != "b" else "c"
    return f"{text[:index]}{replacement}{text[index + 1 :]}"


SIGNED_VALUES = {"mailgun": b"token-1", "adyen": b"TestPayment", "linear": b"Issue"}


def other_body(signed: Signed) -> bytes:
    """The body with one character of a signed value changed."""
    value = SIGNED_VALUES.get(signed.scheme, b"e")
    found = signed.body.rindex(value if value in signed.body else b"e")
    return signed.body[:found] + bytes([signed.body[found] ^ 1]) + signed.body[found + 1 :]


def test_every_scheme_has_a_preset_and_a_signed_request():
    assert {"none", *GENERIC, *SCHEMES} == set(PRESETS)
    assert {signed.scheme for signed in SIGNED} == set(PRESETS) - {"none", "paypal", "sns"}


@pytest.mark.parametrize("signed", SIGNED, ids=str)
def test_a_right_signature_is_accepted_and_its_secret_named(signed):
    found = verdict(signed, secrets=[signed.other_secret, signed.secret])

    assert (found.result, found.secret_id) == ("verified", "s1")


@pytest.mark.parametrize("signed", [each for each in SIGNED if not each.is_plain], ids=str)
def test_another_body_does_not_match(signed):
    assert result(signed, signed.request(body=other_body(signed))) == "mismatch"


@pytest.mark.parametrize("signed", SIGNED, ids=str)
def test_another_secret_does_not_match(signed):
    assert result(signed, secrets=[signed.other_secret]) == "mismatch"


@pytest.mark.parametrize("signed", IN_A_HEADER, ids=str)
def test_every_character_of_the_signature_counts(signed):
    value = signed.headers[signed.signature]
    payload = value.rstrip("=")
    start = max(payload.rfind(mark) for mark in "=,: ") + 1

    for index in range(start, len(payload)):
        request = signed.request(**{signed.signature.replace("-", "_"): changed_at(value, index)})
        assert result(signed, request) in ("mismatch", "malformed_header"), index


@pytest.mark.parametrize("signed", TIMED, ids=str)
def test_the_time_counts_in_both_directions(signed):
    edge, beyond = timedelta(seconds=signed.tolerance), timedelta(seconds=signed.tolerance + 1)

    assert result(signed, now=signed.now + edge) == "verified"
    assert result(signed, now=signed.now - edge) == "verified"
    assert result(signed, now=signed.now + beyond) == "stale"
    assert result(signed, now=signed.now - beyond) == "future"


@pytest.mark.parametrize("signed", TIMED, ids=str)
def test_the_source_sets_its_own_tolerance(signed):
    later = signed.now + timedelta(seconds=10)

    assert result(signed, now=later, options={**signed.options, "tolerance_seconds": 9}) == "stale"
    assert result(signed, now=later, options={**signed.options, "tolerance_seconds": 10}) == "verified"


def test_a_tolerance_may_be_written_with_a_point():
    signed = BY_NAME["slack (official)"]

    assert result(signed, now=signed.now + timedelta(seconds=31), options={"tolerance_seconds": 30.0}) == "stale"


@pytest.mark.parametrize("signed", WITH_TIME_HEADER, ids=str)
def test_the_time_is_signed(signed):
    moved = str(int(signed.headers[signed.timestamp]) + 1)

    assert result(signed, signed.request(**{signed.timestamp.replace("-", "_"): moved})) == "mismatch"


@pytest.mark.parametrize(
    "text", ["nan", "inf", "1e400", "9" * 5000, "-1", "+1", "1.5", "0x1", "١٢٣", "hello", "1 2", "²"]
)
@pytest.mark.parametrize("signed", WITH_TIME_HEADER, ids=str)
def test_a_time_that_is_no_whole_number_is_malformed(signed, text):
    assert result(signed, signed.request(**{signed.timestamp.replace("-", "_"): text})) == "malformed_header"


@pytest.mark.parametrize("signed", IN_A_HEADER, ids=str)
def test_a_missing_or_empty_signature_says_so(signed):
    assert result(signed, signed.request(without=signed.signature)) == "missing_header"
    assert result(signed, signed.request(**{signed.signature.replace("-", "_"): " "})) == "missing_header"


@pytest.mark.parametrize("signed", WITH_TIME_HEADER, ids=str)
def test_a_missing_time_says_so(signed):
    assert result(signed, signed.request(without=signed.timestamp)) == "missing_header"


@pytest.mark.parametrize("text", ["garbage!", "ü€", "\u00e9" * 64, "v1,", "v1,a,b", "=", ",;= ", "\x7f"])
@pytest.mark.parametrize("signed", CODED, ids=str)
def test_a_signature_that_is_none_is_malformed(signed, text):
    assert result(signed, signed.request(**{signed.signature.replace("-", "_"): text})) == "malformed_header"


@pytest.mark.parametrize(
    "text", ["sha1", "111", "sha256=" + "a" * 40, "YmxhaGJsYWgK", "XXXXXaGVsbG8=", "wronghash", "00"]
)
@pytest.mark.parametrize("signed", CODED, ids=str)
def test_something_else_instead_of_a_signature_is_refused(signed, text):
    request = signed.request(**{signed.signature.replace("-", "_"): text})

    assert result(signed, request) in ("malformed_header", "mismatch")


@pytest.mark.parametrize("name", ["gitlab token", "token in its own header"])
@pytest.mark.parametrize("text", ["provider", "provider-secret2", "ü€", "provider-secret,provider-secret"])
def test_another_token_does_not_match(name, text):
    signed = BY_NAME[name]

    assert result(signed, signed.request(**{signed.signature.replace("-", "_"): text})) == "mismatch"


@pytest.mark.parametrize("text", ["Bearer provider-secret", "Basic", "Basic ü", "Basic c2hvcA", "Basic c2hvcA="])
def test_authorization_of_another_kind_is_malformed(text):
    assert result(BY_NAME["basic"], BY_NAME["basic"].request(Authorization=text)) == "malformed_header"


@pytest.mark.parametrize("signed", [each for each in SIGNED if each.in_body], ids=str)
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"signature": [], "notificationItems": [1]}', b"\xff"])
def test_a_body_without_the_signed_fields_says_so(signed, body):
    assert result(signed, signed.request(body=body)) == "missing_field"


def test_no_usable_secret_says_so():
    for signed in SIGNED:
        context = Context(request=signed.request(), secrets=(), now=signed.now, options=signed.options)
        assert judge(signed.scheme, context).result == "no_secret", signed.name


@pytest.mark.parametrize(
    "signed", [each for each in SIGNED if each.name in ("square", "hubspot v3", "mandrill")], ids=str
)
def test_without_an_own_address_signed_addresses_cannot_be_checked(signed, settings):
    settings.PUBLIC_URL = ""

    assert result(signed, signed.request(Host="lab.example")) == "no_public_url"


@pytest.mark.parametrize(
    "signed", [each for each in SIGNED if each.name in ("square", "hubspot v3", "mandrill")], ids=str
)
def test_the_address_counts(signed):
    assert result(signed, signed.request(url=signed.url + "&b=2")) == "mismatch"


# --- single providers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=", "mismatch"),
        ("v1,", "malformed_header"),
        (STANDARD_V1[:8], "malformed_header"),
        ("v1,dawfeoifkpqwoekfpqoekf", "malformed_header"),
        (f"garbage {STANDARD_V1}", "verified"),
        (f"  {STANDARD_V1}  v1,abc", "verified"),
        (" ".join([STANDARD_V1.replace("g0", "h0")] * 9 + [STANDARD_V1]), "verified"),
        (" ".join([STANDARD_V1] * 1000), "malformed_header"),
        (
            "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= "
            f"{STANDARD_V1} v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
            "verified",
        ),
        (STANDARD_V1.replace("v1,", "v2,"), "malformed_header"),
    ],
)
def test_standard_webhooks_sends_several_signatures(header, expected):
    signed = BY_NAME["standard_webhooks v1 (official)"]

    assert result(signed, signed.request(Webhook_Signature=header)) == expected


@pytest.mark.parametrize("value", [WHSEC.removeprefix("whsec_"), f" {WHSEC}\n"])
def test_a_standard_secret_may_be_written_in_several_ways(value):
    assert result(BY_NAME["standard_webhooks v1 (official)"], secrets=[value]) == "verified"


@pytest.mark.parametrize("name", ["standard_webhooks v1 (official)", "svix (official)"])
def test_the_id_of_a_standard_webhook_is_signed(name):
    signed = BY_NAME[name]
    header = "Webhook_Id" if "v1" in name else "Svix_Id"

    assert result(signed, signed.request(**{header: "msg_other"})) == "mismatch"
    assert result(signed, signed.request(without=header.replace("_", "-"))) == "missing_header"
    assert result(signed, signed.request(body=STANDARD_BODY + b" ")) == "mismatch"


def test_a_list_of_signatures_may_have_spaces_after_its_separators():
    signed = BY_NAME["hmac"]
    request = signed.request(X_Signature=f"sha256={'00' * 32}, sha256={BODY_HEX}")

    assert result(signed, request, options={"separator": ",", "prefix": "sha256="}) == "verified"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bad_header", "malformed_header"),
        ("i'm not even a real signature header", "malformed_header"),
        ("t=12345,v0=07b1ede164afb7b5de91267ffa656f568c65d6e0783ce0ac55ee094643578eda", "malformed_header"),
        ("v1=bad_signature", "malformed_header"),
        ("v1=07b1ede164afb7b5de91267ffa656f568c65d6e0783ce0ac55ee094643578eda", "malformed_header"),
        ("t=12345,v1=07b1ede164afb7b5de91267ffa656f568c65d6e0783ce0ac55ee094643578eda,v1=bad_signature", "verified"),
        ("t=+12345,v1=07b1ede164afb7b5de91267ffa656f568c65d6e0783ce0ac55ee094643578eda", "malformed_header"),
        ("t=12345,t=99999,v1=07b1ede164afb7b5de91267ffa656f568c65d6e0783ce0ac55ee094643578eda", "malformed_header"),
    ],
)
def test_stripe_sends_pairs(header, expected):
    signed = BY_NAME["stripe (its library's constants)"]

    assert result(signed, signed.request(Stripe_Signature=header)) == expected


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        ("https://mycompany.com:443/myapp.php?foo=1&bar=2", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (TWILIO_URL, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("http://mycompany.com/myapp.php?foo=1&bar=2", "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        ("http://mycompany.com:1234/myapp.php?foo=1&bar=2", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
    ],
)
def test_twilio_signs_the_address_with_or_without_its_port(url, signature):
    signed = BY_NAME["twilio (official)"]
    request = signed.request(X_Twilio_Signature=signature)

    assert result(signed, request, options={"url": url}) == "verified"


def test_twilio_signs_json_through_its_hash_in_the_address():
    signed = BY_NAME["twilio (official)"]
    url = f"{TWILIO_URL}&bodySHA256={TWILIO_JSON_HASH}"
    body = b'{"property": "value", "boolean": true}'
    headers = {"X_Twilio_Signature": "a9nBmqA0ju/hNViExpshrM61xv4=", "Content_Type": "application/json"}

    assert result(signed, signed.request(url=url, body=body, **headers), options={"url": url}) == "verified"
    assert result(signed, signed.request(url=url, body=body + b" ", **headers), options={"url": url}) == "mismatch"
    assert result(signed, signed.request(url=TWILIO_URL, body=body, **headers), options={"url": url}) == "mismatch"


def test_twilio_adds_the_hash_to_an_address_that_is_configured_without_a_query():
    signed = BY_NAME["twilio (official)"]
    called = f"https://shop.example/hook?bodySHA256={TWILIO_JSON_HASH}"
    # printf %s "$called" | openssl dgst -sha1 -hmac 12345 -binary | base64
    headers = {"X_Twilio_Signature": "v+vUyux2OqK+0jTxxF6ZqcgJtqE=", "Content_Type": "application/json"}
    request = signed.request(url=called, body=b'{"property": "value", "boolean": true}', **headers)

    assert result(signed, request, options={"url": "https://shop.example/hook"}) == "verified"


def test_twilio_takes_repeated_fields_once():
    signed = BY_NAME["twilio (official)"]

    assert result(signed, signed.request(body=TWILIO_BODY + b"&Digits=1234")) == "verified"
    assert result(signed, signed.request(body=TWILIO_BODY + b"&Digits=1235")) == "mismatch"


def test_all_items_of_adyen_have_to_be_right():
    signed = BY_NAME["adyen (its library's vector)"]
    item = signed.body.removeprefix(b'{"notificationItems": [').removesuffix(b"]}")
    several = b'{"notificationItems": [%b, %b]}'

    assert result(signed, signed.request(body=several % (item, item))) == "verified"
    assert result(signed, signed.request(body=several % (item, item.replace(b"1130", b"1")))) == "mismatch"


def test_hubspot_without_time_is_accepted_only_when_named():
    for name in ("hubspot v1", "hubspot v2"):
        assert result(BY_NAME[name], options={}) == "missing_header"


def test_only_the_named_ways_of_signing_are_accepted():
    token = BY_NAME["gitlab token"]

    assert result(token, secrets=[token.secret, WHSEC], options={"accept": ["signature"]}) == "missing_header"
    assert result(token, secrets=[token.secret, WHSEC], options={"accept": ["token"]}) == "verified"


def test_a_linear_webhook_without_its_time_says_so():
    signed = BY_NAME["linear"]

    assert result(signed, signed.request(body=b'{"type": "Issue"}')) == "missing_field"
    for moment in (b"null", b'"1700000000000"', b"true", b"1e400", b"-5", b"9" * 40):
        found = result(signed, signed.request(body=b'{"webhookTimestamp": %b}' % moment))
        assert found in ("malformed_header", "missing_field"), moment


# --- nothing raises ---------------------------------------------------------------------------------------------------

PAYPAL_HEADERS = [
    f"Paypal-{name}" for name in ("Transmission-Id", "Transmission-Time", "Transmission-Sig", "Auth-Algo")
]
TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
SIGNATURE_LIKE = st.one_of(
    TEXTS,
    st.sampled_from([value for signed in SIGNED for value in signed.headers.values()]),
    st.lists(
        st.sampled_from(["v1,", "v1a,", "t=", "ts=", "h1=", "sha256=", "v0=", "=", ",", ";", " ", "A", "f0", "é"])
    ).map("".join),
)
QUESTIONS = [
    b'{"type": %b, "challenge": %b, "event": %b, "events": []}' % (kind, value, event)
    for kind in (b'"url_verification"', b"1", b"0")
    for value in (b"7", b'"a"', b"[]")
    for event in (b'"endpoint.url_validation"', b"{}")
]
BODIES = st.one_of(st.binary(max_size=200), st.sampled_from([signed.body for signed in SIGNED] + QUESTIONS))
NAMES = sorted({name for signed in SIGNED for name in signed.headers} | set(PAYPAL_HEADERS))


@hypothesis_settings(deadline=None)  # a busy machine is no fault of the code
@given(
    scheme=st.sampled_from(sorted(SCHEMES) + sorted(GENERIC)),
    headers=st.dictionaries(st.sampled_from(NAMES), SIGNATURE_LIKE),
    body=BODIES,
    secret=st.one_of(TEXTS, st.sampled_from([signed.secret for signed in SIGNED])),
    path=TEXTS,
    query=TEXTS,
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"]),
)
def test_no_request_raises(scheme, headers, body, secret, path, query, method):
    request = IncomingRequest(
        method="POST", path=path, query_string=query, headers=[list(pair) for pair in headers.items()], raw_body=body
    )
    options = {"url": "https://lab.example/x", "topics": ["arn:aws:sns:eu-west-1:123456789012:orders"]}
    context = Context(
        request=request, secrets=(Secret("s", secret),), now=SIGNED[0].now, url="https://lab.example/x", options=options
    )

    found = judge(scheme, context)

    assert found.result in Verification
    assert all(
        isinstance(sentence, str) for sentence in explain(scheme, found, context, context.secrets, now=context.now)
    )
    for result in (found.result, Verification.VERIFIED):
        source = Source(name="shop", scheme=scheme)
        handshake = find_handshake(source, replace(request, method=method), Verdict(result))
        assert handshake is None or handshake.response().status_code < 500
