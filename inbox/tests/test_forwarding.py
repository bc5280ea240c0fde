"""One forward from its claim to its record, against real servers on the loopback."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode

import pytest

from automation_lab.core import clock
from automation_lab.core.execution import attempts, queue, recovery, runner
from automation_lab.core.execution.claims import STOPPING, held
from automation_lab.core.execution.hints import kind_of
from automation_lab.core.execution.models import reference
from automation_lab.core.execution.tests.helpers import add_worker, take
from automation_lab.core.registry import executables
from automation_lab.core.tests.servers import StubServer, redirect, response
from inbox import services
from inbox.models import Forward, ForwardAttempt
from inbox.replaying import forwarding, replays
from inbox.tests.factories import WebhookFactory

pytestmark = pytest.mark.django_db
KIND = kind_of(Forward)
AT_ONCE = {"delay_seconds": 0, "jitter": "none"}
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"ref":  "refs/heads/main"}\xff\r\n'
HEADERS = [
    ["Content-Type", "application/json"],
    ["Host", "lab.example"],
    ["Content-Length", "29"],
    ["Connection", "keep-alive, X-Internal"],
    ["X-Internal", "1"],
    ["Transfer-Encoding", "chunked"],
    ["Te", "trailers"],
    ["X-Github-Event", "push"],
    ["X-Hub-Signature-256", "sha256=abc"],
    ["X-Name", "M\u00c3\u00bcller"],  # as WSGI gives the bytes of Müller
]


@pytest.fixture
def serve(settings):
    """Starts servers on the loopback that the outbound rules allow, and no others."""
    servers = []

    def start(answer=None):
        servers.append(StubServer(answer or response(200, [("X-Answer", "yes")], b"taken")))
        settings.OUTBOUND_ALLOW = ", ".join(f"127.0.0.1:{server.port}" for server in servers)
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def forward_to(url, *, webhook=None, **options):
    """The forward of a replay to `url`, not run yet."""
    webhook = webhook or WebhookFactory(raw_body=BODY, headers=HEADERS, query_params=[["a", "1"], ["a", "ü"]])
    replay = replays.replay_webhook(webhook=webhook, target="url", options={"url": url, **options})
    return Forward.objects.get(replay=replay)


def run(forward, *, worker=None):
    runner.run(KIND, forward.pk, worker=worker or add_worker())
    forward.refresh_from_db()
    return forward


def sent(server, number=0):
    """Request line, headers by lower-case name, and body of a request that `server` got."""
    head, _, body = server.requests[number].partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    return line, {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}, body


def test_the_original_bytes_and_headers_arrive_without_those_of_the_old_connection(serve):
    server = serve()
    webhook = WebhookFactory(raw_body=BODY, headers=HEADERS, query_params=[["a", "1"], ["a", "ü"]])

    forward = run(forward_to(f"{server.url}/hook?own=1", webhook=webhook))

    line, headers, body = sent(server)
    assert forward.status == Forward.Status.SUCCESS
    assert line == "POST /hook?own=1&a=1&a=%C3%BC HTTP/1.1"
    assert body == BODY
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["content-length"] == str(len(BODY))
    assert headers["x-github-event"] == "push"
    assert headers["x-hub-signature-256"] == "sha256=abc"
    assert headers["x-name"] == "Müller"
    assert not {"x-internal", "transfer-encoding", "te"} & set(headers)
    assert headers["x-automation-lab-replay-of"] == str(webhook.pk)
    assert headers["x-automation-lab-hop"] == "1"


def test_the_answer_and_its_timing_are_recorded(serve):
    server = serve(response(200, [("Set-Cookie", "session=abc"), ("X-Answer", "yes")], b"taken"))

    forward = run(forward_to(server.url))

    attempt = forward.attempts.get()
    assert (attempt.status, attempt.number, attempt.error_message) == ("success", 1, "")
    assert attempt.duration_ms >= forward.answer["elapsed_ms"] >= 0
    assert forward.answer == attempt.answer
    assert (forward.answer["status"], forward.answer["body"]) == (200, "taken")
    assert ["X-Answer", "yes"] in forward.answer["headers"]
    assert "abc" not in json.dumps(forward.answer)


def test_a_long_answer_is_kept_in_part(serve):
    server = serve(response(200, [], b"x" * 20_000))

    forward = run(forward_to(server.url))

    assert forward.answer["body"] == "x" * 8_192
    assert forward.answer["body_truncated"] is True


def test_a_failed_attempt_is_repeated_by_the_policy_with_the_same_key(serve):
    answers = iter([response(503, [], b"later"), response(200)])
    server = serve(lambda connection, request: connection.sendall(next(answers)))
    forward = forward_to(server.url, retry_policy=AT_ONCE)

    run(forward)
    waiting = (forward.status, forward.attempt, forward.answer["status"], forward.error_message)
    run(forward)

    assert waiting == ("pending", 1, 503, "The target answered 503.")
    assert (forward.status, forward.attempt, forward.error_message) == ("success", 2, "")
    assert [(attempt.number, attempt.status) for attempt in forward.attempts.all()] == [(1, "failed"), (2, "success")]
    assert sent(server, 0)[1]["idempotency-key"] == sent(server, 1)[1]["idempotency-key"] == forward.effect_key()


def test_the_senders_own_idempotency_key_is_kept(serve):
    server = serve()

    run(forward_to(server.url, webhook=WebhookFactory(headers=[["Idempotency-Key", "theirs"]])))

    assert sent(server)[1]["idempotency-key"] == "theirs"


def test_a_refusal_by_the_target_is_final(serve):
    server = serve(response(404, [], b"no"))

    forward = run(forward_to(server.url))

    assert (forward.status, forward.attempt, forward.answer["body"]) == ("failed", 1, "no")


def test_the_policy_ends(serve):
    server = serve(response(500))
    forward = forward_to(server.url, retry_policy={**AT_ONCE, "max_attempts": 2})

    run(run(forward))

    assert (forward.status, forward.attempt) == ("failed", 2)
    assert forward.attempts.last().next_reason == "All 2 attempts are used."


def test_a_redirect_is_not_followed(serve):
    target = serve()
    server = serve(redirect(302, target.url))

    forward = run(forward_to(server.url))

    assert (forward.status, forward.answer["status"]) == ("failed", 302)
    assert target.requests == []


def test_an_address_that_is_no_longer_allowed_is_not_called(serve, settings):
    server = serve()
    forward = forward_to(server.url)
    settings.OUTBOUND_ALLOW = ""

    run(forward)

    assert (forward.status, server.requests) == ("failed", [])
    assert "not allowed" in forward.error_message or "not in OUTBOUND_PORTS" in forward.error_message


def test_a_webhook_that_has_gone_round_too_often_is_stopped(serve):
    server = serve()

    forward = run(forward_to(server.url, webhook=WebhookFactory(headers=[["X-Automation-Lab-Hop", "10"]])))

    assert (forward.status, server.requests) == ("failed", [])
    assert "loop" in forward.error_message


@pytest.mark.parametrize(("hop", "next_hop"), [("3", "4"), ("-1", "1"), ("x", "1"), ("99999999", "1")])
def test_hops_are_counted(serve, hop, next_hop):
    server = serve()

    run(forward_to(server.url, webhook=WebhookFactory(headers=[["X-Automation-Lab-Hop", hop]])))

    assert sent(server)[1]["x-automation-lab-hop"] == next_hop


def test_an_edited_body_is_marked(serve):
    server = serve()

    forward = run(forward_to(server.url, body={"ref": "refs/heads/other"}, headers={"X-Github-Event": "ping"}))

    _, headers, body = sent(server)
    assert (forward.mode, forward.status) == ("edited", "success")
    assert json.loads(body) == {"ref": "refs/heads/other"}
    assert headers["x-automation-lab-edited"] == "1"
    assert headers["x-github-event"] == "ping"


def test_an_edited_text_is_sent_as_it_is(serve):
    server = serve()

    run(forward_to(server.url, body="a=1&b=ü"))

    assert sent(server)[2] == "a=1&b=ü".encode()


def test_a_forward_is_signed_anew_for_each_attempt(serve):
    server = serve()
    old = [["Webhook-Id", "msg_1"], ["Webhook-Timestamp", "1"], ["Webhook-Signature", "v1,old"], ["Svix-Id", "x"]]
    webhook = WebhookFactory(raw_body=b'{"a": 1}', headers=old, delivery_id="msg_1")
    signing = {"scheme": "standard_webhooks", "secret": WHSEC}

    forward = run(forward_to(server.url, webhook=webhook, signing=signing))

    _, headers, body = sent(server)
    signed = f"msg_1.{headers['webhook-timestamp']}.".encode() + body
    expected = b64encode(hmac.digest(b64decode(WHSEC[6:]), signed, hashlib.sha256)).decode()
    assert forward.mode == "resigned"
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - clock.process_now().timestamp()) < 60
    assert "svix-id" not in headers
    assert server.requests[0].lower().count(b"webhook-signature") == 1


def test_a_source_of_standard_webhooks_signs_with_its_own_secret(serve):
    server = serve()
    services.create_source(name="github", scheme="standard_webhooks", secrets=[{"value": WHSEC}])

    run(forward_to(server.url, webhook=WebhookFactory(raw_body=b"{}"), signing={"scheme": "source"}))

    assert sent(server)[1]["webhook-signature"].startswith("v1,")


def test_a_source_signs_by_its_own_scheme(serve):
    server = serve()
    services.create_source(name="github", scheme="github", secrets=[{"value": "s3cret"}])
    webhook = WebhookFactory(raw_body=b"{}", headers=[["X-Hub-Signature-256", "sha256=old"], ["X-Github-Event", "a"]])

    run(forward_to(server.url, webhook=webhook, signing={"scheme": "source"}))

    expected = hmac.digest(b"s3cret", b"{}", "sha256").hex()
    assert sent(server)[1]["x-hub-signature-256"] == f"sha256={expected}"
    assert server.requests[0].lower().count(b"x-hub-signature-256") == 1


def test_a_scheme_that_signs_inside_the_body_is_refused_rather_than_changing_it(serve):
    server = serve()
    services.create_source(name="github", scheme="mailgun", secrets=[{"value": "s3cret"}])

    forward = run(forward_to(server.url, webhook=WebhookFactory(raw_body=b"{}"), signing={"scheme": "source"}))

    assert (forward.status, server.requests) == ("failed", [])
    assert "signs inside the request" in forward.error_message


def test_a_source_without_a_secret_cannot_sign(serve):
    server = serve()

    forward = run(forward_to(server.url, signing={"scheme": "source"}))

    assert (forward.status, server.requests) == ("failed", [])
    assert forward.error_message == "The source github has no secret to sign with."


def test_no_secret_of_a_replay_is_stored_in_plain(serve):
    server = serve()

    forward = forward_to(
        server.url,
        signing={"scheme": "standard_webhooks", "secret": WHSEC},
        headers={"Authorization": "Bearer very-secret-token"},
    )

    stored = json.dumps(forward.replay.options)
    assert WHSEC not in stored
    assert "very-secret-token" not in stored
    run(forward)
    assert sent(server)[1]["authorization"] == "Bearer very-secret-token"


def test_a_waiting_forward_is_cancelled_at_once(serve):
    forward = forward_to(serve().url)

    replays.cancel_forward(forward=forward)
    run(forward)

    assert (forward.status, forward.attempts.count()) == ("cancelled", 0)


@pytest.mark.parametrize(
    ("reason", "status", "attempt_status", "error_class", "counted"),
    [
        ("cancelled", "cancelled", "cancelled", "", 1),
        ("timeout", "timeout", "timeout", "timeout.total", 1),
        (STOPPING, "pending", "released", "", 0),
    ],
)
def test_a_forward_that_is_being_sent_is_interrupted(serve, reason, status, attempt_status, error_class, counted):
    def silent(connection, request):
        held.stop_all(reason)
        server.stopping.wait(5)

    server = serve(silent)

    forward = run(forward_to(server.url))

    attempt = forward.attempts.get()
    assert (forward.status, forward.attempt) == (status, counted)
    assert (attempt.status, attempt.error_class) == (attempt_status, error_class)


def test_a_forward_of_a_lost_worker_runs_again(serve):
    server = serve()
    forward = forward_to(server.url)
    claim = take(forward, worker=add_worker(silent_seconds=60))
    ForwardAttempt.objects.create(
        forward=forward, number=1, epoch=claim.epoch, worker=claim.worker, started_at=clock.database_now()
    )

    reason = executables.get(KIND).taken_over(forward, worker=claim.worker, now=clock.database_now())

    assert (reason, forward.attempts.get().status) == ("", "lost")


def test_a_forward_that_loses_five_workers_is_given_up(serve):
    forward = forward_to(serve().url)

    for _ in range(5):
        attempts.begin(forward, take(forward, worker=add_worker(silent_seconds=60)))
        recovery.recover()
        forward.refresh_from_db()

    assert (forward.status, forward.attempts.filter(status="lost").count()) == ("failed", 5)
    assert forward.error_message == "5 workers were lost in this forward: it is not tried again."


def test_a_replaced_worker_writes_nothing(serve, monkeypatch):
    forward = forward_to(serve().url)
    read_answer = forwarding._answer

    def read_late(received):
        Forward.objects.filter(pk=forward.pk).update(epoch=99)
        return read_answer(received)

    monkeypatch.setattr(forwarding, "_answer", read_late)

    run(forward)

    assert (forward.status, forward.answer) == ("running", None)


def test_an_unforeseen_error_ends_the_forward(serve, monkeypatch):
    server = serve()
    forward = forward_to(server.url)
    monkeypatch.setattr("inbox.replaying.forwarding.build_request", lambda *args, **kwargs: 1 / 0)

    run(forward)

    assert (forward.status, forward.error_message[:33]) == ("failed", "Internal error: ZeroDivisionError")
    assert forward.attempts.get().status == "failed"


def test_a_forward_belongs_to_its_queue_like_every_execution(serve):
    forward = forward_to(serve().url)

    epoch = queue.claim(reference(Forward, forward.pk), worker=1, now=clock.database_now())

    assert epoch == 1
