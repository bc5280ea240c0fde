"""The outbound rules against an independent implementation: nothing that it refuses may pass here.

Where it is the other way round (this module refuses more) nothing is asserted: closed suffixes, single labels, cloud
host agents and IDNA 2008 are stricter here on purpose. The ports of both are the same, so there are no exceptions.
"""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
import ssrfguard

from automation_lab.core.outbound import (
    DEFAULT_PORTS,
    DENIED_IPV4,
    DENIED_IPV6,
    EMBEDDING,
    METADATA_NETWORKS,
    Blocked,
    OutboundPolicy,
    check_addresses,
    check_url,
)
from automation_lab.core.tests import outbound_cases as cases

ORACLE = ssrfguard.Policy(allowed_ports=DEFAULT_PORTS)
POLICY = OutboundPolicy()

PIECES = [
    "127", "0", "1", "8", "93.184.216.34", "0x7f", "0177", "::1", "[::1]", "[2606:4700::1111]", "localhost", "example",
    "com", "xn--bcher-kva", "b\u00fccher", "\u2460", "\uff11", "\u3002", "\u212a", "\u00df", ".", "..", "-", "_", "@", ":", ":80",
    ":443", ":8443", ":22", "/", "//", "\\", "%2e", "%00", "%25lo", "#", "?", "\t", "\u00ad", "internal", "a" * 63, "[", "]",
]  # fmt: skip
SCHEMES = ["http://", "https://", "HTTP://", "http:", "//", "ftp://", "http:///"]


def random_urls(count):
    chooser = random.Random(20)
    for _ in range(count):
        joint = chooser.choice(["", "."])
        host = joint.join(chooser.choices(PIECES, k=chooser.randint(1, 4))) + chooser.choice(
            ["", ".example", ".com:443"]
        )
        yield (
            chooser.choice(SCHEMES[:2] if chooser.random() < 0.8 else SCHEMES)
            + host
            + chooser.choice(["", "/", "/a?b"])
        )


def random_addresses(count):
    """Half of them at the edges of the special ranges, half anywhere."""
    chooser = random.Random(21)
    ranges = [
        *DENIED_IPV4,
        *DENIED_IPV6,
        *EMBEDDING,
        *METADATA_NETWORKS,
        ip_network("2000::/3"),
        ip_network("fc00::/7"),
    ]
    for _ in range(count):
        network = chooser.choice(ranges)
        edge = int(chooser.choice([network.network_address, network.broadcast_address]))
        number = edge + chooser.choice([-1, 0, 1, chooser.randrange(network.num_addresses)])
        kind = IPv4Address if network.version == 4 else IPv6Address
        yield kind(number % (1 << network.max_prefixlen))
        yield IPv4Address(chooser.getrandbits(32))
        yield IPv6Address((1 << 125) | chooser.getrandbits(125))
        yield IPv6Address((0xFFFF << 32) | chooser.getrandbits(32))


def passes_here(url):
    try:
        target = check_url(url, POLICY)
        check_addresses(target, [target.address or cases.PUBLIC_ADDRESS], POLICY)
    except Blocked:
        return False
    return True


def passes_there(url):
    try:
        ORACLE.check_url(url)
    except ssrfguard.SSRFGuardError:
        return False
    return True


def test_no_url_passes_here_that_the_oracle_refuses():
    urls = [*random_urls(6000), *(url for _, url, _ in cases.REFUSED), *cases.MUST_PASS]

    passed = [url for url in urls if passes_here(url)]

    assert len(passed) > 300, "the generator must make URLs that pass, or the comparison says nothing"
    assert [url for url in passed if not passes_there(url)] == []


def test_no_address_passes_here_that_the_oracle_refuses():
    target = check_url("https://example.com/", POLICY)
    passed = 0

    for address in random_addresses(1500):
        try:
            check_addresses(target, [address], POLICY)
        except Blocked:
            continue
        ORACLE.check_address(address)
        passed += 1

    assert passed > 500


def test_the_oracle_can_refuse():
    with pytest.raises(ssrfguard.SSRFGuardError):
        ORACLE.check_url("http://127.0.0.1/")
