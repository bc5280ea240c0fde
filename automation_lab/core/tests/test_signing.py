"""Standard Webhooks signing against the vectors of the reference libraries, and of others for the plain HMAC."""

from __future__ import annotations

import base64

import pytest

from automation_lab.core.exceptions import Invalid
from automation_lab.core.signing import constant_time_equal, decode_standard_secret, sign_standard_webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'


def test_the_reference_vector_is_reproduced():
    headers = sign_standard_webhook(SECRET, MESSAGE_ID, TIMESTAMP, BODY)

    assert headers == {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    "change", [{"message_id": "other"}, {"timestamp": 1}, {"body": b""}, {"secret": SECRET[:-1] + "x"}]
)
def test_every_signed_part_changes_the_signature(change):
    given = {"secret": SECRET, "message_id": MESSAGE_ID, "timestamp": TIMESTAMP, "body": BODY}

    signature = sign_standard_webhook(**given | change)["webhook-signature"]

    assert signature != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("secret", "length"),
    [
        (SECRET, 24),
        (SECRET.removeprefix("whsec_"), 24),
        (f" {SECRET}\n", 24),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", 23),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr", 25),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr==", 25),
        ("whsec_" + base64.b64encode(bytes(64)).decode(), 64),
    ],
)
def test_secrets_are_taken_with_and_without_prefix_and_padding(secret, length):
    assert len(decode_standard_secret(secret)) == length


def test_both_base64_alphabets_give_the_same_key():
    key = bytes([251, 255]) * 16

    assert decode_standard_secret(base64.urlsafe_b64encode(key).decode()) == key
    assert decode_standard_secret(base64.b64encode(key).decode()) == key


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("whsec_", "is empty"),
        ("not base64 at all, really", "is not base64"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwB", "is not base64"),
        ("MfKQ=r8GKYqrTwjUPD8ILPZIo2LaLaSw", "is not base64"),
        ("äfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "is not base64"),
        (base64.b64encode(bytes(15)).decode(), "has 15 bytes"),
        (base64.b64encode(bytes(65)).decode(), "has 65 bytes"),
    ],
)
def test_secrets_that_cannot_sign_are_refused_without_being_shown(secret, reason):
    with pytest.raises(Invalid, match=reason) as caught:
        decode_standard_secret(secret)

    assert caught.value.field == "secret"
    assert not secret.strip() or secret == "whsec_" or secret not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"message_id": ""}, "message_id"),
        ({"message_id": "a.b"}, "message_id"),
        ({"message_id": "a\r\nX: y"}, "message_id"),
        ({"message_id": "ä"}, "message_id"),
        ({"timestamp": -161426533}, "timestamp"),
        ({"timestamp": 161426533.0}, "timestamp"),
    ],
)
def test_ids_and_timestamps_that_would_blur_the_signed_text_are_refused(change, field):
    given = {"secret": SECRET, "message_id": MESSAGE_ID, "timestamp": TIMESTAMP, "body": BODY}

    with pytest.raises(Invalid) as caught:
        sign_standard_webhook(**given | change)

    assert caught.value.field == field


def test_comparison_is_exact_and_takes_any_bytes():
    assert constant_time_equal(b"\xff\x00", b"\xff\x00")
    assert not constant_time_equal(b"\xff\x00", b"\xff\x01")
    assert not constant_time_equal(b"", b"a")
