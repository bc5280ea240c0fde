"""PayPal and SNS: signatures made with `cryptography`, the certificate given by a stand-in for the network."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from automation_lab.core.http import HttpError, HttpResponse
from inbox import reverify, services, subscriptions
from inbox.models import Webhook
from inbox.receiving.storing import receive_webhook
from inbox.tests.factories import incoming
from inbox.verification import certificates
from inbox.verification.certificates import Certificates, CertificateUnavailable
from inbox.verification.context import Context, Secret
from inbox.verification.judge import judge
from inbox.verification.schemes import SCHEMES

NOW = datetime(2026, 10, 1, 12, tzinfo=UTC)
PAYPAL_URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270"
SNS_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-7ff5318490ec183fbaddaa2a969abfda.pem"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"


@pytest.fixture(scope="module")
def private_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def certificate(private_key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sender")])
    made = x509.CertificateBuilder(name, name, private_key.public_key(), 1, NOW, NOW + timedelta(days=1))
    return made.sign(private_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Network:
    """Answers every request with what it is set to, and counts."""

    def __init__(self, body=b"", status=200, error=None):
        self.body, self.status, self.error, self.urls = body, status, error, []

    def request(self, method, url, **options):
        self.urls.append(url)
        if self.error:
            raise self.error
        return HttpResponse(self.status, (), self.body, elapsed_ms=1, url=url, address="192.0.2.1")


@pytest.fixture
def network(certificate, monkeypatch):
    network = Network(certificate)
    monkeypatch.setattr(certificates, "shared", Certificates(network))
    return network


def paypal(private_key, body=b'{"id": "WH-1"}', *, webhook_id="WEBHOOK", sent_at="2026-10-01T12:00:00Z", **changed):
    message = f"t-1|{sent_at}|{webhook_id}|{zlib.crc32(body)}".encode()
    signature = private_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    headers = {
        "Paypal-Transmission-Id": "t-1",
        "Paypal-Transmission-Time": sent_at,
        "Paypal-Transmission-Sig": base64.b64encode(signature).decode(),
        "Paypal-Auth-Algo": "SHA256withRSA",
        "Paypal-Cert-Url": PAYPAL_URL,
    }
    headers |= {f"Paypal-{name.replace('_', '-').title()}": value for name, value in changed.items()}
    return incoming(body, headers=headers.items())


def sns(private_key, *, version="2", kind="Notification", after_signing=(), **fields):
    message = {
        "Type": kind,
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Message": "hello\nworld",
        "Timestamp": "2026-10-01T12:00:00.000Z",
        **fields,
    }
    order = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    signed = "".join(f"{name}\n{message[name]}\n" for name in order if name in message)
    algorithm = {"1": hashes.SHA1(), "2": hashes.SHA256()}[version]  # noqa: S303 - what SNS signs with
    signature = private_key.sign(signed.encode(), padding.PKCS1v15(), algorithm)
    message |= {
        "SignatureVersion": version,
        "SigningCertURL": SNS_URL,
        "Signature": base64.b64encode(signature).decode(),
    }
    message |= dict(after_signing)
    return incoming(json.dumps({name: value for name, value in message.items() if value is not None}).encode())


def result(scheme, request, *, secrets=("WEBHOOK",), now=NOW, topics=(TOPIC,)):
    context = Context(
        request=request,
        secrets=tuple(Secret(value, value) for value in secrets),
        now=now,
        options={"topics": list(topics)} if scheme == "sns" else {},
    )
    return judge(scheme, context).result.value


# --- PayPal -----------------------------------------------------------------------------------------------------------


def test_paypal_signs_ids_time_and_checksum(private_key, network):
    assert result("paypal", paypal(private_key), secrets=("OTHER", "WEBHOOK")) == "verified"
    assert network.urls == [PAYPAL_URL]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"transmission_id": "t-2"}, "mismatch"),
        ({"transmission_time": "2026-10-01T12:00:01Z"}, "mismatch"),
        ({"transmission_time": "yesterday"}, "malformed_header"),
        ({"transmission_time": "2026-10-01T12:00:00"}, "malformed_header"),
        ({"transmission_time": "9" * 5000}, "malformed_header"),
        ({"transmission_time": ""}, "missing_header"),
        ({"transmission_sig": ""}, "missing_header"),
        ({"transmission_sig": "garbage!"}, "malformed_header"),
        ({"transmission_sig": "é"}, "malformed_header"),
        ({"transmission_sig": "AAAA"}, "mismatch"),
        ({"auth_algo": "none"}, "unsupported"),
        ({"cert_url": ""}, "missing_header"),
        ({"cert_url": "https://evil.example/v1/notifications/certs/CERT-1"}, "untrusted_certificate"),
    ],
)
def test_every_header_of_paypal_counts(private_key, network, changed, expected):
    assert result("paypal", paypal(private_key, **changed)) == expected


def test_body_and_webhook_id_of_paypal_count(private_key, network):
    altered = paypal(private_key)
    altered = incoming(b'{"id": "WH-2"}', headers=altered.headers)

    assert result("paypal", altered) == "mismatch"
    assert result("paypal", paypal(private_key), secrets=("OTHER",)) == "mismatch"
    assert result("paypal", paypal(private_key), secrets=()) == "no_secret"


def test_the_time_of_paypal_counts(private_key, network):
    days = timedelta(days=3, seconds=1)

    assert result("paypal", paypal(private_key), now=NOW + days) == "stale"
    assert result("paypal", paypal(private_key), now=NOW - days) == "future"


# --- SNS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1", "2"])
def test_sns_signs_fields_of_the_body(private_key, network, version):
    assert result("sns", sns(private_key, version=version)) == "verified"
    assert result("sns", sns(private_key, version=version, Subject="s")) == "verified"


def test_sns_signs_confirmations(private_key, network):
    fields = {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription", "Token": "t"}

    assert result("sns", sns(private_key, kind="SubscriptionConfirmation", **fields)) == "verified"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({"Message": "other"}, "mismatch"),
        ({"MessageId": "m-2"}, "mismatch"),
        ({"Subject": "added"}, "mismatch"),
        ({"Timestamp": "2026-10-01T12:00:01.000Z"}, "mismatch"),
        ({"Timestamp": "now"}, "malformed_header"),
        ({"Signature": "AAAA"}, "mismatch"),
        ({"Signature": "garbage!"}, "malformed_header"),
        ({"Signature": "é"}, "malformed_header"),
        ({"Signature": None}, "missing_field"),
        ({"SignatureVersion": "3"}, "unsupported"),
        ({"SigningCertURL": "https://evil.example/SimpleNotificationService-00.pem"}, "untrusted_certificate"),
        ({"Type": "Other"}, "missing_field"),
    ],
)
def test_every_field_of_sns_counts(private_key, network, after, expected):
    assert result("sns", sns(private_key, after_signing=after)) == expected


def test_a_topic_that_is_not_named_is_somebody_elses(private_key, network):
    foreign = sns(private_key, TopicArn="arn:aws:sns:eu-west-1:999999999999:orders")

    assert result("sns", foreign) == "unknown_sender"
    assert result("sns", sns(private_key), topics=()) == "no_secret"


def test_the_time_of_sns_counts(private_key, network):
    hours = timedelta(hours=2, seconds=1)

    assert result("sns", sns(private_key), now=NOW + hours) == "stale"
    assert result("sns", sns(private_key), now=NOW - hours) == "future"


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/../../x",
        "https://sns.evil.example/SimpleNotificationService-00.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-00.pem",
        "https://sns.eu-west-1.amazonaws.com/other.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-00.pem\n",
    ],
)
def test_a_certificate_is_fetched_from_the_provider_only(network, url):
    for scheme in ("paypal", "sns"):
        assert certificates.shared.public_key(url, SCHEMES[scheme][0].addresses) is None
    assert network.urls == []


def test_a_certificate_is_remembered(private_key, network):
    for _ in range(3):
        assert result("paypal", paypal(private_key)) == "verified"

    assert len(network.urls) == 1


@pytest.mark.parametrize(("body", "status"), [(b"no certificate", 200), (b"", 404)])
def test_what_is_no_certificate_is_not_trusted(private_key, network, body, status):
    network.body, network.status = body, status

    assert result("paypal", paypal(private_key)) == "untrusted_certificate"


@pytest.mark.parametrize("values", [{"status": 503}, {"error": HttpError("no answer", code="communication.timeout")}])
def test_an_unreachable_certificate_lets_the_sender_come_again(private_key, network, values):
    vars(network).update(values)

    with pytest.raises(CertificateUnavailable):
        result("paypal", paypal(private_key))


def test_invented_addresses_cost_few_calls(network):
    network.status = 404
    pattern = SCHEMES["paypal"][0].addresses

    with pytest.raises(CertificateUnavailable):
        for number in range(1000):
            certificates.shared.public_key(f"{PAYPAL_URL}{number}", pattern)

    assert len(network.urls) == certificates.MAX_FETCHES


@pytest.mark.django_db
def test_a_missing_certificate_is_answered_503_and_stores_nothing(client, private_key, network):
    network.error = HttpError("no answer", code="communication.timeout")
    request = paypal(private_key)
    services.create_source(name="shop", scheme="paypal", secrets=[{"value": "WEBHOOK"}])

    response = client.post(
        "/v1/webhooks/inbox/shop", request.raw_body, "application/json", headers=dict(request.headers[1:])
    )

    assert response.status_code == 503
    assert response["Retry-After"]
    assert response.json()["type"].endswith("certificate_unavailable")
    assert not Webhook.objects.exists()


@pytest.mark.django_db
def test_a_subscription_that_was_refused_can_be_confirmed_after_its_topic_was_named(private_key, network, announced):
    source = services.create_source(name="aws", scheme="sns", scheme_settings={"topics": [f"{TOPIC}-other"]})
    address = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:x&Token=t"
    now = datetime.now(UTC).isoformat()
    request = sns(private_key, kind="SubscriptionConfirmation", Timestamp=now, SubscribeURL=address, Token="t")
    webhook = receive_webhook(request=request, source=source)
    services.update_source(source=source, scheme_settings={"topics": [TOPIC]})

    accepted = reverify.verify_again(webhook=webhook).webhook
    confirmed = subscriptions.confirm_subscription(webhook=accepted, client=Network())

    assert webhook.verification == "unknown_sender"
    assert (confirmed.flags, announced) == (["confirmed", "handshake"], [])
