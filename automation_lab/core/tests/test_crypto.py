"""Encryption at rest: the ring of keys, the key file, what is bound, and that nothing leaks."""

from __future__ import annotations

import base64
import stat
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.fernet import Fernet

from automation_lab.core import crypto

# Fixed, since they are part of test names, which parallel test processes must agree on.
OLD, NEW = "b2xk" * 10 + "b2s=", "bmV3" * 10 + "bmU="
VALUE = "hunter2-ü-\u2028"


@pytest.fixture(autouse=True)
def keys(settings, tmp_path):
    settings.DATA_DIR = tmp_path / "var"
    settings.ENCRYPTION_KEYS = f"k1:{OLD}"
    return settings


@pytest.mark.parametrize("value", [VALUE, "", "\ud800\0", "x" * 100_000])
def test_a_value_comes_back_as_it_was(value):
    token = crypto.encrypt(value, bind="secret:A")

    assert crypto.decrypt(token, bind="secret:A") == value


def test_a_token_holds_no_plain_value_and_is_never_the_same_twice():
    first, second = crypto.encrypt("hunter2", bind="b"), crypto.encrypt("hunter2", bind="b")

    assert first != second
    assert "hunter2" not in first
    assert b"hunter2" not in base64.urlsafe_b64decode(first.partition(":")[2])


def test_a_ciphertext_moved_to_another_row_is_noticed():
    token = crypto.encrypt(VALUE, bind="secret:A")

    with pytest.raises(crypto.DecryptionError, match="secret:B cannot be decrypted") as caught:
        crypto.decrypt(token, bind="secret:B")

    assert caught.value.code == "decryption_wrong_place"


@pytest.mark.parametrize(
    "change", [lambda t: t[:-5] + "AAAA=", lambda t: t[:20], lambda t: "", lambda t: "k1:ä", lambda t: "x"]
)
def test_a_changed_token_is_refused(change):
    token = crypto.encrypt(VALUE, bind="secret:A")

    with pytest.raises(crypto.DecryptionError):
        crypto.decrypt(change(token), bind="secret:A")


def test_the_first_key_encrypts_and_all_decrypt(keys):
    token = crypto.encrypt(VALUE, bind="b")
    keys.ENCRYPTION_KEYS = f"k2:{NEW},\n k1:{OLD}"

    rotated = crypto.rotate(token, bind="b")

    assert (crypto.key_id(token), crypto.needs_rotation(token)) == ("k1", True)
    assert (crypto.key_id(rotated), crypto.needs_rotation(rotated)) == ("k2", False)
    assert crypto.decrypt(token, bind="b") == crypto.decrypt(rotated, bind="b") == VALUE


def test_a_removed_key_gives_a_typed_error_that_names_only_the_row(keys):
    token = crypto.encrypt(VALUE, bind="secret:A")
    keys.ENCRYPTION_KEYS = f"k2:{NEW}"

    with pytest.raises(crypto.DecryptionError, match=r"secret:A .*\(k2\).*\(k1\)") as caught:
        crypto.decrypt(token, bind="secret:A")

    assert token.partition(":")[2] not in str(caught.value)


def test_keys_need_no_name_and_take_either_base64_alphabet_without_padding(keys):
    raw = bytes([251, 255]) * 16
    keys.ENCRYPTION_KEYS = base64.b64encode(raw).decode().rstrip("=")
    token = crypto.encrypt(VALUE, bind="b")

    keys.ENCRYPTION_KEYS = base64.urlsafe_b64encode(raw).decode()

    assert crypto.decrypt(token, bind="b") == VALUE
    assert not crypto.needs_rotation(token)


def test_no_traceback_holds_the_value_of_a_misplaced_token():
    token = crypto.encrypt("hunter2", bind="secret:A")

    with pytest.raises(crypto.DecryptionError) as caught:
        crypto.decrypt(token, bind="secret:B")

    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "crypto.py" in shown
    assert "hunter2" not in shown.replace('crypto.encrypt("hunter2"', "")


def test_the_key_ring_shows_no_key():
    assert OLD not in repr(crypto._ring())
    assert "fernet" not in repr(crypto._ring())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("k1:tooshort", "ENCRYPTION_KEYS: entry 1 is not a key"),
        (f"k2:{NEW},k1:{OLD}x", "entry 2 is not a key"),
        (f"{NEW}:k2", "entry 1 is not a key"),
        (f"k ö:{NEW}", "is not a key"),
        (f"k1:{NEW},k1:{OLD}", "two keys have the same name"),
        (",", "holds no key"),
    ],
)
def test_keys_that_cannot_be_used_are_named_but_not_shown(keys, text, message):
    keys.ENCRYPTION_KEYS = text

    with pytest.raises(crypto.EncryptionKeyError, match=message) as caught:
        crypto.check_keys()

    assert NEW not in str(caught.value)
    assert "tooshort" not in str(caught.value)


def test_a_key_file_is_made_for_its_owner_only(keys):
    keys.ENCRYPTION_KEYS = ""

    token = crypto.encrypt(VALUE, bind="b")

    path = keys.DATA_DIR / "encryption_keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(keys.DATA_DIR.iterdir()) == [path]
    assert Fernet(path.read_text().strip())
    assert crypto.decrypt(token, bind="b") == VALUE
    crypto.check_keys()


def test_processes_that_start_at_once_agree_on_one_key(keys):
    keys.ENCRYPTION_KEYS = ""

    with ThreadPoolExecutor(16) as pool:
        tokens = list(pool.map(lambda _: crypto.encrypt(VALUE, bind="b"), range(16)))

    assert len({crypto.key_id(token) for token in tokens}) == 1
    assert {crypto.decrypt(token, bind="b") for token in tokens} == {VALUE}


def test_a_key_file_that_others_can_read_is_reported_with_the_remedy(keys):
    keys.ENCRYPTION_KEYS = ""
    crypto.check_keys()

    (keys.DATA_DIR / "encryption_keys").chmod(0o644)

    with pytest.raises(crypto.EncryptionKeyError, match="chmod 600"):
        crypto.check_keys()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"not a key"])
def test_a_key_file_with_other_content_is_never_replaced(keys, content):
    keys.ENCRYPTION_KEYS = ""
    keys.DATA_DIR.mkdir()
    path = keys.DATA_DIR / "encryption_keys"
    path.write_bytes(content)

    with pytest.raises(crypto.EncryptionKeyError, match="encryption_keys"):
        crypto.encrypt(VALUE, bind="b")

    assert path.read_bytes() == content
