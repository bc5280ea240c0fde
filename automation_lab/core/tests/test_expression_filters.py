"""Each filter and test: what it gives and what it refuses."""

from __future__ import annotations

import pytest

from automation_lab.core import expressions
from automation_lab.core.expressions import FILTERS, TESTS, ExpressionError

CONTEXT = {
    "items": [
        {"sku": "b", "qty": 3, "price": {"net": 1.5}},
        {"sku": "a", "qty": 12, "price": {"net": 2}},
        {"sku": "c", "qty": 12},
    ],
    "mixed": [1, "a"],
    "o": {"b": 1, "a": {"x": [10, 20]}},
}

CASES = [
    ("none | default(1)", 1),
    ("o | get('a.x.1')", 20),
    ("o | get('a.y.1', 'no')", "no"),
    ("o | get('a.y')", None),
    ("o | json", '{"b":1,"a":{"x":[10,20]}}'),
    ("'é' | json", '"é"'),
    ("'{\"a\": [1, 2.0, null]}' | from_json", {"a": [1, 2.0, None]}),
    ("12 | string", "12"),
    ("' 42 ' | int", 42),
    ("'-7' | int", -7),
    ("'2.9' | int", 2),
    ("2.9 | int", 2),
    ("true | int", 1),
    ("'9007199254740993' | int", 2**53 + 1),
    ("'1.5' | float", 1.5),
    ("2 | float", 2.0),
    ("'Yes' | bool", True),
    ("'0' | bool", False),
    ("false | bool", False),
    ("'ab' | upper", "AB"),
    ("'AB' | lower", "ab"),
    ("'ada lovelace' | title", "Ada Lovelace"),
    ("' x ' | trim", "x"),
    ("'abcdef' | truncate(4)", "abc…"),
    ("'abcdef' | truncate(length=4, end='')", "abcd"),
    ("'abc' | truncate(4)", "abc"),
    ("'a-b-c' | replace('-', '+')", "a+b+c"),
    ("'a, b' | split(', ')", ["a", "b"]),
    ("' a  b ' | split", ["a", "b"]),
    ("[1, true, none, 'x'] | join('-')", "1-true--x"),
    ("'abc' | contains('b')", True),
    ("[1, 2] | contains(2.0)", True),
    ("[] | contains(1)", False),
    ("o | contains('b')", True),
    ("'refs/heads/main' | starts_with('refs/')", True),
    ("'a.json' | ends_with('.xml')", False),
    ("2.5 | round", 3),
    ("-2.5 | round", -3),
    ("1.005 | round(2)", 1.01),
    ("7 | round(2)", 7),
    ("-3 | abs", 3),
    ("[3, 1.5] | min", 1.5),
    ("['b', 'a'] | max", "b"),
    ("[1, 2.5] | sum", 3.5),
    ("items | sum('qty')", 27),
    ("[] | sum", 0),
    ("'abc' | length", 3),
    ("o | length", 2),
    ("items | first | get('sku')", "b"),
    ("[1, 2] | last", 2),
    ("[1, 2] | reverse", [2, 1]),
    ("[3, 1, 2] | sort", [1, 2, 3]),
    ("[3, 1, 2] | sort(reverse=true)", [3, 2, 1]),
    ("items | sort('sku') | pluck('sku')", ["a", "b", "c"]),
    ("[1, 1.0, true, '1', [1], [1]] | unique", [1, True, "1", [1]]),
    ("items | unique('qty') | pluck('sku')", ["b", "a"]),
    ("items | where('qty', 'gt', 10) | pluck('sku')", ["a", "c"]),
    ("items | where('qty', 'le', 3) | pluck('sku')", ["b"]),
    ("items | where('price.net', 'lt', 2) | pluck('sku')", ["b"]),
    ("items | where('sku', 'in', ['a', 'c']) | length", 2),
    ("items | where('sku', 'ne', 'a') | length", 2),
    ("items | where('price', 'exists') | length", 2),
    ("items | where('price', 'missing') | pluck('sku')", ["c"]),
    ("items | where('sku', 'starts_with', 'b') | length", 1),
    ("[{'on': true}, {'on': 1}, {}] | where('on')", [{"on": True}]),
    ("items | pluck('price.net')", [1.5, 2, None]),
    ("o | keys", ["b", "a"]),
    ("{'a': 1} | values", [1]),
    ("{'a': 1} | items", [{"key": "a", "value": 1}]),
    ("{'a': 1} | merge({'b': 2, 'a': 3})", {"a": 3, "b": 2}),
    ("'2026-03-29T01:30:00Z' | date('%d.%m.%Y %H:%M', 'Europe/Berlin')", "29.03.2026 03:30"),
    ("0 | date", "1970-01-01T00:00:00+00:00"),
    ("'2026-03-01T00:00:00Z' | add_seconds(-1)", "2026-02-28T23:59:59Z"),
    ("'1970-01-01T00:01:00Z' | timestamp", 60),
    ("'ü' | b64encode", "w7w="),
    ("'w7w=' | b64decode", "ü"),
    ("'a b/c' | urlencode", "a%20b%2Fc"),
    ("{'q': 'a b', 'n': 1} | urlencode", "q=a%20b&n=1"),
    ("'abc' | sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
]


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_a_filter_gives_this(source, expected):
    value = expressions.parse("{{ " + source + " }}").render(CONTEXT)

    assert value == expected
    assert type(value) is type(expected)


def test_no_filter_is_left_untested():
    used = " ".join(source for source, _ in CASES)

    assert [name for name in FILTERS if f"| {name}" not in used] == []


@pytest.mark.parametrize(
    "source",
    [
        "none | upper",
        "1 | upper",
        "'abc' | int",
        "'1_000' | int",
        "'1e30' | int",
        "'nan' | float",
        "'inf' | float",
        "'1_0' | float",
        "[] | int",
        "'maybe' | bool",
        "'{' | from_json",
        "'NaN' | from_json",
        "1 | from_json",
        "'a' | replace('', 'b')",
        "'a' | split('')",
        "[] | first",
        "'' | last",
        "[] | min",
        "mixed | max",
        "mixed | sort",
        "[none, 1] | sort",
        "items | sort('price.net')",
        "mixed | sum",
        "[true] | sum",
        "5 | length",
        "items | where('qty', 'gt', '10')",
        "items | where('qty', 'like', 1)",
        "o | where('a')",
        "'x' | pluck('a')",
        "[1] | keys",
        "'nonsense' | date",
        "0 | date('%d', 'Mars/Olympus')",
        "0 | date('%d', '../../etc/passwd')",
        "0 | date('%9999999d')",
        "0 | date('%')",
        "1e300 | date",
        "0 | add_seconds(1e18)",
        "'***' | b64decode",
        "'/w==' | b64decode",
        "'abc' | truncate('3')",
        "1.5 | round(true)",
        "[{}] | sha256",
    ],
)
def test_a_filter_refuses_what_does_not_fit(source):
    with pytest.raises(ExpressionError) as caught:
        expressions.parse("{{ " + source + " }}").render(CONTEXT)

    assert caught.value.code in {"expression.type", "expression.limit"}


@pytest.mark.parametrize(
    ("name", "fitting", "other"),
    [
        ("none", "none", "0"),
        ("null", "none", "''"),
        ("true", "true", "1"),
        ("false", "false", "0"),
        ("boolean", "false", "0"),
        ("number", "1.5", "true"),
        ("integer", "1", "1.0"),
        ("float", "1.0", "1"),
        ("string", "''", "1"),
        ("list", "[]", "{}"),
        ("sequence", "[]", "'a'"),
        ("object", "{}", "[]"),
        ("mapping", "{}", "[]"),
        ("empty", "[]", "0"),
        ("defined", "1", "nope"),
        ("undefined", "nope", "1"),
    ],
)
def test_a_test_tells_apart(name, fitting, other):
    assert name in TESTS
    assert expressions.evaluate_condition(f"{fitting} is {name}", CONTEXT)
    assert not expressions.evaluate_condition(f"{other} is {name}", CONTEXT)
    assert expressions.evaluate_condition(f"{other} is not {name}", CONTEXT)
