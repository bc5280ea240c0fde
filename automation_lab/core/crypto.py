"""Encryption of secrets at rest: Fernet with a ring of keys that is separate from SECRET_KEY.

Keys come from `ENCRYPTION_KEYS` ("k2:BASE64,k1:BASE64", names optional; the first encrypts, all decrypt), else from the
file `encryption_keys` in `DATA_DIR`, made at first use. A token is `KEY_ID:FERNET`. What is encrypted names the row it
belongs to (`bind`, such as "secret:NAME" or "source:github:0"), so ciphertexts swapped between rows are noticed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from automation_lab.core.exceptions import AutomationLabError

KEY_FILE = "encryption_keys"
_ENTRY = re.compile(r"(?:(?P<name>[A-Za-z0-9_-]{1,32}):)?(?P<key>[A-Za-z0-9_+/-]{43}=?)")
_HINT = 'Write "NAME:KEY,NAME:KEY", newest first; a KEY is 32 random bytes in base64, 43 or 44 characters.'


class DecryptionError(AutomationLabError):
    """A stored secret cannot be read. The message names what it is bound to, never its content."""

    code = "decryption_failed"


class EncryptionKeyError(AutomationLabError):
    """The encryption keys cannot be used. The message says which and why, and shows none of them."""

    code = "encryption_keys"


@dataclass(frozen=True)
class _KeyRing:
    key_ids: tuple[str, ...]
    fernet: MultiFernet = field(repr=False)


def generate_key() -> str:
    """A new random key for `ENCRYPTION_KEYS`."""
    return Fernet.generate_key().decode()


def check_keys() -> None:
    """Raises EncryptionKeyError unless the keys are there, well formed and kept from other users."""
    _ring()
    if not settings.ENCRYPTION_KEYS and (path := _key_file()).stat().st_mode & 0o007:
        raise EncryptionKeyError(f"Other users of this machine can read {path}. Run: chmod 600 '{path}'")


@sensitive_variables("value")
def encrypt(value: str, *, bind: str) -> str:
    ring = _ring()
    sealed = ring.fernet.encrypt(json.dumps({"bind": bind, "value": value}).encode())
    return f"{ring.key_ids[0]}:{sealed.decode()}"


@sensitive_variables()
def decrypt(token: str, *, bind: str) -> str:
    """The value that `encrypt` was given with the same `bind`. Raises DecryptionError."""
    ring = _ring()
    envelope = _open(ring, token)
    if envelope is None:
        raise DecryptionError(
            f"{bind} cannot be decrypted with the encryption keys of this installation ({', '.join(ring.key_ids)}): "
            f"it was made with another key ({key_id(token) or 'unknown'}), or the stored text was changed. "
            "Add the old key at the end of ENCRYPTION_KEYS, or set the value again."
        )
    if not _belongs_to(envelope, bind):
        del envelope  # no traceback that keeps local variables may hold a value
        raise DecryptionError(
            f"{bind} cannot be decrypted: the stored text was made for something else. Set the value again.",
            code="decryption_wrong_place",
        )
    return envelope["value"]


def rotate(token: str, *, bind: str) -> str:
    """`token` encrypted anew with the first key."""
    return encrypt(decrypt(token, bind=bind), bind=bind)


def key_id(token: str) -> str:
    """The name of the key that made `token` (a fingerprint when it has no name), or empty for anything else."""
    name, colon, _ = token.partition(":")
    return name if colon and len(name) <= 32 and name.isascii() and name.isprintable() else ""


def needs_rotation(token: str) -> bool:
    return key_id(token) != _ring().key_ids[0]


def _open(ring: _KeyRing, token: str) -> dict[str, str] | None:
    try:
        return json.loads(ring.fernet.decrypt(token.partition(":")[2].encode()))
    except (InvalidToken, UnicodeEncodeError):
        return None


def _belongs_to(envelope: dict[str, str], bind: str) -> bool:
    return hmac.compare_digest(envelope["bind"].encode(), bind.encode())


# --- keys -------------------------------------------------------------------------------------------------------------


def _ring() -> _KeyRing:
    if settings.ENCRYPTION_KEYS.strip():
        return _parse(settings.ENCRYPTION_KEYS, "ENCRYPTION_KEYS")
    path = _key_file()
    return _parse(_read_or_create(path), str(path))


def _key_file() -> Path:
    return Path(settings.DATA_DIR) / KEY_FILE


@lru_cache(maxsize=8)
def _parse(text: str, origin: str) -> _KeyRing:
    entries = [entry for entry in re.split(r"[,\s]+", text) if entry]
    if not entries:
        raise EncryptionKeyError(f"{origin} holds no key. {_HINT}")
    pairs = [_parse_entry(entry, f"{origin}: entry {number}") for number, entry in enumerate(entries, start=1)]
    key_ids = tuple(name for name, _ in pairs)
    if len(set(key_ids)) < len(key_ids):
        raise EncryptionKeyError(f"{origin}: two keys have the same name. Give each key a name of its own.")
    return _KeyRing(key_ids, MultiFernet([fernet for _, fernet in pairs]))


def _parse_entry(entry: str, where: str) -> tuple[str, Fernet]:
    # The entry itself is never shown: a misplaced part of it may be the key.
    match = _ENTRY.fullmatch(entry)
    if not match:
        raise EncryptionKeyError(f"{where} is not a key. {_HINT}")
    key = match["key"].rstrip("=").translate(str.maketrans("+/", "-_")) + "="
    return match["name"] or hashlib.sha256(key.encode()).hexdigest()[:8], Fernet(key)


def _read_or_create(path: Path) -> str:
    try:
        if not path.exists():
            _create(path)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise EncryptionKeyError(f"The key file {path} cannot be used: {exc}. Or set ENCRYPTION_KEYS.") from None


def _create(path: Path) -> None:
    """Appears whole or not at all, and never replaces the key of a process that was faster."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{generate_key()}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
