"""One correctly signed request of every provider, with the signature as others made it.

`official` ones are published by the provider or in its library's tests; the others were made with `openssl dgst` (the
asymmetric ones with `cryptography`), never with the code under test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from inbox.incoming import IncomingRequest

SECRET = "provider-secret"
OTHER_SECRET = "provider-secreT"
BODY = b'{"event": "created", "id": 7}'
BODY_HEX = "1b18ba7485636cdc26323ccc1b033d3e9af7ad43d319f7184265098c4e909e4d"
BODY_BASE64 = "Gxi6dIVjbNwmMjzMGwM9Ppr3rUPTGfcYQmUJjE6Qnk0="
T = 1_700_000_000
T_MS = f"{T}000"
URL = "https://lab.example/v1/webhooks/inbox/shop?a=1"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"
STANDARD_T = 1_614_265_330
STANDARD_BODY = b'{"test": 2432232314}'
STANDARD_V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
ADYEN_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
ADYEN_ITEM = {
    "pspReference": "7914073381342284",
    "merchantAccountCode": "TestMerchant",
    "merchantReference": "TestPayment-1407325143704",
    "amount": {"value": 1130, "currency": "EUR"},
    "eventCode": "AUTHORISATION",
    "success": "true",
    "additionalData": {"hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="},
}
ED25519_KEY = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
OTHER_ED25519_KEY = "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664"
ECDSA_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELCWJuUY7H9Cg+2oOoHukdh+Pxm7BfKtDrbEW7foSKS3m1POKbVFA2y/qH31TXNxXmdsgyXsyVXQ7"
    "X9S/zBTh+A=="
)
OTHER_ECDSA_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEV4YJRsgiXdLTq8pUohlggorv1dVdXcDk9U104by8YDGYPMm54aWX8FPGuIBeh7CLFlYqPbwycrUs"
    "0RuaeJa8Qw=="
)


@dataclass(frozen=True)
class Signed:
    """`signature` and `timestamp` name the headers that carry them, if they are headers. `url` is the address called."""

    name: str
    scheme: str
    secret: str
    headers: dict[str, str]
    body: bytes = BODY
    other_secret: str = OTHER_SECRET
    signature: str = ""
    timestamp: str = ""
    signed_at: int = T
    tolerance: int = 0
    url: str = URL
    options: dict[str, Any] = field(default_factory=dict)
    in_body: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def is_plain(self) -> bool:
        """What is sent is the secret itself, which says nothing about the body."""
        return self.secret in " ".join(self.headers.values()) or self.scheme == "basic"

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.signed_at, UTC)

    def request(
        self, *, body: bytes | None = None, url: str = "", without: str = "", **changed: str
    ) -> IncomingRequest:
        """The request, or one that differs in what is given; `changed` headers are written with `_` for `-`."""
        headers = {"Content-Type": "application/json", **self.headers}
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        path, _, query = (url or self.url).removeprefix("https://lab.example").partition("?")
        return IncomingRequest(
            method="POST",
            path=path,
            query_string=query,
            query_params=[list(pair) for pair in parse_qsl(query)],
            headers=[[name, value] for name, value in headers.items() if name != without],
            raw_body=self.body if body is None else body,
        )


def header(field_name: str, scheme: str, signature: str, *, at: str = "", **values: Any) -> Signed:
    """Signed in one header, with the time in the header `at`, if any."""
    headers = {field_name: signature, **values.pop("headers", {})}
    if at:
        values = {"timestamp": at, "tolerance": 300, **values}
        headers.setdefault(at, str(values.get("signed_at", T)))
    values.setdefault("secret", SECRET)
    values.setdefault("name", scheme)
    return Signed(scheme=scheme, headers=headers, signature=field_name, **values)


SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d"
    b"10d2c447fce8b6703c"
)
STRIPE_BODY = (
    b'{\n  "id": "evt_test_webhook",\n  "object": "event",\n'
    b'  "data": { "object": { "id": "rdr_123", "object": "terminal.reader" } }\n}'
)
TWILIO_BODY = b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309"
TWILIO_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
TWILIO_JSON_HASH = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
EVERYBODY = {"secret": "It's a Secret to Everybody", "other_secret": "It's a secret to Everybody"}
STANDARD = {"secret": WHSEC, "other_secret": OTHER_WHSEC, "signed_at": STANDARD_T, "body": STANDARD_BODY}
STANDARD_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"

SIGNED = [
    header(
        "X-Hub-Signature-256",
        "github",
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        name="github (official)",
        body=b"Hello, World!",
        **EVERYBODY,
    ),
    header(
        "X-Hub-Signature",
        "atlassian",
        "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
        name="atlassian (official)",
        body=b"Hello World!",
        **EVERYBODY,
    ),
    header(
        "Webhook-Signature",
        "standard_webhooks",
        STANDARD_V1,
        name="standard_webhooks v1 (official)",
        at="Webhook-Timestamp",
        headers={"Webhook-Id": STANDARD_ID},
        **STANDARD,
    ),
    header(
        "Svix-Signature",
        "standard_webhooks",
        STANDARD_V1,
        name="svix (official)",
        at="Svix-Timestamp",
        headers={"Svix-Id": STANDARD_ID},
        **STANDARD,
    ),
    header(
        "Webhook-Signature",
        "standard_webhooks",
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        name="standard_webhooks v1a (official)",
        at="Webhook-Timestamp",
        headers={"Webhook-Id": STANDARD_ID},
        **{
            **STANDARD,
            "secret": "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
            "other_secret": "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
        },
    ),
    header(
        "X-Slack-Signature",
        "slack",
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        name="slack (official)",
        at="X-Slack-Request-Timestamp",
        signed_at=1_531_420_618,
        body=SLACK_BODY,
        secret="8f742231b10e8888abcd99yyyzzz85a5",
        headers=FORM,
    ),
    header(
        "Stripe-Signature",
        "stripe",
        "t=12345,v1=07b1ede164afb7b5de91267ffa656f568c65d6e0783ce0ac55ee094643578eda",
        name="stripe (its library's constants)",
        signed_at=12_345,
        tolerance=300,
        body=STRIPE_BODY,
        secret="whsec_test_secret",
    ),
    header(
        "X-Twilio-Signature",
        "twilio",
        "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        name="twilio (official)",
        headers=FORM,
        body=TWILIO_BODY,
        secret="12345",
        url=TWILIO_URL,
        options={"url": TWILIO_URL},
    ),
    header(
        "X-Shopify-Hmac-Sha256",
        "shopify",
        "hMTq0K2x7oyOjoBwGYeTj5oxfnaVYXzbanUG9aajpKI=",
        name="shopify (go-shopify)",
        body=b'"my secret message"',
        secret="hush",
    ),
    header("X-Gitlab-Token", "gitlab", SECRET, name="gitlab token"),
    header(
        "Webhook-Signature",
        "gitlab",
        "v1,B3uU2JlN1hsUllgkTUBuIy6QFeXbnmF90FHYLJGO7OU=",
        name="gitlab signature",
        at="Webhook-Timestamp",
        headers={"Webhook-Id": "gl-1"},
        secret=WHSEC,
        other_secret=OTHER_WHSEC,
    ),
    header(
        "Linear-Signature",
        "linear",
        "b2ddb9f0558b5c41a16b022785dd44fbeeec093edc067f29d1cb6144921146eb",
        body=b'{"type": "Issue", "webhookTimestamp": 1700000000000}',
        tolerance=300,
    ),
    header("X-Square-HmacSha256-Signature", "square", "kOBfYfUjeVLrH6ksU903QsxKGr/AUmgKyCQhZqBMkhA="),
    header(
        "X-HubSpot-Signature-v3",
        "hubspot",
        "DYmzQ6aIby+F2FXGoiJCyK9mI/XlDaYXEMGrl4tBszk=",
        name="hubspot v3",
        at="X-HubSpot-Request-Timestamp",
        headers={"X-HubSpot-Request-Timestamp": T_MS},
    ),
    header(
        "X-HubSpot-Signature",
        "hubspot",
        "883b908978b9b5827341de908454b1301b554ede3c38adc755abf46295706d01",
        name="hubspot v2",
        options={"accept": ["v2"]},
    ),
    header(
        "X-HubSpot-Signature",
        "hubspot",
        "45310fdcf912473690be6d519fe61e62cc11c232120bda99163e9ebca9863419",
        name="hubspot v1",
        options={"accept": ["v1", "v3"]},
    ),
    header(
        "X-Twilio-Email-Event-Webhook-Signature",
        "sendgrid",
        "MEQCIH6w2vdSX0iXZvzBWschxyMvhBTPLGoetYihf7kTEW5rAiAt3zkDYrAjq5mSq+i+mHlO3vZ768hPcfQeqeckFYHaig==",
        at="X-Twilio-Email-Event-Webhook-Timestamp",
        body=b'[{"event":"open","sg_event_id":"e1"}]\r\n',
        secret=ECDSA_KEY,
        other_secret=OTHER_ECDSA_KEY,
        tolerance=86_400,
    ),
    header(
        "X-Signature-Ed25519",
        "discord",
        "d67782022a8f41c1a39c78306dd10a9bf2565e46bcad3737c8e665426eb37134b37e6bd3d92d6201221dadaf9aebf3c8fd074a3da27ea5eb"
        "0d3e36534a7b730c",
        at="X-Signature-Timestamp",
        secret=ED25519_KEY,
        other_secret=OTHER_ED25519_KEY,
    ),
    header(
        "X-Zm-Signature",
        "zoom",
        "v0=9658eb51baa905bebb9d90bea073ce790367b5507a84bf058fd5db9caa4b964b",
        at="X-Zm-Request-Timestamp",
    ),
    Signed(
        name="mailgun",
        scheme="mailgun",
        secret=SECRET,
        headers={},
        in_body=True,
        tolerance=43_200,
        body=json.dumps(
            {
                "event-data": {"event": "opened"},
                "signature": {
                    "timestamp": str(T),
                    "token": "token-1",
                    "signature": "934682363412673e4d8d9533eb6f3c2e48f977e74f7595c5517b4240334de5ec",
                },
            }
        ).encode(),
    ),
    Signed(
        name="mailgun form",
        scheme="mailgun",
        secret=SECRET,
        headers=FORM,
        in_body=True,
        tolerance=43_200,
        body=b"event=opened&timestamp=1700000000&token=token-1"
        b"&signature=934682363412673e4d8d9533eb6f3c2e48f977e74f7595c5517b4240334de5ec",
    ),
    Signed(
        name="adyen (its library's vector)",
        scheme="adyen",
        secret=ADYEN_KEY,
        other_secret=ADYEN_KEY[:-1] + "7",
        headers={},
        in_body=True,
        body=json.dumps({"notificationItems": [{"NotificationRequestItem": ADYEN_ITEM}]}).encode(),
    ),
    header(
        "HmacSignature",
        "adyen",
        "BVImEAcfaDFPLF6NDSDzlcwRdzKlfYh1JDSciT7X9vo=",
        name="adyen whole body",
        secret=ADYEN_KEY,
        other_secret=ADYEN_KEY[:-1] + "7",
        options={"accept": ["body"]},
    ),
    header("X-Line-Signature", "line", BODY_BASE64),
    header(
        "Paddle-Signature",
        "paddle",
        f"ts={T};h1=eac0aa8246b4215967aeeaf8fd46befb2b8c17720b5907433d677260ab2b701a",
        tolerance=300,
    ),
    header("X-Hub-Signature-256", "meta", f"sha256={BODY_HEX}"),
    header("X-Twitter-Webhooks-Signature", "x", f"sha256={BODY_BASE64}"),
    header("X-Xero-Signature", "xero", BODY_BASE64),
    header("X-Dropbox-Signature", "dropbox", BODY_HEX),
    header(
        "X-Mandrill-Signature",
        "mandrill",
        "zA1+yJxa0Qmj+KXHSfFyWTk9L4U=",
        headers=FORM,
        body=b"mandrill_events=%5B%7B%22event%22%3A%22open%22%7D%5D",
    ),
    header(
        "X-CIO-Signature",
        "customerio",
        "9658eb51baa905bebb9d90bea073ce790367b5507a84bf058fd5db9caa4b964b",
        at="X-CIO-Timestamp",
    ),
    header(
        "X-Onfleet-Signature",
        "onfleet",
        "745bcabbfc6158e187b6113939d305070ce2f4526cdd1173efd046f6f82636e2d55e3ca431f0287a482d849d4c62d0177d280bf8229a71a2"
        "6feb8a9426e8b440",
        secret="00112233445566778899aabbccddeeff",
        other_secret="00112233445566778899aabbccddeefe",
    ),
    header("X-Cal-Signature-256", "calcom", BODY_HEX),
    header("Webhook-Signature", "mautic", BODY_BASE64),
    header("X-Signature", "hmac", BODY_HEX),
    header(
        "X-Shop-Signature",
        "hmac",
        "sig:dnAIJY/wyXbnxIVmGMNxMFMszzN56DAMoV5hQbicf3KnGqnJ78xFIfesXMSdvlnApglA84wC8qYio3not1iG1Q==",
        name="hmac with everything",
        at="X-Shop-Time",
        headers={"X-Shop-Time": T_MS},
        secret="c2VjcmV0LWtleQ==",
        other_secret="c2VjcmV0LWtleg==",
        options={
            "header": "X-Shop-Signature",
            "algorithm": "sha512",
            "encoding": "base64",
            "key_encoding": "base64",
            "prefix": "sig:",
            "content": "{timestamp}|{method}|{body}",
            "timestamp_header": "X-Shop-Time",
            "timestamp_unit": "milliseconds",
        },
    ),
    header("Authorization", "token", f"Bearer {SECRET}"),
    header("X-Token", "token", SECRET, name="token in its own header", options={"header": "X-Token"}),
    # echo -n 'shop:pass:word' | base64
    header("Authorization", "basic", "basic c2hvcDpwYXNzOndvcmQ=", secret="shop:pass:word", other_secret="shop:pass"),
]
