"""Redaction: the three passes, what must survive them, and that they cannot be made to fail."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automation_lab.core import registry
from automation_lab.core.redaction import redact_body, redact_data, redact_headers, redact_query, redact_text
from automation_lab.core.redaction.masks import live_secrets

LIVE = 'pa"ss/wörd+42'
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["password", "a=b", "://x@"]),
    lambda children: st.lists(children) | st.dictionaries(st.text() | st.sampled_from(["token", "name"]), children),
)


@pytest.fixture
def live_values(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(*values: str) -> None:
        monkeypatch.setitem(registry.secret_values._entries, "test", lambda: list(values))
        live_secrets.refresh()

    yield use
    monkeypatch.undo()
    live_secrets._values.pop("test", None)
    live_secrets.refresh()


def shape_of(value: Any) -> Any:
    if isinstance(value, dict):
        return [shape_of(child) for child in value.values()]
    if isinstance(value, list):
        return [shape_of(child) for child in value]
    return type(value)


# --- headers


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Authorization", "Bearer abc.def", "Bearer [redacted]"),
        ("AUTHORIZATION", "Basic dXNlcjpwYXNz", "Basic [redacted]"),
        ("HTTP_AUTHORIZATION", "Token abcdef", "Token [redacted]"),
        ("authorization", "hunter two", "[redacted]"),
        ("X-Api-Key", "abc", "[redacted]"),
        ("X_Api_Key", "abc", "[redacted]"),
        ("X-Custom-Token", "abc", "[redacted]"),
        ("X-My-Credentials", "abc", "[redacted]"),
        ("X-Hub-Signature-256", "sha256=abc", "[redacted]"),
        ("Cookie", "sid=abc; theme=dark", "sid=[redacted]; theme=[redacted]"),
        ("Set-Cookie", "sid=abc; Path=/; HttpOnly", "sid=[redacted]; Path=/; HttpOnly"),
        ("Authorization", "", ""),
        ("Location", "https://example.com/in?code=1&access_token=abc", None),
    ],
)
def test_sensitive_headers_keep_only_scheme_and_cookie_names(name, value, expected):
    expected = expected if expected is not None else "https://example.com/in?code=1&access_token=[redacted]"

    assert redact_headers([(name, value)]) == [[name, expected]]


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Author", "Authority", "Content-Type", "Idempotency-Key", "ETag"])
def test_ordinary_headers_survive(name):
    assert redact_headers([(name, "value-123")]) == [[name, "value-123"]]


def test_repeated_headers_and_their_order_are_kept():
    pairs = [("Accept", "a"), ("Cookie", "x=1"), ("Accept", "b")]

    assert redact_headers(pairs) == [["Accept", "a"], ["Cookie", "x=[redacted]"], ["Accept", "b"]]


# --- keys


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db_password",
        "DB-Password",
        "user[password]",
        "clientSecret",
        "api_key",
        "x.api.key",
        "refresh token",
        "CARD_NUMBER",
        "pin",
        "session-id",
        "Authorization",
        "secrets",
        "Cookie",
    ],
)
def test_values_of_sensitive_keys_are_masked_at_any_depth(key):
    value = {"a": [{key: "hunter2", "b": 1}]}

    assert redact_data(value) == {"a": [{key: "[redacted]", "b": 1}]}


@pytest.mark.parametrize(
    "key", ["author", "authority", "tokens_used", "secretary", "keyboard", "X-Request-Id", "passport"]
)
def test_keys_that_only_contain_such_a_word_survive(key):
    assert redact_data({key: "plain"}) == {key: "plain"}
    assert redact_query(f"{key}=plain") == f"{key}=plain"
    assert redact_text(f"{key}=plain") == f"{key}=plain"


def test_everything_below_a_sensitive_key_is_masked_with_its_shape_kept():
    value = {"credentials": {"user": "u", "n": 12, "f": 1.5, "on": True, "none": None, "empty": "", "list": ["a"]}}

    assert redact_data(value) == {
        "credentials": {
            "user": "[redacted]",
            "n": 0,
            "f": 0.0,
            "on": True,
            "none": None,
            "empty": "",
            "list": ["[redacted]"],
        }
    }


def test_headers_inside_json_are_recognised_as_pairs_and_as_named_values():
    value = {"headers": [["X-Gitlab-Token", "abc"], ["Accept", "x"]], "set": {"name": "API_KEY", "value": "abc"}}

    assert redact_data(value) == {
        "headers": [["X-Gitlab-Token", "[redacted]"], ["Accept", "x"]],
        "set": {"name": "API_KEY", "value": "[redacted]"},
    }


def test_nesting_deeper_than_the_stack_is_redacted():
    value: Any = {"password": "hunter2"}
    for _ in range(5000):
        value = [value]

    result = redact_data(value)

    for _ in range(5000):
        result = result[0]
    assert result == {"password": "[redacted]"}


def test_queries_are_redacted_as_text_and_as_pairs():
    assert redact_query("a=1&token=abc&b=&api%5Fkey=x&a=2") == "a=1&token=[redacted]&b=&api%5Fkey=[redacted]&a=2"
    assert redact_query([("a", "1"), ("token", "abc"), ("token", "")]) == [
        ["a", "1"],
        ["token", "[redacted]"],
        ["token", ""],
    ]


def test_a_credential_hidden_by_encoding_in_a_query_is_masked():
    assert (
        redact_query("next=https%3A%2F%2Fu%3Apw%40host%2F&q=a%20b") == "next=https%3A%2F%2F[redacted]%40host%2F&q=a%20b"
    )


# --- values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connect to postgresql://lab:hunter2@db:5432/x failed", "connect to postgresql://[redacted]@db:5432/x failed"),
        (r"https:\/\/lab:hunter2@db\/x", r"https:\/\/[redacted]@db\/x"),
        ("sent Bearer abcdefgh12345 to", "sent Bearer [redacted] to"),
        (f"jwt {JWT}.", "jwt [redacted]."),
        (f"key {PEM} end", "key [redacted] end"),
        (PEM[:60], "[redacted]"),
        ("{'password': 'hunter2', 'user': 'u'}", "{'password': '[redacted]', 'user': 'u'}"),
        ('{"password": "a\\"", "pin": 1234, "token": "", "secret": "cut o', None),
        ("failed for password=hunter2, user=u", "failed for password=[redacted], user=u"),
        ('query="token=abcdef x"', 'query="token=[redacted] x"'),
        ("<wsse:Password Type='x'>hunter2</wsse:Password>", "<wsse:Password Type='x'>[redacted]</wsse:Password>"),
        ("card 4111 1111 1111 1111, 5500005555555559.", "card [redacted], [redacted]."),
    ],
)
def test_credentials_in_text_are_masked(text, expected):
    expected = expected or '{"password": "[redacted]", "pin": 0, "token": "", "secret": "[redacted]"'

    assert redact_text(text) == expected


@pytest.mark.parametrize(
    "credential",
    [
        "sk_live_",
        "rk_live_",
        "whsec_",
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "xoxb-",
        "xoxp-",
        "glpat-",
        "npm_",
        "pypi-",
        "shpat_",
        "lab_",
        "AKIA",
        "ASIA",
        "AIza",
        "SG.abcdefghijklmnop.",
    ],
)
def test_credentials_with_a_known_prefix_are_masked(credential):
    text = f"see {credential}ABCDEFGHIJKLMNOPQRSTUVWX, please"

    assert redact_text(text) == "see [redacted], please"


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112 and trace 12345678901234567890123",
        "at 1700000000006 ms",  # passes Luhn, and is an instant
        "commit 4111111111111111abcdef",
        "tokens_used=5 keyboard=us",
        "lab_executions npm_config_cache pypi-simple AKIA",
        "https://example.com/a@b?author=x",
        "The bearer of bad news",
        'the author\'s "secretary": fine',
    ],
)
def test_ordinary_text_survives(text):
    assert redact_text(text) == text


def test_card_numbers_among_json_numbers_become_zero():
    assert redact_data([4111111111111111, 4111111111111112, 1700000000006, 12.5]) == [
        0,
        4111111111111112,
        1700000000006,
        12.5,
    ]


@pytest.mark.parametrize(
    "spelling",
    [
        LIVE,
        quote(LIVE),
        quote(LIVE, safe=""),
        quote_plus(LIVE),
        json.dumps(LIVE)[1:-1],
        json.dumps(LIVE, ensure_ascii=False)[1:-1],
        LIVE.encode().hex(),
        LIVE.encode().hex().upper(),
    ],
)
def test_a_live_secret_is_masked_in_every_spelling(live_values, spelling):
    live_values(LIVE)

    assert redact_text(f"<{spelling}>") == "<[redacted]>"
    assert redact_data({spelling: [spelling]}) == {"[redacted]": ["[redacted]"]}


@pytest.mark.parametrize("before", ["", "u", "u:", "us:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_live_secret_is_masked_inside_base64_at_any_alignment(live_values, before, encode):
    live_values("correct-horse-battery")

    encoded = encode(f"{before}correct-horse-battery-staple".encode()).decode()

    rest = redact_text(encoded).split("[redacted]")

    assert len(rest) == 2
    masked = "A" * (len(encoded) - len("".join(rest)))
    assert b"correct" not in (decoded := base64.b64decode(masked.join(rest), altchars=b"-_"))
    assert b"battery" not in decoded


def test_a_live_secret_is_masked_in_headers_queries_numbers_and_paths(live_values):
    live_values("sesame-open", "987654321")

    assert redact_headers([("X-Note", "say sesame-open")]) == [["X-Note", "say [redacted]"]]
    assert redact_query("q=sesame-open&n=987654321") == "q=[redacted]&n=[redacted]"
    assert redact_data({"n": 987654321, "m": 987654320}) == {"n": 0, "m": 987654320}
    assert redact_text("GET /in/sesame-open/x") == "GET /in/[redacted]/x"


def test_short_values_and_parts_of_the_mask_are_not_masked(live_values):
    live_values("abcde", "redacted")

    assert redact_text("abcde redacted") == "abcde redacted"


def test_keys_that_become_equal_keep_their_values(live_values):
    live_values("sesame-one", "sesame-two")

    assert sorted(redact_data({"sesame-one": 1, "sesame-two": 2}).values()) == [1, 2]


# --- bodies


def test_a_json_body_is_redacted_and_stays_json():
    body = b'{"user": "u", "password": "hunter2", "n": 18446744073709551616, "s": "\xc3\xa4"}'

    text = redact_body(body, "application/json; charset=utf-8", 8000)

    assert text == '{"user":"u","password":"[redacted]","n":18446744073709551616,"s":"ä"}'


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/vnd.x+json"]
)
def test_json_is_recognised_under_any_textual_content_type(content_type):
    assert redact_body(b' {"token": "a b"}', content_type, 8000) == '{"token":"[redacted]"}'


def test_broken_json_is_redacted_as_text():
    assert redact_body(b'{"password": "hunter2", "x"', "application/json", 8000) == '{"password": "[redacted]", "x"'


def test_json_too_deep_to_parse_is_redacted_as_text():
    body = b"[" * 100_000 + b'{"password": "hunter2"}'

    text = redact_body(body, "application/json", 200_000)

    assert "hunter2" not in text


def test_a_form_body_is_redacted():
    text = redact_body(b"user=u&password=hunter2", "application/x-www-form-urlencoded", 8000)

    assert text == "user=u&password=[redacted]"


def test_a_multipart_body_keeps_names_but_neither_secrets_nor_files():
    body = (
        b'--X\r\nContent-Disposition: form-data; name="password"\r\n\r\nhunter2\r\n'
        b'--X\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
        b'--X\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n\x00\xff\r\n--X--\r\n'
    )

    text = redact_body(body, 'multipart/form-data; boundary="X"', 8000)

    assert "hunter2" not in text
    assert 'name="password"\r\n\r\n[redacted]\r\n' in text
    assert "hello" in text
    assert "[binary, 2 bytes]" in text


@pytest.mark.parametrize("body", [bytes(range(256)), b"\x1f\x8b\x08abc\xff\xfe", '{"password":"x"}'.encode("utf-16")])
def test_a_binary_body_is_only_counted(body):
    assert redact_body(body, "application/json", 8000) == f"[binary, {len(body)} bytes]"


def test_a_long_body_is_cut_after_redaction_at_a_whole_character():
    text = redact_body("password=hunter2 ääää".encode(), "text/plain", 22)

    assert text == "password=[redacted] ä… [cut, 25 bytes in all]"


def test_a_body_whose_last_character_was_cut_is_still_text():
    assert redact_body("password=x ä".encode()[:-1], "text/plain", 8000) == "password=[redacted] "


def test_the_text_of_a_body_is_storable():
    assert redact_body(b'{"a": "\\ud800\\u0000"}', "application/json", 8000) == '{"a":"?\\u0000"}'


def test_an_empty_body_is_empty():
    assert redact_body(b"", "application/json", 8000) == ""


# --- properties


@given(JSON_VALUES)
def test_redacting_json_keeps_types_and_shape_and_is_idempotent(value):
    once = redact_data(value)

    assert shape_of(once) == shape_of(value)
    assert repr(redact_data(once)) == repr(once)


@given(st.text() | st.text(alphabet="ab4 =&:/@\"'<>-.\\[]{}").map(lambda text: f"password={text}Bearer {text}"))
def test_redacting_text_is_idempotent(text):
    once = redact_text(text)

    assert redact_text(once) == once
    assert redact_query(redact_query(text)) == redact_query(text)


@given(
    st.binary() | st.text().map(str.encode),
    st.sampled_from(["application/json", "", "multipart/form-data; boundary=a"]),
)
def test_no_body_makes_redaction_fail(body, content_type):
    text = redact_body(body, content_type, 50)

    assert "\0" not in text
    text.encode()


@pytest.mark.parametrize(
    "piece",
    ["-----BEGIN PRIVATE KEY-----", "://a", "eyJ", "'a", "a=", "4 ", "<a ", '"', "\\", "SG.aaaaaaaaa", "9", "bearer "],
)
def test_hostile_repetition_is_redacted_in_linear_time(piece):
    redact_text(piece * (200_000 // len(piece)))  # a quadratic pattern would need minutes here
