"""Public keys of senders that sign with a certificate and send its address along.

The address comes from the request, so its host and path must fit the provider exactly; it is fetched without redirects,
before any transaction, and remembered. An address that cannot be reached makes the request fail with 503: the sender
repeats it.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from automation_lab.core.exceptions import Unavailable
from automation_lab.core.http import HttpClient, HttpError

TIMEOUT_SECONDS = 3.0
MAX_CERTIFICATE_BYTES = 65_536
REMEMBERED_SECONDS = 24 * 3600.0
REFUSAL_REMEMBERED_SECONDS = 60.0
MAX_REMEMBERED = 100
# Whoever knows the pattern can name addresses that do not exist: they cost so many calls and no more.
MAX_FETCHES = 20
FETCHES_PER_SECONDS = 60.0


class CertificateUnavailable(Unavailable):
    """The sender's certificate cannot be fetched at the moment."""

    code = "certificate_unavailable"


@dataclass(frozen=True)
class _Remembered:
    key: RSAPublicKey | None
    until: float


class Certificates:
    """A cache of one process. `client` stands in for the network in tests."""

    def __init__(self, client: HttpClient | None = None) -> None:
        self._client = client or HttpClient()
        self._remembered: dict[str, _Remembered] = {}
        self._fetches: list[float] = []
        self._lock = threading.Lock()

    def public_key(self, url: str, allowed: re.Pattern[str]) -> RSAPublicKey | None:
        """The key at `url`; None if the address is not one of the provider's or holds no RSA certificate.

        Raises CertificateUnavailable.
        """
        if not allowed.fullmatch(url):
            return None
        found = self._remembered.get(url)
        if found is None or found.until < time.monotonic():
            found = self._fetch(url)
        return found.key

    def _fetch(self, url: str) -> _Remembered:
        self._count_fetch()
        try:
            response = self._client.request(
                "GET", url, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_CERTIFICATE_BYTES
            )
        except HttpError as exc:
            raise CertificateUnavailable("The sender's certificate cannot be fetched.") from exc
        if response.status_code >= 500 or response.status_code == 429:
            raise CertificateUnavailable("The sender's certificate cannot be fetched.")
        key = _rsa_key(response.body) if response.status_code == 200 else None
        lifetime = REMEMBERED_SECONDS if key else REFUSAL_REMEMBERED_SECONDS
        found = _Remembered(key, time.monotonic() + lifetime)
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[url] = found
        return found

    def _count_fetch(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._fetches = [at for at in self._fetches if at > now - FETCHES_PER_SECONDS]
            if len(self._fetches) >= MAX_FETCHES:
                raise CertificateUnavailable("Too many certificates were asked for in the last minute.")
            self._fetches.append(now)


def _rsa_key(pem: bytes) -> RSAPublicKey | None:
    try:
        key = x509.load_pem_x509_certificate(pem).public_key()
    except ValueError:
        return None
    return key if isinstance(key, RSAPublicKey) else None


shared = Certificates()
