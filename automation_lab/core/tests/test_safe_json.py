"""JSON from outside: every trap is stored with its flag or refused with its reason, and nothing raises."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from automation_lab.core.exceptions import Invalid
from automation_lab.core.safe_json import parse_api_body, parse_webhook_body

JSON = "application/json"
PIECES = [
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    '"',
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "NaN",
    "1e400",
    "-",
    "0",
    "9" * 30,
    "a",
    " ",
]
TEXTS = st.text() | st.lists(st.sampled_from(PIECES)).map("".join)
STORABLE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STORABLE,
    lambda children: st.lists(children) | st.dictionaries(STORABLE, children),
)
BODIES = st.binary() | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))


# --- the inbox


@pytest.mark.parametrize(
    ("raw", "value", "flags"),
    [
        (b'{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}, []),
        (b"null", None, []),
        (b' "text" ', "text", []),
        (b"", None, ["empty"]),
        (b"  ", None, ["not_json"]),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}, ["utf8_bom"]),
        ('{"a": 1}'.encode("utf-16"), None, ["utf16"]),
        ('{"a": 1}'.encode("utf-16-le"), None, ["utf16"]),
        ('{"a": 1}'.encode("utf-16-be"), None, ["utf16"]),
        (b'{"a": "\xff"}', None, ["invalid_utf8"]),
        (b'{"a": "\xed\xa0\x80"}', None, ["invalid_utf8"]),
        (bytes(range(256)), None, ["invalid_utf8"]),
        (b"\0", None, ["not_json"]),
        (b'{"a": ', None, ["not_json"]),
        (b'{"commits": [...]}', None, ["not_json"]),
        (b'{"a": 1} x', None, ["not_json"]),
        (b'{"a": "\0"}', None, ["not_json"]),
        (b'{"a": 1, "a": 2}', {"a": 2}, ["duplicate_keys"]),
        (b'{"a": NaN}', None, ["non_finite"]),
        (b"[-Infinity]", None, ["non_finite"]),
        (b"[1e400]", None, ["non_finite"]),
        (b"[1e-400]", [0.0], []),
        (b'["\\u0000x"]', ["\ufffdx"], ["nul_replaced"]),
        (b'{"\\u0000": 1}', {"\ufffd": 1}, ["nul_replaced"]),
        (b'["\\ud800"]', ["\ufffd"], ["surrogate_replaced"]),
        (b'["\\uDFFFx", "\\u0000"]', ["\ufffdx", "\ufffd"], ["surrogate_replaced", "nul_replaced"]),
        (b'{"\\u0000": 1, "\\ufffd": 2}', {"\ufffd": 2}, ["nul_replaced", "duplicate_keys"]),
        (b'["\\ud83d\\ude00"]', ["\U0001f600"], []),
        (b'["\\\\u0000"]', ["\\u0000"], []),
        (b"[18446744073709551616]", [18446744073709551616], []),
        (b"[" + b"9" * 4300 + b"]", [10**4300 - 1], []),
        (b"[" + b"9" * 5000 + b"]", None, ["big_integer"]),
        (b"[" * 200 + b"]" * 200, json.loads("[" * 200 + "]" * 200), []),
        (b"[" * 201 + b"]" * 201, None, ["too_deep"]),
        (b"[" * 200_000, None, ["too_deep"]),
        (b'{"a":' * 100_000, None, ["too_deep"]),
        (b'["' + b"[" * 300 + b'\\"[", "]"]', ["[" * 300 + '"[', "]"], []),
    ],
)
def test_a_webhook_body_is_parsed_or_flagged(raw, value, flags):
    parsed = parse_webhook_body(raw, JSON)

    assert (parsed.value, parsed.flags) == (value, flags)


@pytest.mark.parametrize(
    ("raw", "content_type", "value"),
    [
        (b'{"a": 1}', "application/x-www-form-urlencoded", {"a": 1}),
        (b" [1]", "text/plain", [1]),
        (b"12345", "application/vnd.github+json; charset=utf-8", 12345),
        (b"12345", "", 12345),
        (b"12345", "text/plain", None),
        (b"a=1&b=2", "application/x-www-form-urlencoded", None),
        (b"<a/>", "application/xml", None),
        (b'{"a": 1}', "application/json; charset=nope", {"a": 1}),
    ],
)
def test_what_is_declared_as_something_else_is_parsed_only_when_it_looks_like_json(raw, content_type, value):
    parsed = parse_webhook_body(raw, content_type)

    assert parsed.value == value
    assert parsed.flags == ([] if value is not None else ["not_json"])


@given(BODIES, st.sampled_from([JSON, "", "text/plain"]) | st.text())
def test_no_body_makes_the_inbox_fail_and_a_missing_value_is_explained(raw, content_type):
    parsed = parse_webhook_body(raw, content_type)

    assert parsed.value is not None or parsed.flags or raw.strip() == b"null"
    json.dumps(parsed.value, allow_nan=False, ensure_ascii=False).encode()


@given(JSON_VALUES)
def test_ordinary_json_comes_back_exactly(value):
    parsed = parse_webhook_body(json.dumps(value, ensure_ascii=False).encode(), JSON)

    assert (parsed.value, parsed.flags) == (value, [])


@pytest.mark.django_db
@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS.map(lambda text: text.replace('"', "")), min_size=1))
def test_postgresql_takes_every_parsed_value(texts):
    raw = ("[" + ",".join(f'"{text}"' for text in texts) + "]").encode("utf-8", "surrogatepass")

    parsed = parse_webhook_body(raw, JSON)

    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [json.dumps(parsed.value)])
        assert json.loads(cursor.fetchone()[0]) == parsed.value


@pytest.mark.parametrize("piece", [b'"', b"\\", b'"\\', b'["', b'{"a":1,"a":', b"9", b"1.", b"\\u0000"])
def test_hostile_repetition_is_parsed_in_linear_time(piece):
    parse_webhook_body(b"[" * 201 + piece * (500_000 // len(piece)), JSON)
    parse_webhook_body(b"[" + piece * (500_000 // len(piece)), JSON)


# --- the API


@pytest.mark.parametrize("raw", [b'{"a": [1, 2.5, "\xc3\xa4"]}', b"[]", b"null", b" 12 ", b"[" + b"9" * 1000 + b"]"])
def test_an_exact_body_is_given_as_it_is(raw):
    assert parse_api_body(raw) == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "code", "detail"),
    [
        (b"", "empty", "is empty"),
        (b" \n", "empty", "is empty"),
        (b"\xef\xbb\xbf{}", "bom", "byte order mark"),
        ("{}".encode("utf-16"), "bom", "byte order mark"),
        (b'{"a": "\xff"}', "invalid_utf8", "byte 8"),
        (b'{"a": 1,\n "b" 2}', "syntax", "at line 2, column 6"),
        (b"{} x", "syntax", "Extra data"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "duplicate_key", 'The key "b" occurs twice'),
        (b"[NaN]", "non_finite", "NaN"),
        (b"[Infinity]", "non_finite", "Infinity"),
        (b"[1e400]", "non_finite", "range"),
        (b'["\\u0000"]', "nul", "NUL"),
        (b'{"\\u0000": 1}', "nul", "NUL"),
        (b'["\\ud800"]', "surrogate", "surrogate"),
        (b'{"a": {"\\udfff": 1}}', "surrogate", "surrogate"),
        (b"[" * 65 + b"]" * 65, "too_deep", "deeper than 64"),
        (b"[" * 200_000, "too_deep", "deeper than 64"),
        (b"[" + b"9" * 1001 + b"]", "big_integer", "1,000 digits"),
        (b"[" + b"9" * 5000 + b"]", "big_integer", "1,000 digits"),
        (json.dumps([{str(n): n} for n in range(10_001)]).encode(), "too_many_keys", "10,000 keys"),
    ],
)
def test_an_inexact_body_is_refused_with_its_reason(raw, code, detail):
    with pytest.raises(Invalid, match=detail) as caught:
        parse_api_body(raw)

    assert caught.value.code == code
    assert caught.value.errors == [{"field": "", "code": code, "detail": str(caught.value)}]


def test_limits_of_the_api_are_inclusive():
    assert parse_api_body(b"[" * 64 + b"]" * 64)
    assert len(parse_api_body(json.dumps(dict.fromkeys(map(str, range(10_000)))).encode())) == 10_000
    assert parse_api_body(b'["' + b":" * 20_000 + b'"]')


def test_a_long_duplicate_key_is_shortened_in_the_message():
    key = b"k" * 100_000

    with pytest.raises(Invalid) as caught:
        parse_api_body(b'{"%s": 1, "%s": 2}' % (key, key))

    assert len(str(caught.value)) < 200


@given(BODIES)
def test_no_body_makes_the_api_fail_otherwise(raw):
    try:
        value = parse_api_body(raw)
    except Invalid as exc:
        assert exc.errors[0]["detail"]
    else:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
