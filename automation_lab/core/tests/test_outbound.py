"""The outbound rules without any network: what is refused, what passes, what an allow entry opens."""

from __future__ import annotations

import socket

import httpcore
import pytest

from automation_lab.core.http import HttpClient, HttpError
from automation_lab.core.outbound import (
    AllowEntry,
    Blocked,
    OutboundPolicy,
    check_addresses,
    check_url,
    explain,
    parse_allow,
    parse_ports,
    policy_from_settings,
)
from automation_lab.core.tests import outbound_cases as cases


class RecordingNetwork:
    """Stands in for resolver and connector; nothing can be reached through it."""

    def __init__(self, answers=None):
        self.answers = answers or {}
        self.lookups = []
        self.connects = []

    def resolve(self, host, port):
        self.lookups.append(host)
        return self.answers.get(host, [cases.PUBLIC_ADDRESS])

    async def connect(self, address, port, seconds):
        self.connects.append((address, port))
        raise httpcore.ConnectError("nothing listens here")


@pytest.fixture(autouse=True)
def no_real_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a real look-up or connection was tried: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def allowing(text, **fields):
    return OutboundPolicy(allow=parse_allow(text), **fields)


def rule_of(url, policy=OutboundPolicy()):  # noqa: B008  # frozen
    with pytest.raises(Blocked) as caught:
        check_url(url, policy)
    return caught.value.rule


@pytest.mark.parametrize(("number", "url", "rule"), cases.REFUSED, ids=[f"case-{case[0]}" for case in cases.REFUSED])
def test_a_bad_url_is_refused_and_no_packet_is_sent(number, url, rule):
    network = RecordingNetwork(cases.ANSWERS)
    client = HttpClient(OutboundPolicy(), resolver=network.resolve, connector=network.connect)

    with pytest.raises(HttpError) as caught:
        client.request("GET", url)

    assert (caught.value.code, caught.value.rule) == ("authorization.ssrf", rule)
    assert not caught.value.request_sent
    assert not caught.value.retryable
    assert network.connects == []
    assert str(caught.value).startswith(f"destination not allowed ({rule})")


def test_the_list_of_bad_urls_is_complete():
    assert [number for number, _, _ in cases.REFUSED] == list(range(1, 98))


@pytest.mark.parametrize("url", cases.MUST_PASS)
def test_a_public_url_reaches_the_connector(url):
    network = RecordingNetwork()
    client = HttpClient(OutboundPolicy(), resolver=network.resolve, connector=network.connect)

    with pytest.raises(HttpError) as caught:
        client.request("GET", url)

    assert caught.value.code == "communication.connect"
    assert len(network.connects) == 1


def test_a_url_is_read_into_its_normal_form():
    target = check_url("HTTPS://B\u00fccher.Example.:8443/caf\u00e9?q=\u00fc&x=%20#part", OutboundPolicy())

    assert target.url == "https://xn--bcher-kva.example:8443/caf%C3%A9?q=%C3%BC&x=%20"


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", "url.length"),
        ("https://example.com/" + "a" * 2029, "url.length"),
        ("https://example.com/a b", "url.characters"),
        ("https://example.com/\x85", "url.characters"),
        ("https://example.com/\ud800", "url.characters"),
        ("https://::1/", "host.ipv6"),
        ("https://[::1]x/", "host.ipv6"),
        ("https://[v1.a]/", "host.ipv6"),
        ("https://example..com/", "host.syntax"),
        ("https://exa*mple.com/", "host.syntax"),
        ("https://-a.example/", "host.syntax"),
        ("https://" + "a" * 64 + ".example/", "host.syntax"),
        ("https://" + "a." * 126 + "example/", "host.syntax"),
        ("https://xn--a.example/", "host.idna"),
        ("https://\u212aelvin.example/", "host.idna"),
        ("https://1.2.3.256/", "host.ipv4"),
        ("https://example.0x1/", "host.ipv4"),
        ("https://example.com:/", "port.syntax"),
        ("https://example.com:080/", "port.syntax"),
        ("https://example.com:9000/", "port.closed"),
        ("https://db.internal/", "host.suffix"),
        ("https://1.0.0.127.in-addr.arpa/", "host.suffix"),
        ("https://INSTANCE-DATA/", "metadata"),
        ("https://my_host.example/", "host.underscore"),
    ],
)
def test_a_url_that_could_be_read_in_two_ways_or_is_local_is_refused(url, rule):
    assert rule_of(url) == rule


def test_own_hosts_and_what_is_below_them_are_refused():
    policy = OutboundPolicy(own_hosts=frozenset({"lab.example"}))

    assert rule_of("https://lab.example/", policy) == "host.own"
    assert rule_of("https://www.lab.example/", policy) == "host.own"
    assert check_url("https://otherlab.example/", policy).host == "otherlab.example"


def test_https_only_refuses_http_even_with_an_allow_entry():
    policy = allowing("127.0.0.1:80", https_only=True)

    assert rule_of("http://127.0.0.1/", policy) == "url.https"


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9000/"),
        ("10.1.0.0/16:443", "https://10.1.2.3/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("[fd00:1::/32]:443", "https://[fd00:1::5]/"),
        ("internal.example:*", "http://internal.example:9000/"),
        ("stub:80", "http://stub/"),
        ("my_service:80", "http://my_service/"),
        ("localhost:9000", "http://localhost:9000/"),
        ("10.0.0.1:5432", "http://10.0.0.1:5432/"),
    ],
)
def test_an_allow_entry_opens_its_host_and_port(entry, url):
    assert check_url(url, allowing(entry)).url == url


@pytest.mark.parametrize(
    ("entry", "url", "rule"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9001/", "port.closed"),
        ("127.0.0.1:9000", "http://127.0.0.2:9000/", "port.closed"),
        ("127.0.0.1:8080", "http://localhost:8080/", "host.single_label"),
        ("127.0.0.1:80", "http://[::ffff:127.0.0.1]/", "address.embedded"),
        ("10.0.0.1:*", "http://10.0.0.1:22/", "port.forbidden"),
        ("internal.example:*", "http://internal.example:6379/", "port.forbidden"),
        ("internal.example:9000", "http://www.internal.example:9000/", "port.closed"),
        ("0.0.0.0/0:*", "http://169.254.169.254/", "metadata"),
        ("0.0.0.0/0:*", "http://100.100.100.200/", "metadata"),
        ("[::/0]:*", "http://[::ffff:169.254.169.254]/", "metadata"),
        ("[::/0]:*", "http://[2002:a9fe:a9fe::1]/", "metadata"),
        ("[::/0]:*", "http://[fd00:ec2::254]/", "metadata"),
    ],
)
def test_an_allow_entry_opens_nothing_else(entry, url, rule):
    assert rule_of(url, allowing(entry)) == rule


def test_a_name_may_lead_into_an_allowed_network_on_its_port_only():
    policy = allowing("10.1.0.0/16:9000")
    target = check_url("http://svc.example.com:9000/", policy)

    assert [str(address) for address in check_addresses(target, ["10.1.0.5"], policy)] == ["10.1.0.5"]
    with pytest.raises(Blocked, match="destination not allowed") as caught:
        check_addresses(target, ["93.184.216.34"], policy)
    assert caught.value.rule == "port.closed"


def test_an_allowed_name_may_be_private_but_never_metadata():
    policy = allowing("internal.example:443")
    target = check_url("https://internal.example/", policy)

    assert len(check_addresses(target, ["10.0.0.1", "::1"], policy)) == 2
    with pytest.raises(Blocked) as caught:
        check_addresses(target, ["10.0.0.1", "169.254.169.254"], policy)
    assert caught.value.rule == "metadata"


def test_all_answers_are_judged_and_eight_distinct_ones_considered():
    target = check_url("https://example.com/", OutboundPolicy())
    public = [f"93.184.216.{number}" for number in range(20)]

    assert [str(address) for address in check_addresses(target, [*public[:1], *public], OutboundPolicy())] == public[:8]
    with pytest.raises(Blocked):
        check_addresses(target, [*public, "10.0.0.1"], OutboundPolicy())


@pytest.mark.parametrize("answer", ["fe80::1%lo", "2606:4700::1%eth0", "not an address", "::ffff:8.8.8.8"])
def test_an_odd_answer_is_refused_without_saying_what_it_was(answer):
    target = check_url("https://example.com/", OutboundPolicy())

    with pytest.raises(Blocked) as caught:
        check_addresses(target, [answer], OutboundPolicy())

    assert str(caught.value) == "destination not allowed"


def test_allow_entries_are_read_from_text():
    entries = parse_allow("127.0.0.1:9000, 10.1.0.0/16:443,\n Internal.Example.:*  [::1]:8080")

    assert [str(entry) for entry in entries] == [
        "127.0.0.1:9000",
        "10.1.0.0/16:443",
        "internal.example:*",
        "[::1]:8080",
    ]
    assert entries[2] == AllowEntry("internal.example", None, None)
    assert parse_allow("") == ()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("127.0.0.1", "write HOST:PORT"),
        ("::1:80", "write HOST:PORT"),
        (":80", "write HOST:PORT"),
        ("[::1:80", "write HOST:PORT"),
        ("example.com:http", "write a port or"),
        ("example.com:0", "from 1 to 65535"),
        ("*.example.com:443", "name each host"),
        ("*:443", "name each host"),
        ("10.1.2.3/16:443", "write an address or a network"),
        ("[zz]:443", "write an address or a network"),
        ("1.2.3.999:443", "write an address or a network"),
        ("exa mple!.com:443", "write HOST:PORT"),
        ("169.254.169.254:80", "never opened"),
        ("[fd00:ec2::254]:80", "never opened"),
        ("metadata.google.internal:80", "never opened"),
    ],
)
def test_a_wrong_allow_entry_says_what_to_write(text, hint):
    with pytest.raises(ValueError, match="OUTBOUND_ALLOW") as caught:
        parse_allow(text)

    assert hint in str(caught.value)


def test_ports_are_read_from_text():
    assert parse_ports("80, 443 9000") == {80, 443, 9000}
    assert parse_ports("*") is None


@pytest.mark.parametrize("text", ["", "80,http", "70000", "0", "-1", "80,*"])
def test_wrong_ports_are_refused_with_the_setting_named(text):
    with pytest.raises(ValueError, match="OUTBOUND_PORTS"):
        parse_ports(text)


def test_a_forbidden_port_is_pointed_to_the_allow_list():
    with pytest.raises(ValueError, match="write HOST:5432 in OUTBOUND_ALLOW"):
        parse_ports("80,5432")


def test_any_port_never_means_the_forbidden_ones():
    policy = OutboundPolicy(ports=None)

    assert check_url("http://example.com:9000/", policy).port == 9000
    assert rule_of("http://example.com:25/", policy) == "port.forbidden"


def test_the_policy_comes_from_the_settings(settings):
    settings.OUTBOUND_ALLOW = "127.0.0.1:9000"
    settings.OUTBOUND_PORTS = "443"
    settings.PUBLIC_URL = "https://Lab.Example:8000"
    settings.ALLOWED_HOSTS = ["*", ".team.example"]

    policy = policy_from_settings()

    assert policy.ports == {443}
    assert policy.own_hosts == {"lab.example", "team.example"}
    assert check_url("http://127.0.0.1:9000/", policy).port == 9000
    assert policy_from_settings() is policy


def test_an_explanation_ends_with_the_rule_that_decides():
    policy = allowing("127.0.0.1:9000")

    opened = explain("http://127.0.0.1:9000/", policy)
    closed = explain("http://example.com:9001/", policy)
    rebound = explain("http://example.com/", policy, ["93.184.216.34", "10.0.0.1"])

    assert (opened[-1].rule, opened[-1].outcome) == ("allow", "allowed")
    assert (closed[-1].rule, closed[-1].outcome) == ("port.closed", "refused")
    assert (rebound[-1].rule, rebound[-1].outcome) == ("address.private", "refused")
    assert "10.0.0.1" in rebound[-1].detail
    assert explain("ftp://x/", policy)[-1].rule == "url.scheme"
