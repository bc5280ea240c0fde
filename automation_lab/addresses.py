"""Where the lab listens: tests before the start, and the addresses that users type."""

from __future__ import annotations

import errno
import ipaddress
import socket


class AddressProblem(ValueError):
    """The text says what to do."""


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable(host: str) -> str:
    """An address of this machine under which a server bound to `host` answers."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def url(host: str, port: int) -> str:
    shown = reachable(host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def check_port(host: str, port: int, option: str) -> None:
    """Raises AddressProblem unless a server can be started there. granian would silently share a port with another one."""
    if not 1 <= port <= 65_535:
        raise AddressProblem(f"{option} {port} is no port: write a number from 1 to 65535.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        raise AddressProblem(_reason(exc, host, port, option)) from exc
    if _answers(reachable(host), port):  # a server that lets others share its port
        raise AddressProblem(_in_use(host, port, option))


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _reason(exc: OSError, host: str, port: int, option: str) -> str:
    if exc.errno == errno.EADDRINUSE:
        return _in_use(host, port, option)
    if exc.errno == errno.EACCES:
        return f"Port {port} may not be used by an ordinary user: choose one above 1023 with {option}."
    return f"{host} is no address of this machine: choose another one with --host, such as 127.0.0.1."


def _in_use(host: str, port: int, option: str) -> str:
    return f"Port {port} of {host} is in use already: choose another one with {option}."
