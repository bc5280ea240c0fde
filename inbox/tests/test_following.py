"""The commands `forward` and `listen` against scripted labs, and against a real one that is in the middle of things."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from io import StringIO

import httpx
import pytest
from django.core.management import CommandError, call_command

from automation_lab import tokens
from automation_lab.core.exceptions import Invalid
from automation_lab.core.tests.servers import StubServer, response
from automation_lab.serving import servers
from automation_lab.tests.servers import database_environment, free_port, granian_server
from inbox.management.commands import forward, listen
from inbox.streaming.following import Cursor, Failed, Follower, client_for, parse_since

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
JSON = [("Content-Type", "application/json")]


class Enough(Exception):
    """Ends a follower, which by itself goes on for ever."""


def webhook(pk, body=b"{}", **values):
    return {
        "id": pk,
        "source": "github",
        "event_type": "push",
        "status": "received",
        "method": "POST",
        "path": "/v1/webhooks/inbox/github",
        "query_params": [],
        "headers": [["Content-Type", "application/json"]],
        "body_base64": base64.b64encode(body).decode(),
        "size_bytes": len(body),
        "flags": [],
        "received_at": "2026-05-01T12:00:00Z",
        **values,
    }


def answer(*webhooks, cursor, **values):
    body = {"results": webhooks, "cursor": cursor, "retry_after_seconds": 0, "credentials_masked": False, **values}
    return response(200, JSON, json.dumps(body).encode())


@pytest.fixture
def scripted():
    """Starts a server that gives the answers of a list, one by one; the last one again and again."""
    started = []

    def start(*answers):
        left = list(answers)
        server = StubServer(lambda connection, request: connection.sendall(left.pop(0) if left[1:] else left[0]))
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


def follower(server, *, cursor=None, pauses=1, **values):
    """A follower whose `pauses`-th pause ends it, and what it has said."""
    said, left = [], [None] * (pauses - 1)

    def pause(seconds):
        said.append(seconds)
        if not left:
            raise Enough
        left.pop()

    values = {"token": "t", "filters": [("source", "github")], "http": client_for(server.url), **values}
    return Follower(
        server=server.url,
        cursor=cursor or Cursor(server.url, after=0),
        tell=said.append,
        pause=pause,
        **values,
    ), said


def read(follower):
    found = []
    with pytest.raises(Enough):
        found.extend(item["id"] for item in follower.webhooks())
    return found


def asked(server, number):
    return server.requests[number].split(b" ")[1].decode()


# --- following --------------------------------------------------------------------------------------------------------


def test_a_follower_goes_on_from_what_it_was_told(scripted):
    server = scripted(answer(webhook(3), webhook(5), cursor=9), answer(cursor=12, retry_after_seconds=2))

    reader, _ = follower(server)

    assert read(reader) == [3, 5]
    assert [re.search(r"after=(\d+)", asked(server, number))[1] for number in (0, 1)] == ["0", "9"]
    assert "source=github" in asked(server, 0)
    assert b"Authorization: Bearer t\r\n" in server.requests[0]
    assert reader.cursor.after == 12


def test_without_a_place_a_follower_asks_for_one_at_once(scripted):
    server = scripted(answer(cursor=7, retry_after_seconds=2))

    reader, _ = follower(server, cursor=Cursor(server.url))

    assert read(reader) == []
    assert ("after" not in asked(server, 0), "wait=0" in asked(server, 0), reader.cursor.after) == (True, True, 7)


def test_a_start_in_the_past_counts_until_there_is_a_place(scripted):
    server = scripted(answer(cursor=7), answer(cursor=7, retry_after_seconds=1))

    reader, _ = follower(server, cursor=Cursor(server.url), since=NOW)

    assert read(reader) == []
    assert "since=2026-05-01T12%3A00%3A00%2B00%3A00" in asked(server, 0)
    assert ("since" not in asked(server, 1), "after=7" in asked(server, 1)) == (True, True)


@pytest.mark.parametrize("trouble", [response(503), response(429, [("Retry-After", "7")]), response(500), b"nonsense"])
def test_a_lab_that_is_away_is_asked_again(scripted, trouble):
    server = scripted(trouble, trouble, answer(webhook(1), cursor=1), answer(cursor=1, retry_after_seconds=3))

    reader, said = follower(server, pauses=3)

    assert read(reader) == [1]
    pauses = [7, 7] if b"Retry-After" in trouble else [0.5, 1.0]
    assert [item for item in said if not isinstance(item, str)] == [*pauses, 3]
    assert [item.split(": ")[0].rpartition(" ")[2] for item in said if isinstance(item, str)][-1] == "back."


def test_a_lab_that_cannot_be_reached_is_asked_again():
    server = StubServer()
    server.close()

    reader, said = follower(server, pauses=2)

    assert read(reader) == []
    assert "Trying again" in said[0]
    assert [item for item in said if isinstance(item, str)] == said[:1]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b'{"detail": "This token is unknown."}', "This token is unknown"),
        (403, b'{"detail": "No scope."}', "No scope"),
        (400, b'{"detail": "No filter."}', "No filter"),
        (400, b'{"detail": "No such id.", "errors": [{"code": "unknown_cursor"}]}', "No such id. .--restart does"),
        (400, b'{"errors": null}', "does not look like an Automation Lab"),
        (400, b'{"errors": ["x"]}', "does not look like an Automation Lab"),
        (400, b'{"errors": {"a": 1}}', "does not look like an Automation Lab"),
        (404, b"<html>", "does not look like an Automation Lab"),
        (200, b"[]", "does not look like an Automation Lab"),
        (200, b"hello", "does not look like an Automation Lab"),
    ],
)
def test_what_will_not_change_ends_a_follower(scripted, status, body, words):
    reader, _ = follower(scripted(response(status, JSON, body)))

    with pytest.raises(Failed, match=words):
        next(reader.webhooks())


def test_masked_credentials_are_said_once(scripted):
    masked = {"credentials_masked": True}
    server = scripted(answer(cursor=1, **masked), answer(cursor=1, retry_after_seconds=1, **masked))

    reader, said = follower(server)
    read(reader)

    assert [item for item in said if isinstance(item, str)] == [
        "This token may not change webhooks: headers with credentials come masked."
    ]


# --- the place --------------------------------------------------------------------------------------------------------


def test_a_place_is_kept_when_the_next_webhook_is_asked_for(scripted, tmp_path):
    server = scripted(answer(webhook(3), webhook(5), cursor=9))
    reader, _ = follower(server, cursor=Cursor(server.url, tmp_path / "below" / "state.json", after=0))
    webhooks = reader.webhooks()

    next(webhooks)
    before = (tmp_path / "below" / "state.json").exists()
    next(webhooks)
    again = Cursor(server.url, tmp_path / "below" / "state.json")
    again.load()

    assert (before, again.after) == (False, 3)
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"server": "http://a"}', '{"server": "http://a", "after": "x"}'])
def test_a_broken_state_file_is_named(tmp_path, text):
    path = tmp_path / "state.json"
    path.write_text(text)

    with pytest.raises(Failed, match="remove it"):
        Cursor("http://a", path).load()


def test_the_state_of_another_lab_is_not_used(tmp_path):
    path = tmp_path / "state.json"
    Cursor("http://a", path).save(7)

    with pytest.raises(Failed, match="belongs to http://a"):
        Cursor("http://b", path).load()


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("2h", NOW - timedelta(hours=2)),
        ("1d", NOW - timedelta(days=1)),
        ("2026-04-01T00:00:00Z", datetime(2026, 4, 1, tzinfo=UTC)),
        ("2026-04-01T00:00:00", datetime(2026, 4, 1, tzinfo=UTC)),
    ],
)
def test_a_beginning_is_read(text, instant):
    assert parse_since(text, now=NOW) == instant


@pytest.mark.parametrize("text", ["2", "2w", "yesterday", "-2h", "2026-13-01T00:00:00Z", ""])
def test_a_beginning_that_makes_no_sense_is_refused(text):
    with pytest.raises(Invalid, match="--since"):
        parse_since(text, now=NOW)


@pytest.mark.parametrize("url", ["", "lab", "ftp://lab", "http://", "http://lab:x", "http://169.254.169.254"])
def test_an_address_that_makes_no_sense_is_refused(url):
    with pytest.raises(Invalid):
        client_for(url)


# --- the commands -----------------------------------------------------------------------------------------------------


def test_a_line_cannot_move_the_cursor_of_the_terminal():
    shown = listen.line(webhook(1, b"\x1b[2J\x07one\ntwo", event_type="a\x1b[1mb"))

    assert shown.isprintable()
    assert shown.endswith("github  a [1mb  #1  received  12 B   [2J one two")


def test_listen_prints_objects(scripted, monkeypatch):
    server = scripted(answer(webhook(3), cursor=3), response(404))
    out = StringIO()

    with pytest.raises(CommandError):
        call_command("listen", "github", server=server.url, since="1h", format="json", stdout=out, stderr=StringIO())

    assert json.loads(out.getvalue())["id"] == 3


def test_forward_needs_an_address():
    with pytest.raises(CommandError, match="--to"):
        call_command("forward", "github")


def test_forward_sends_the_same_bytes_and_says_what_came_of_it(scripted, tmp_path):
    lab = scripted(answer(webhook(3, b"\xff\x00", query_params=[["a", "1"]]), cursor=3), response(401))
    local = scripted(response(418))
    out = StringIO()

    with pytest.raises(CommandError, match="scope inbox:write"):
        call_command(
            "forward", to=f"{local.url}/hook", server=lab.url, state=tmp_path / "s", since="1h", stdout=out,
            stderr=StringIO(),
        )  # fmt: skip

    assert local.requests[0].startswith(b"POST /hook?a=1 HTTP/1.1\r\n")
    assert local.requests[0].endswith(b"\r\n\r\n\xff\x00")
    assert b"X-Automation-Lab-Replay-Of: 3\r\n" in local.requests[0]
    assert re.fullmatch(r"\d\d:\d\d:\d\d  github  push  #3  418  \d+ ms\n", out.getvalue())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Going on after #7 (--restart"),
        ({"since": "1h"}, "Going on after #7, not from --since (--restart"),
        ({"since": "1h", "restart": True}, ""),
    ],
)
def test_forward_says_where_it_goes_on(scripted, tmp_path, given, words):
    lab, err = scripted(response(401)), StringIO()
    Cursor(lab.url, tmp_path / "s").save(7)

    with pytest.raises(CommandError):
        call_command("forward", to=lab.url, server=lab.url, state=tmp_path / "s", stderr=err, **given)

    assert words in err.getvalue()
    assert ("Going on" in err.getvalue()) == bool(words)
    assert ("after=7" in asked(lab, 0)) == bool(words)


@pytest.mark.parametrize("status", ["processed", "failed"])
def test_a_status_that_comes_later_is_refused(status):
    with pytest.raises(CommandError, match="received"):
        call_command("listen", "--status", status)


def test_a_webhook_without_its_body_is_not_sent():
    target = forward.Target("http://127.0.0.1:9", verify_tls=True, command=forward.Command())

    assert "#3  not sent: its body was removed" in target.send(webhook(3, flags=["payload_removed"]))


def test_an_answer_that_breaks_off_is_told_and_not_repeated(scripted, tmp_path):
    lab = scripted(answer(webhook(3), webhook(4), cursor=4), response(401))
    local = scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", response(200))
    out = StringIO()

    with pytest.raises(CommandError):
        call_command(
            "forward", to=local.url, server=lab.url, state=tmp_path / "s", since="1h", stdout=out, stderr=StringIO()
        )

    first, second = out.getvalue().splitlines()
    assert "#3  error communication" in first
    assert "#4  200" in second


def test_while_nothing_listens_a_webhook_waits(monkeypatch):
    port, started, said = free_port(), [], []
    command = forward.Command(stderr=StringIO())
    monkeypatch.setattr(command, "say", said.append)
    monkeypatch.setattr(forward.time, "sleep", lambda seconds: started.append(StubServer(response(204), port=port)))

    shown = forward.Target(f"http://127.0.0.1:{port}", verify_tls=True, command=command).send(webhook(3))
    started[0].close()

    assert "#3  204" in shown
    assert [text.endswith("Waiting for it.") for text in said] == [True]


def test_a_token_is_read_from_a_file(tmp_path, scripted):
    lab = scripted(response(404))
    (tmp_path / "token").write_text("from-file\n")

    with pytest.raises(CommandError):
        call_command("listen", server=lab.url, token_file=tmp_path / "token", stderr=StringIO())

    assert b"Authorization: Bearer from-file\r\n" in lab.requests[0]


# --- in the middle of things ------------------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_forward_that_is_killed_and_started_again_brings_every_webhook_in_order(admin_user, tmp_path):
    """A hundred here; by hand with five hundred."""
    count = int(os.environ.get("FORWARDED_WEBHOOKS", "100"))
    _, plain = tokens.create_token(user=admin_user, name="forward", scopes=["inbox:write"], expires_at=None)
    (tmp_path / "token").write_text(plain)
    local = StubServer(response(200))
    with granian_server() as lab, httpx.Client(base_url=lab.url, timeout=30) as sender:
        command = [sys.executable, "manage.py", "forward", "github", "stripe", "--to", local.url]
        command += ["--server", lab.url, "--token-file", str(tmp_path / "token"), "--state", str(tmp_path / "state")]
        first = _start(command)
        _wait(lambda: (tmp_path / "state").exists())
        ids = [_post(sender, number) for number in range(count // 2)]
        _wait(lambda: len(local.requests) >= count // 4)
        first.kill()
        first.wait(30)
        ids += [_post(sender, number) for number in range(count // 2, count)]
        second = _start(command)
        _wait(lambda: len(set(_received(local))) >= count)
        second.send_signal(signal.SIGINT)
        output = second.communicate(timeout=30)[0].decode()
    first.stdout.close()
    local.close()

    received = _received(local)
    # A kill between an answer and its note leads to one webhook that comes twice, side by side.
    assert [pk for number, pk in enumerate(received) if number == 0 or received[number - 1] != pk] == ids
    assert len(received) <= count + 1
    assert second.returncode == 0
    assert "Stopped." in output


def _start(command):
    return subprocess.Popen(
        command, cwd=servers.BASE_DIR, env=database_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _post(sender, number):
    source = ("github", "stripe", "other")[number % 3] if number % 10 == 9 else "github"
    sent = sender.post(f"/v1/webhooks/inbox/{source}", json={"number": number}).json()["id"]
    return sent if source != "other" else sender.post("/v1/webhooks/inbox/stripe", json={"number": number}).json()["id"]


def _received(local):
    return [int(re.search(rb"X-Automation-Lab-Replay-Of: (\d+)", request)[1]) for request in list(local.requests)]


def _wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
