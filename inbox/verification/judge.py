"""Judges a request by the settings and secrets of its source."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from django.utils import timezone

from inbox.incoming import IncomingRequest
from inbox.models import Source
from inbox.secrets import signing_secrets
from inbox.verification.context import Context, public_url, usable
from inbox.verification.results import Verdict, Verification
from inbox.verification.schemes import checks_of

MAPPED = IPv6Network("::ffff:0:0/96")


def verify(
    source: Source, request: IncomingRequest, *, now: datetime | None = None, received_at: datetime | None = None
) -> Verdict:
    """Judge `request`: its signature has to be fresh at `received_at`, the secrets valid `now`.

    Never raises for what was sent. To be called outside a transaction: a certificate may have to be fetched, and
    CertificateUnavailable is raised if it cannot be.
    """
    if not is_allowed_address(source, request.remote_addr):
        return Verdict(Verification.ADDRESS_NOT_ALLOWED)
    if source.is_open:
        return Verdict(Verification.NOT_CONFIGURED)
    now = now or timezone.now()
    context = Context(
        request=request,
        secrets=usable(signing_secrets(source), now),
        now=received_at or now,
        url=public_url(request, source.scheme_settings),
        options=source.scheme_settings,
    )
    return judge(source.scheme, context)


def judge(scheme: str, context: Context) -> Verdict:
    """The verdict of the way of signing that came furthest; the first that verifies ends the search."""
    best = Verdict(Verification.NO_SECRET)
    for check in checks_of(scheme, context.options):
        verdict = check.verify(context)
        if verdict.result == Verification.VERIFIED:
            return replace(verdict, whole=check.signs_body)
        best = max(best, verdict, key=lambda each: each.progress)
    return best


def is_allowed_address(source: Source, address: str | None) -> bool:
    """Whether `source` takes requests from `address`; every address unless it names some."""
    if not source.allowed_addresses:
        return True
    if not address:
        return False
    sender = ip_address(address)
    networks = _networks(tuple(source.allowed_addresses))
    return any(sender.version == network.version and sender in network for network in networks)


@lru_cache(maxsize=256)
def _networks(texts: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [_network(text) for text in texts]


def _network(text: str) -> IPv4Network | IPv6Network:
    """A sender's IPv4-mapped address counts as its IPv4 address, hence such a network as an IPv4 network."""
    network = ip_network(text, strict=False)
    if network.version == 6 and network.subnet_of(MAPPED):
        return IPv4Network((int(network.network_address) - int(MAPPED.network_address), network.prefixlen - 96))
    return network
