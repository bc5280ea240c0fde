"""The outbound rules: where a request of this installation may go. Pure: no look-up, no socket.

Order: cloud metadata is always refused; then an entry of OUTBOUND_ALLOW opens its host and port; then the refusals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from automation_lab.core.outbound.syntax import Blocked, IPAddress, Target, parse_host, parse_port, parse_url

__all__ = [
    "AllowEntry",
    "Blocked",
    "Finding",
    "OutboundPolicy",
    "Target",
    "check_addresses",
    "check_url",
    "explain",
    "parse_allow",
    "parse_ports",
    "policy_from_settings",
]

IPNetwork = IPv4Network | IPv6Network

MAX_ANSWERS = 64
"""A name with more addresses than this is refused."""
MAX_CONSIDERED = 8
"""All answers are judged, so many are handed on."""

DESTINATION_NOT_ALLOWED = "destination not allowed"

# Remote shells, mail, databases and cluster control: a request there can do harm whatever its body says.
FORBIDDEN_PORTS = frozenset(
    {0, 22, 25, 53, 110, 143, 445, 465, 587, 993, 2375, 2379, 3306, 5432, 6379, 6443, 9200, 11211, 27017}
)
DEFAULT_PORTS = frozenset({80, 443, 8080, 8443})

METADATA_NAMES = frozenset(
    {
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "instance-data",
        "instance-data.ec2.internal",
    }
)
LOCAL_SUFFIXES = (
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "home.arpa",
    "onion",
    "in-addr.arpa",
    "ip6.arpa",
)


def _networks(text: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(network) for network in text.split())


# The link-local range of the big clouds, Alibaba, the Azure host agent, Oracle, and the IPv6 forms of EC2, Google,
# Oracle and OpenStack.
METADATA_NETWORKS = _networks(
    "169.254.0.0/16 100.100.100.200/32 168.63.129.16/32 192.0.0.192/32 "
    "fd00:ec2::/32 fd20:ce::254/128 fd00:c1::a9fe:a9fe/128 fe80::a9fe:a9fe/128"
)
# Written out because `ipaddress.is_global` calls NAT64, multicast and some anycast ranges global.
DENIED_IPV4 = _networks(
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
    "203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32"
)
GLOBAL_IPV6 = IPv6Network("2000::/3")
DENIED_IPV6 = _networks("2001::/23 2001:db8::/32 2002::/16 3fff::/20")
# Forms that carry an IPv4 address in their last 32 bits: mapped, compatible, translated, NAT64 and its local range.
EMBEDDING = _networks("::ffff:0:0/96 ::/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48")


@dataclass(frozen=True)
class AllowEntry:
    """One host or network with one port; `port` None is every port but the forbidden ones."""

    host: str
    network: IPNetwork | None
    port: int | None

    def opens(self, port: int) -> bool:
        return port not in FORBIDDEN_PORTS if self.port is None else port == self.port

    def covers(self, address: IPAddress, port: int) -> bool:
        return self.network is not None and address in self.network and self.opens(port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.network is not None and self.network.version == 6 else self.host
        return f"{host}:{'*' if self.port is None else self.port}"


@dataclass(frozen=True)
class OutboundPolicy:
    """What one installation opens. `ports` None is every port but the forbidden ones; `own_hosts` are refused."""

    allow: tuple[AllowEntry, ...] = ()
    ports: frozenset[int] | None = DEFAULT_PORTS
    own_hosts: frozenset[str] = frozenset()
    https_only: bool = False

    def entry_for(self, target: Target) -> AllowEntry | None:
        for entry in self.allow:
            if entry.host == target.host and entry.network is None and entry.opens(target.port):
                return entry
        return self.entry_for_address(target.address, target.port) if target.address is not None else None

    def entry_for_address(self, address: IPAddress, port: int) -> AllowEntry | None:
        return next((entry for entry in self.allow if entry.covers(address, port)), None)

    def opens_port(self, port: int) -> bool:
        return port not in FORBIDDEN_PORTS and (self.ports is None or port in self.ports)

    def has_network_on(self, port: int) -> bool:
        return any(entry.network is not None and entry.opens(port) for entry in self.allow)


@dataclass(frozen=True)
class Finding:
    """What one rule said: `outcome` is passed, allowed (nothing after it is asked) or refused."""

    rule: str
    outcome: str
    detail: str


def check_url(url: str, policy: OutboundPolicy) -> Target:
    """Judge `url` without a look-up; addresses of a name are judged by check_addresses. Raises Blocked."""
    target = parse_url(url)
    for finding in _judge_target(target, policy):
        if finding.outcome == "refused":
            raise Blocked(finding.rule, finding.detail)
    return target


def check_addresses(target: Target, addresses: Sequence[str | IPAddress], policy: OutboundPolicy) -> list[IPAddress]:
    """Judge all `addresses` of `target`; one denied address refuses them all, as mixed answers are the mark of
    rebinding. Returns the first distinct ones in order. Raises Blocked.
    """
    if not addresses:
        raise Blocked("dns.empty", DESTINATION_NOT_ALLOWED)
    if len(addresses) > MAX_ANSWERS:
        raise Blocked("dns.answers", DESTINATION_NOT_ALLOWED)
    judged: dict[IPAddress, None] = {}
    for text in addresses:
        address = _parse_address(text)
        finding = _judge_address(target, address, policy)
        if finding.outcome == "refused":
            raise Blocked(finding.rule, finding.detail)
        judged[address] = None
    return list(judged)[:MAX_CONSIDERED]


def explain(url: str, policy: OutboundPolicy, addresses: Sequence[str] = ()) -> list[Finding]:
    """Every rule that was asked about `url`, in order; the last one decides. For the operator: shows addresses."""
    try:
        target = parse_url(url)
    except Blocked as blocked:
        return [Finding(blocked.rule, "refused", blocked.message)]
    read = f"{target.scheme}, host {target.host}, port {target.port}"
    findings = [Finding("url", "passed", read), *_judge_target(target, policy)]
    given = [target.address] if target.address is not None else [_parse_address(text) for text in addresses]
    for address in given:
        if findings[-1].outcome == "refused":
            break
        finding = _judge_address(target, address, policy)
        findings.append(Finding(finding.rule, finding.outcome, f"{address}: {finding.detail}"))
    return findings


def _judge_target(target: Target, policy: OutboundPolicy) -> Iterator[Finding]:
    """The rules on scheme, host and port, in their order, up to the one that decides."""
    if target.host in METADATA_NAMES or (target.address is not None and _is_metadata(target.address)):
        yield Finding("metadata", "refused", "Cloud metadata services are never called.")
        return
    yield Finding("metadata", "passed", "not a cloud metadata service")
    if policy.https_only and target.scheme != "https":
        yield Finding("url.https", "refused", "This installation calls https URLs only.")
        return
    entry = policy.entry_for(target)
    if entry is not None:
        yield Finding("allow", "allowed", f"OUTBOUND_ALLOW opens {entry}")
        return
    yield Finding("allow", "passed", "no entry of OUTBOUND_ALLOW for this host and port")
    for finding in (_judge_port(target, policy), _judge_host(target, policy)):
        yield finding
        if finding.outcome == "refused":
            return


def _judge_port(target: Target, policy: OutboundPolicy) -> Finding:
    if target.port in FORBIDDEN_PORTS:
        return Finding("port.forbidden", "refused", f"Port {target.port} is never called without an own allow entry.")
    if policy.opens_port(target.port):
        return Finding("port", "passed", f"port {target.port} is open")
    if target.address is None and policy.has_network_on(target.port):
        return Finding("port", "passed", f"port {target.port} is open if the name leads into an allowed network")
    return Finding("port.closed", "refused", f"Port {target.port} is not in OUTBOUND_PORTS.")


def _judge_host(target: Target, policy: OutboundPolicy) -> Finding:
    if any(_is_below(target.host, own) for own in policy.own_hosts):
        return Finding("host.own", "refused", "This is a host of this installation itself.")
    if target.address is not None:
        rule = _address_rule(target.address)
        if rule:
            return Finding(rule, "refused", "This address is not on the public internet.")
        return Finding("host", "passed", "an address on the public internet")
    if "_" in target.host:
        return Finding("host.underscore", "refused", "A public host name holds no underscore.")
    if "." not in target.host:
        return Finding("host.single_label", "refused", "A host name without a dot is a local name.")
    if any(_is_below(target.host, suffix) for suffix in LOCAL_SUFFIXES):
        return Finding("host.suffix", "refused", "This host name belongs to a local network.")
    return Finding("host", "passed", "a public host name")


def _judge_address(target: Target, address: IPAddress, policy: OutboundPolicy) -> Finding:
    if _is_metadata(address):
        return Finding("metadata", "refused", DESTINATION_NOT_ALLOWED)
    entry = policy.entry_for(target) or policy.entry_for_address(address, target.port)
    if entry is not None:
        return Finding("allow", "allowed", f"OUTBOUND_ALLOW opens {entry}")
    if not policy.opens_port(target.port):
        return Finding("port.closed", "refused", DESTINATION_NOT_ALLOWED)
    rule = _address_rule(address)
    if rule:
        return Finding(rule, "refused", DESTINATION_NOT_ALLOWED)
    return Finding("address", "passed", "on the public internet")


def _address_rule(address: IPAddress) -> str:
    """The rule that keeps `address` from counting as public, or an empty string."""
    if isinstance(address, IPv4Address):
        return "address.private" if _within(address, DENIED_IPV4) else ""
    if address.scope_id is not None:
        return "address.zone"
    if _within(address, EMBEDDING):
        return "address.embedded"
    return "" if address in GLOBAL_IPV6 and not _within(address, DENIED_IPV6) else "address.private"


def _is_metadata(address: IPAddress) -> bool:
    return any(_within(each, METADATA_NETWORKS) for each in (address, *_embedded(address)))


def _embedded(address: IPAddress) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 form may lead to through a translator, 6to4 or Teredo."""
    if isinstance(address, IPv4Address):
        return []
    found = [IPv4Address(int(address) & 0xFFFFFFFF)] if _within(address, EMBEDDING) else []
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.append(address.teredo[1])
    return found


def _within(address: IPAddress, networks: tuple[IPNetwork, ...]) -> bool:
    return any(address in network for network in networks)


def _is_below(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def _parse_address(text: str | IPAddress) -> IPAddress:
    if isinstance(text, IPv4Address | IPv6Address):
        return text
    try:
        return ip_address(text)
    except ValueError:
        raise Blocked("dns.address", DESTINATION_NOT_ALLOWED) from None


def parse_allow(text: str) -> tuple[AllowEntry, ...]:
    """Read OUTBOUND_ALLOW: `127.0.0.1:9000, 10.1.0.0/16:443, internal.example:*, [::1]:8080`. Raises ValueError."""
    return tuple(_parse_entry(entry) for entry in text.replace(",", " ").split())


def _parse_entry(text: str) -> AllowEntry:
    host, colon, port_text = text.rpartition(":")
    if not colon or not host or host.count("[") != host.count("]") or (":" in host and not host.startswith("[")):
        raise ValueError(
            f"OUTBOUND_ALLOW: {text!r} needs a host and a port: write HOST:PORT, like 127.0.0.1:9000, 10.1.0.0/16:443, "
            "[fd00::/8]:443 or internal.example:*."
        )
    port = None if port_text == "*" else _read_port(port_text, f"OUTBOUND_ALLOW: {text!r}: write a port or * after it")
    network = _read_network(host, text)
    if network is None:
        return AllowEntry(_read_name(host, text), None, port)
    return AllowEntry(_show(network), network, port)


def _read_network(host: str, text: str) -> IPNetwork | None:
    inner = host.strip("[]")
    if "/" not in inner and not host.startswith("[") and not inner.replace(".", "").isdigit():
        return None
    try:
        network = ip_network(inner)
    except ValueError as exc:
        raise ValueError(f"OUTBOUND_ALLOW: {text!r}: {exc}; write an address or a network like 10.1.0.0/16.") from None
    if any(network.version == never.version and network.subnet_of(never) for never in METADATA_NETWORKS):  # type: ignore[arg-type]  # versions are equal
        raise ValueError(f"OUTBOUND_ALLOW: {text!r} is a cloud metadata address, which is never opened; remove it.")
    return network


def _show(network: IPNetwork) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _read_name(host: str, text: str) -> str:
    if "*" in host:
        raise ValueError(f"OUTBOUND_ALLOW: {text!r}: * stands for a port only; name each host, or write a network.")
    try:
        name, _ = parse_host(host)
    except Blocked as blocked:
        raise ValueError(f"OUTBOUND_ALLOW: {text!r}: {blocked.message}") from None
    if name in METADATA_NAMES:
        raise ValueError(f"OUTBOUND_ALLOW: {text!r} is a cloud metadata service, which is never opened; remove it.")
    return name


def parse_ports(text: str) -> frozenset[int] | None:
    """Read OUTBOUND_PORTS: `80,443,8080`; `*` (None) is every port but the forbidden ones. Raises ValueError."""
    words = text.replace(",", " ").split()
    if words == ["*"]:
        return None
    ports = frozenset(_read_port(word, f"OUTBOUND_PORTS: {word!r} is no port: write numbers or *") for word in words)
    if not ports:
        raise ValueError("OUTBOUND_PORTS is empty: write port numbers separated by commas, like 80,443, or *.")
    forbidden = sorted(ports & FORBIDDEN_PORTS)
    if forbidden:
        raise ValueError(
            f"OUTBOUND_PORTS: port {forbidden[0]} is opened for single hosts only: write HOST:{forbidden[0]} in "
            "OUTBOUND_ALLOW."
        )
    return ports


def _read_port(text: str, problem: str) -> int:
    try:
        port = parse_port(text)
    except Blocked as blocked:
        raise ValueError(f"{problem}. {blocked.message}") from None
    if port == 0:
        raise ValueError(f"{problem}. A port is a number from 1 to 65535.")
    return port


def policy_from_settings() -> OutboundPolicy:
    """The policy of this installation, from OUTBOUND_ALLOW, OUTBOUND_PORTS, PUBLIC_URL and ALLOWED_HOSTS."""
    from django.conf import settings

    return _policy(settings.OUTBOUND_ALLOW, settings.OUTBOUND_PORTS, settings.PUBLIC_URL, tuple(settings.ALLOWED_HOSTS))


@lru_cache(maxsize=8)
def _policy(allow: str, ports: str, public_url: str, allowed_hosts: tuple[str, ...]) -> OutboundPolicy:
    own = {host.strip(".[]").lower() for host in (*allowed_hosts, urlsplit(public_url).hostname or "")}
    return OutboundPolicy(parse_allow(allow), parse_ports(ports), frozenset(own - {"", "*"}))
