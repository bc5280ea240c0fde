"""Who called: the peer, or what a trusted proxy says about it."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

MAX_HOPS = 50


def client_address(request: HttpRequest) -> str:
    """The address of the caller, "" when the server does not tell it (a unix socket).

    X-Forwarded-For counts only when the peer is in TRUSTED_PROXIES; then the right-most hop that is not itself trusted
    is the caller, as everything left of it can be forged.
    """
    peer = _parse(request.META.get("REMOTE_ADDR", ""))
    if peer is None:
        return ""
    trusted = _networks(settings.TRUSTED_PROXIES)
    if not trusted or not _is_in(peer, trusted):
        return str(peer)
    return str(_first_untrusted(peer, request.META.get("HTTP_X_FORWARDED_FOR", ""), trusted))


def _first_untrusted(
    peer: IPv4Address | IPv6Address, forwarded: str, trusted: tuple[IPv4Network | IPv6Network, ...]
) -> IPv4Address | IPv6Address:
    caller = peer
    for hop in reversed(forwarded.split(",")[-MAX_HOPS:]):
        address = _parse(hop)
        if address is None:
            return caller  # garbage: nothing left of it can be believed
        caller = address
        if not _is_in(address, trusted):
            return caller
    return caller


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """The address in `text`, also as `1.2.3.4:80`, `[::1]:80` or IPv4-mapped IPv6; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _is_in(address: IPv4Address | IPv6Address, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


@lru_cache(maxsize=8)
def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """The CIDRs of TRUSTED_PROXIES; a wrong one is refused at start by checks.py."""
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
