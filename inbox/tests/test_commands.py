"""`send` and `verify_signature`; `forward` and `listen` are in test_following.py."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime
from io import StringIO
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.core.management import CommandError, call_command

from automation_lab.core.tests.servers import StubServer, response
from automation_lab.tests.servers import granian_server
from inbox import services
from inbox.incoming import IncomingRequest
from inbox.management import lab_server
from inbox.models import Webhook
from inbox.tests.signed_requests import ADYEN_ITEM, ADYEN_KEY
from inbox.verification import judge

JSON = [("Content-Type", "application/json")]
ACCEPTED = response(201, JSON, b'{"id": 7, "status": "received", "duplicate": false}')
BODY = b'{"a":  1}\n'


@pytest.fixture
def lab():
    """A server that answers as the inbox does."""
    server = StubServer(ACCEPTED)
    yield server
    server.close()


@pytest.fixture
def payload(tmp_path):
    path = tmp_path / "payload.json"
    path.write_bytes(BODY)
    return path


def run(*arguments, **options):
    """Output and errors of the command, and its exit code."""
    out, err = StringIO(), StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=err, **options)
    except SystemExit as ended:
        return out.getvalue(), err.getvalue(), ended.code
    return out.getvalue(), err.getvalue(), 0


def headers_of(request):
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    return line, {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}, body


# --- send -------------------------------------------------------------------------------------------------------------


def test_a_file_is_sent_as_it_is(lab, payload):
    out, _, code = run("send", "github", "--file", str(payload), "--header", "X-A: b:c", server=lab.url)

    line, headers, body = headers_of(lab.requests[0])
    assert (line, body, code) == ("POST /v1/webhooks/inbox/github HTTP/1.1", BODY, 0)
    assert (headers["content-type"], headers["x-a"]) == ("application/json", "b:c")
    assert out.startswith("201  #7  received  ")


def test_an_event_type_goes_into_the_query_where_no_scheme_says_better(lab, payload):
    run("send", "github", "--file", str(payload), "--event", "push", server=lab.url)

    assert headers_of(lab.requests[0])[0] == "POST /v1/webhooks/inbox/github?event_type=push HTTP/1.1"


@pytest.mark.django_db
def test_a_webhook_of_github_is_signed_with_the_secret_of_the_source(lab, payload):
    services.create_source(name="gh", scheme="github", secrets=[{"value": "s3cret"}])

    run("send", "gh", "--file", str(payload), "--sign", "--event", "push", "--count", "2", server=lab.url)

    sent = [headers_of(request) for request in lab.requests]
    assert {line for line, _, _ in sent} == {"POST /v1/webhooks/inbox/gh HTTP/1.1"}
    assert {headers["x-github-event"] for _, headers, _ in sent} == {"push"}
    assert len({headers["x-github-delivery"] for _, headers, _ in sent}) == 2
    expected = hmac.digest(b"s3cret", BODY, "sha256").hex()
    assert {headers["x-hub-signature-256"] for _, headers, _ in sent} == {f"sha256={expected}"}


def test_a_source_elsewhere_is_signed_for_with_a_secret_of_a_file(lab, payload, tmp_path):
    (tmp_path / "secret").write_text("s3cret\n")

    run("send", "gh", "--file", str(payload), "--scheme", "github", "--secret-file", str(tmp_path / "secret"),
        server=lab.url)  # fmt: skip

    expected = hmac.digest(b"s3cret", BODY, "sha256").hex()
    assert headers_of(lab.requests[0])[1]["x-hub-signature-256"] == f"sha256={expected}"


@pytest.mark.django_db
def test_a_scheme_that_signs_the_address_needs_to_know_it(lab, payload, monkeypatch):
    monkeypatch.setattr(lab_server, "LOCAL_SERVER", lab.url)
    services.create_source(name="sms", scheme="twilio", secrets=[{"value": "s3cret"}])

    with pytest.raises(CommandError, match="set PUBLIC_URL, or the signed address"):
        run("send", "sms", "--file", str(payload), "--sign")
    run("send", "sms", "--file", str(payload), "--sign", server=lab.url)

    assert [headers_of(request)[0].partition("?")[0] for request in lab.requests] == ["POST /v1/webhooks/inbox/sms"]


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["", "?a=1"])
@pytest.mark.parametrize("scheme", ["twilio", "square"])
def test_the_address_that_a_source_names_is_signed_with_the_query(lab, payload, monkeypatch, scheme, query):
    monkeypatch.setattr(lab_server, "LOCAL_SERVER", lab.url)
    source = services.create_source(
        name="named",
        scheme=scheme,
        scheme_settings={"url": f"https://lab.example/hooks{query}"},
        secrets=[{"value": "s3cret"}],
    )

    run("send", "named", "--file", str(payload), "--sign", "--event", "a b")

    line, headers, body = headers_of(lab.requests[0])
    url = urlsplit(line.split()[1])
    request = IncomingRequest(
        method="POST",
        path=url.path,
        query_string=url.query,
        query_params=[list(pair) for pair in parse_qsl(url.query)],
        headers=[list(pair) for pair in headers.items()],
        raw_body=body,
        remote_addr="192.0.2.1",
    )
    assert "event_type=a+b" in url.query
    assert judge.verify(source, request).result == "verified"


def test_what_is_refused_is_told_and_ends_with_one(payload):
    server = StubServer(response(401, JSON, b'{"detail": "The signature is not accepted."}'))

    out, err, code = run("send", "github", "--file", str(payload), "--count", "2", "--rate", "100", server=server.url)
    server.close()

    assert code == 1
    assert out.splitlines()[0].startswith("401  The signature is not accepted.  ")
    assert err == "2 answered 401\n"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["github", "--sign"], "There is no source github here"),
        (["github", "--file", "/nowhere/at/all"], "cannot be read"),
        (["github", "--count", "0"], "--count is from 1"),
        (["github", "--rate", "-1"], "--rate from 0"),
        (["github", "--header", "nonsense"], "NAME:VALUE"),
        (["github", "--scheme", "github"], "no secret to sign with"),
        (["github", "--scheme", "paypal"], "its certificate"),
        (["github", "--header", "Host: x"], "Host header"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(lab, arguments, words):
    with pytest.raises(CommandError, match=words):
        run("send", *arguments, server=lab.url)
    assert lab.requests == []


def test_a_server_that_is_away_is_named():
    server = StubServer()
    server.close()

    with pytest.raises(CommandError, match=str(server.port)):
        run("send", "github", server=server.url)


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_the_inbox_verifies_what_is_sent_signed(tmp_path, settings):
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    (tmp_path / "key").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "body").write_text(
        json.dumps({"id": 1, "notificationItems": [{"NotificationRequestItem": {**ADYEN_ITEM}}]})
    )
    secrets = {"discord": public, "adyen": ADYEN_KEY, "onfleet": "44782DEF", "basic": "user:pw"}
    schemes = ["token", "basic", "hmac", "github", "stripe", "slack", "twilio", "square", "discord", "mailgun", "adyen"]
    settings.PUBLIC_URL = "https://lab.example"
    for scheme in schemes:
        services.create_source(name=scheme, scheme=scheme, secrets=[{"value": secrets.get(scheme, "provider-secret")}])

    with granian_server(PUBLIC_URL="https://lab.example") as server:
        for scheme in schemes:
            key = ["--private-key", str(tmp_path / "key")] if scheme == "discord" else []
            run("send", scheme, "--sign", "--file", str(tmp_path / "body"), "--event", "a b", *key, server=server.url)

    assert dict(Webhook.objects.values_list("source", "verification")) == dict.fromkeys(schemes, "verified")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["send", "github", "--count", "0"], 2),
        (["send", "github", "--file", "/nowhere/at/all"], 2),
        (["send", "github", "--sign"], 1),
        (["send", "github", "--server", "http://127.0.0.1:9"], 1),
        (["listen", "--since", "yesterday"], 2),
        (["listen", "--server", "nowhere"], 2),
        (["listen", "--token-file", "/nowhere/at/all"], 2),
        (["forward", "--to", "nowhere"], 2),
        (["verify_signature", "--source", "nobody", "--headers", "/nowhere", "--body", "/nowhere"], 1),
    ],
)
def test_the_exit_code_tells_wrong_usage_from_failure(arguments, code):
    with pytest.raises(CommandError) as ended:
        call_command(*arguments)

    assert ended.value.returncode == code


# --- verify_signature -------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """Saves a request to files and gives the options that name them."""

    def save(headers, body=BODY):
        (tmp_path / "headers").write_text(headers)
        (tmp_path / "body").write_bytes(body)
        return ["--headers", str(tmp_path / "headers"), "--body", str(tmp_path / "body")]

    return save


@pytest.fixture
def github(db):
    return services.create_source(
        name="github", scheme="github", secrets=[{"value": "s3cret"}], allowed_addresses=["192.0.2.1"]
    )


SIGNATURE = f"sha256={hmac.digest(b's3cret', BODY, 'sha256').hex()}"


@pytest.mark.parametrize(
    "headers",
    [
        f"X-Hub-Signature-256: {SIGNATURE}\nContent-Type: application/json\n",
        f"POST /v1/webhooks/inbox/github?a=1 HTTP/1.1\r\nHost: lab\r\nx-hub-signature-256: {SIGNATURE}\r\n\r\n",
        json.dumps({"X-Hub-Signature-256": SIGNATURE}),
        json.dumps([["X-Hub-Signature-256", SIGNATURE]]),
    ],
    ids=["lines", "request", "object", "pairs"],
)
def test_a_right_signature_is_told_with_its_secret(github, saved, headers):
    out, _, code = run("verify_signature", "--source", "github", *saved(headers))

    assert (out, code) == (f"verified with the secret {github.secrets[0]['id']}\n", 0)


def test_a_wrong_signature_is_explained(github, saved):
    out, _, code = run("verify_signature", "--source", "github", *saved(f"X-Hub-Signature-256: {SIGNATURE}", b"{}"))

    assert code == 1
    assert out.startswith("mismatch\n- ")
    assert "s3cret" not in out


def test_an_old_request_is_judged_by_when_it_came(db, saved):
    services.create_source(name="slack", scheme="slack", secrets=[{"value": "s3cret"}])
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    seconds = int(at.timestamp())
    signature = hmac.digest(b"s3cret", f"v0:{seconds}:".encode() + BODY, "sha256").hex()
    files = saved(f"X-Slack-Signature: v0={signature}\nX-Slack-Request-Timestamp: {seconds}\n")

    now = run("verify_signature", "--source", "slack", *files)
    then = run("verify_signature", "--source", "slack", *files, "--at", "2026-05-01T12:01:00Z")

    assert (now[0].splitlines()[0], now[2]) == ("stale", 1)
    assert (then[0].split()[0], then[2]) == ("verified", 0)


@pytest.mark.parametrize(
    ("headers", "more", "words"),
    [
        ("nonsense", [], "Line 1 of the headers"),
        ("[1]", [], "neither an object nor pairs"),
        ("{", [], "neither an object nor pairs"),
        ("A: b", ["--at", "yesterday"], "--at is an instant"),
        ("A: b", ["--source", "nobody"], "There is no source nobody"),
        ("A: b", ["--body", "/nowhere/at/all"], "cannot be read"),
    ],
)
def test_files_that_make_no_sense_are_refused(github, saved, headers, more, words):
    with pytest.raises(CommandError, match=words) as ended:
        run("verify_signature", "--source", "github", *saved(headers), *more)
    assert ended.value.returncode == (1 if "--source" in more else 2)
