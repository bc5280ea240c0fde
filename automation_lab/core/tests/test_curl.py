"""Commands that people copy and run: the same request, and nothing that whoever sent it could make of the shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

import pytest

from automation_lab.core import curl
from automation_lab.core.tests.servers import StubServer, response

KEY_PRESSES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def words(command):
    return shlex.split(command.replace("\\\n", ""))


def test_a_command_survives_quotes_of_every_kind():
    command = curl.command("POST", "http://h/a?b='c'", [["Host", "x"], ["X-A", 'it\'s "quoted"']], text="it's $HOME")

    assert words(command) == [
        *("curl", "-X", "POST", "http://h/a?b='c'"),
        *("-H", 'X-A: it\'s "quoted"'),
        *("-H", "Content-Type:"),
        *("--data-raw", "it's $HOME"),
    ]


def test_nothing_of_a_request_names_a_file_to_be_read():
    command = curl.command("POST", "http://h/", [["@/etc/passwd", "x"], ["Content-Type", "a/b"]], text="@/etc/passwd")

    assert words(command) == [
        *("curl", "-X", "POST", "http://h/", "-H", "Content-Type: a/b", "--data-raw", "@/etc/passwd")
    ]


@pytest.mark.skipif(not os.path.exists("/bin/bash"), reason="needs bash")
@pytest.mark.parametrize(
    "text", ["a\x03\nid; '\\", "\x1b[201~\nid\n", "tab\tand !! and it's", "return\r\n", "\x7f\x15", "ü \x01"]
)
def test_a_pasted_text_presses_no_key_of_the_terminal(text):
    word = curl.quoted(text)

    printed = subprocess.run(["/bin/bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert not KEY_PRESSES.search(word)
    assert printed == text.encode()


@pytest.mark.skipif(not any(os.access(f"{path}/curl", os.X_OK) for path in os.get_exec_path()), reason="needs curl")
@pytest.mark.parametrize(
    ("method", "headers", "text"),
    [
        ("POST", [], '{"a": 1}'),
        ("POST", [["X-Empty", ""], ["X-A", "1"]], "@/etc/hostname"),
        ("PUT", [["Content-Type", "text/plain"]], "it's\n\x03 odd"),
        ("GET", [["X-Empty", ""]], ""),
        ("HEAD", [], ""),
    ],
)
def test_a_command_sends_the_same_request(method, headers, text):
    server = StubServer(response(200))
    url = curl.address(server.url, "/a b/ü", "filter[a]={x}&b=%20")

    command = curl.command(method, url, headers, text=text)
    subprocess.run(["/bin/bash", "-c", command], check=True, capture_output=True, timeout=20)
    server.close()

    head, _, sent = server.requests[0].decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    added = {"Host", "User-Agent", "Accept", "Content-Length"}
    assert line == f"{method} /a%20b/%C3%BC?filter[a]={{x}}&b=%20 HTTP/1.1"
    assert [field.split(": ", 1) for field in fields if field.split(":")[0] not in added] == [
        [name, value] if value else [f"{name}:"] for name, value in headers
    ]
    assert sent == text
