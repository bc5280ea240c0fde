"""How an outbound URL must be written. Strict on purpose: what two parsers could read differently is refused, not repaired."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote

import idna

from automation_lab.core.exceptions import Refused

MAX_URL_CHARACTERS = 2048
MAX_NAME_CHARACTERS = 253
DEFAULT_PORTS = {"http": 80, "https": 443}

IPAddress = IPv4Address | IPv6Address

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_URL = re.compile(r"[A-Za-z]+://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
# With underscores, as container networks name their hosts: those need an allow entry.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_OCTETS = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
# C0 and C1 controls, DEL, space, backslash, and halves of surrogate pairs.
_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")


class Blocked(Refused):
    """A URL or address that the outbound rules refuse. `rule` is a stable id; the text never holds a DNS answer."""

    code = "authorization.ssrf"

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True)
class Target:
    """Where one request goes, read once from the URL and used as it is from then on.

    `host` is an A-label name or the canonical address; `path` is the request target with its query, ASCII only.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: IPAddress | None = None

    @property
    def authority(self) -> str:
        """What the `Host` header says: brackets around IPv6, the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if self.address is not None and self.address.version == 6 else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port


def parse_url(url: str) -> Target:
    """Read `url` into a Target. Raises Blocked with the rule that it breaks; fragments are dropped."""
    check_characters(url)
    scheme = _scheme(url)
    match = _URL.fullmatch(url)
    if match is None:
        raise Blocked("url.syntax", "A URL looks like https://host/path: two slashes after the colon.")
    authority, path, query = match[1], match[2] or "/", match[3] or ""
    host, port = _split_authority(authority)
    name, address = parse_host(host)
    target = quote(path + query, safe="".join(map(chr, range(0x21, 0x7F))))
    return Target(scheme, name, DEFAULT_PORTS[scheme] if port is None else parse_port(port), target, address)


def check_characters(url: str) -> None:
    """Refuse what parsers drop or read differently. Raises Blocked."""
    if not 1 <= len(url) <= MAX_URL_CHARACTERS:
        raise Blocked("url.length", f"A URL has 1 to {MAX_URL_CHARACTERS} characters.")
    if _FORBIDDEN_CHARACTERS.search(url):
        raise Blocked(
            "url.characters", "A URL holds no spaces, control characters or backslashes; percent-encode them."
        )


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    if match is None:
        raise Blocked("url.syntax", "A URL starts with http:// or https://.")
    scheme = match[1].lower()
    if scheme not in DEFAULT_PORTS:
        raise Blocked("url.scheme", "Only http and https URLs are called.")
    return scheme


def _split_authority(authority: str) -> tuple[str, str | None]:
    if "@" in authority:
        raise Blocked("url.userinfo", "A URL holds no user name or password; send them as a header.")
    if authority.startswith("["):
        match = _BRACKETED.fullmatch(authority)
        if match is None:
            raise Blocked("host.ipv6", "An IPv6 address is written in brackets, like [2001:db8::1].")
        return f"[{match[1]}]", match[2]
    host, colon, port = authority.partition(":")
    if ":" in port:
        raise Blocked("host.ipv6", "An IPv6 address is written in brackets, like [2001:db8::1].")
    return host, port if colon else None


def parse_port(text: str) -> int:
    """A port number from its decimal digits. Raises Blocked."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise Blocked("port.syntax", "A port is a number from 1 to 65535.")
    return int(text)


def parse_host(host: str) -> tuple[str, IPAddress | None]:
    """The normal form of a host and its address when it is a literal. Raises Blocked."""
    if host.startswith("["):
        ipv6 = _parse_ipv6(host[1:-1])
        return str(ipv6), ipv6
    name = _lower(host).removesuffix(".")
    if not name:
        raise Blocked("host.empty", "The URL names no host.")
    if len(name) > MAX_NAME_CHARACTERS:
        raise Blocked("host.syntax", f"A host name has at most {MAX_NAME_CHARACTERS} characters.")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        ipv4 = _parse_ipv4(_lower(host))
        return str(ipv4), ipv4
    labels = ".".join(_label(label) for label in name.split("."))
    if len(labels) > MAX_NAME_CHARACTERS:
        raise Blocked("host.syntax", f"A host name has at most {MAX_NAME_CHARACTERS} characters.")
    return labels, None


def _lower(host: str) -> str:
    """Lower case without turning a non-ASCII character into an ASCII one: KELVIN SIGN is not k."""
    return "".join(c.lower() if c.isascii() or not c.lower().isascii() else c for c in host)


def _parse_ipv4(text: str) -> IPv4Address:
    # Shorter, octal and hexadecimal spellings are what resolvers still accept and filters forget.
    if not _OCTETS.fullmatch(text):
        raise Blocked("host.ipv4", "An IPv4 address is four decimal numbers without leading zeros, like 192.0.2.1.")
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise Blocked("host.ipv4", "Each of the four numbers of an IPv4 address is at most 255.") from None


def _parse_ipv6(text: str) -> IPv6Address:
    if "%" in text:
        raise Blocked("host.zone", "An IPv6 address with a zone is not called.")
    try:
        return IPv6Address(text)
    except AddressValueError:
        raise Blocked("host.ipv6", "What stands in the brackets is not an IPv6 address.") from None


def _label(label: str) -> str:
    if label.isascii() and not label.startswith("xn--"):
        if not _LABEL.fullmatch(label):
            raise Blocked(
                "host.syntax", "A host name is made of letters, digits and hyphens, separated by single dots."
            )
        return label
    try:
        return idna.alabel(label).decode("ascii")
    except idna.IDNAError:
        raise Blocked("host.idna", "The host is not a valid internationalised name.") from None
