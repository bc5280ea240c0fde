from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from automation_lab import addresses


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_port_that_answers_is_refused_with_the_option_to_use(listener):
    port = listener.getsockname()[1]

    with pytest.raises(addresses.AddressProblem, match=f"Port {port} .* in use already: .* --live-port"):
        addresses.check_port("127.0.0.1", port, "--live-port")


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
def test_a_port_that_answers_is_refused_under_other_names_of_this_machine(listener, host):
    with pytest.raises(addresses.AddressProblem):
        addresses.check_port(host, listener.getsockname()[1], "--port")


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the system cannot share ports")
def test_a_port_that_its_server_would_share_is_refused():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()

        with pytest.raises(addresses.AddressProblem, match="in use"):
            addresses.check_port("127.0.0.1", server.getsockname()[1], "--port")


def test_a_free_port_is_accepted(listener):
    port = listener.getsockname()[1]
    listener.close()

    addresses.check_port("127.0.0.1", port, "--port")


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(addresses.AddressProblem, match="1 to 65535"):
        addresses.check_port("127.0.0.1", port, "--port")


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(addresses.AddressProblem, match="no address of this machine"):
        addresses.check_port("203.0.113.7", 8000, "--port")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_addresses_are_shown_as_a_browser_takes_them(host, url):
    assert addresses.url(host, 80) == url
