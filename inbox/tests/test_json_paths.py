"""JSON whose keys copy their paths."""

from __future__ import annotations

import html
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from inbox.console.json_paths import MOST_KEYS, clickable_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


def paths(value):
    return paths_of(json.dumps(value))


def paths_of(sent):
    return [html.unescape(path) for path in re.findall(r'data-copy-text="([^"]*)"', clickable_json(sent, "body"))]


def shown(value):
    return shown_of(json.dumps(value))


def shown_of(sent):
    """The text that a reader sees, without the copy button of the whole."""
    text = clickable_json(sent, "body").replace("Copy</button>", "", 1)
    return html.unescape(re.sub(r"<[^>]*>", "", text))


def test_a_key_has_the_path_that_a_filter_takes():
    value = {"repository": {"full_name": "octo/x"}, "commits": [{"id": 1}, {"id": 2}], "n": 1}

    assert paths(value) == [
        "body.repository",
        "body.repository.full_name",
        "body.commits",
        "body.commits.0.id",
        "body.commits.1.id",
        "body.n",
    ]


def test_a_dot_in_a_name_is_escaped():
    assert paths({"a.b": {"c\\d": 1}}) == ["body.a\\.b", "body.a\\.b.c\\\\d"]


def test_empty_containers_and_brackets_in_texts_do_not_confuse_it():
    value = {"a": {}, "b": [], "c": ["{", "]", [], {}], "d": "}", "e": {"f": 1}}

    assert paths(value) == ["body.a", "body.b", "body.c", "body.d", "body.e", "body.e.f"]


def test_beyond_many_keys_the_others_are_shown_without_a_button():
    value = {f"key{number}": number for number in range(MOST_KEYS + 50)}

    assert len(paths(value)) == MOST_KEYS
    assert f"The first {MOST_KEYS:,} keys copy their path." in shown(value)
    assert f'"key{MOST_KEYS + 49}": {MOST_KEYS + 49}' in shown(value)


def test_a_value_that_is_no_container_is_shown():
    assert '"text"' in shown("text")
    assert paths(10**30) == []


def test_what_was_sent_is_shown_in_its_order_with_repeated_keys_and_numbers_as_they_were_written():
    sent = '{"z": 1.10, "a":1E3,"z":-0,  "big":123456789012345678901234567890 ,"e":[ ],"o":{}}'

    assert shown_of(sent).splitlines() == [
        "{",
        '  "z": 1.10,',
        '  "a": 1E3,',
        '  "z": -0,',
        '  "big": 123456789012345678901234567890,',
        '  "e": [],',
        '  "o": {}',
        "}",
    ]
    assert paths_of(sent) == ["body.z", "body.a", "body.z", "body.big", "body.e", "body.o"]


def test_escapes_are_read_where_they_stand_for_a_character():
    sent = r'{"a\u00fc\/": "\u20ac \n", "half": "\ud83d", "\udc00": "\u0000"}'

    assert '"aü/": "€ \\n"' in shown_of(sent)
    assert r'"half": "\ud83d"' in shown_of(sent)
    assert paths_of(sent) == ["body.aü/", "body.half", "body.\ufffd"]


def test_of_a_long_body_the_start_is_shown_and_the_rest_is_pointed_to():
    sent = json.dumps({"first": "x" * 70_000, "second": 1})

    assert paths_of(sent) == ["body.first"]
    assert len(shown_of(sent)) < 65_700
    assert "The first 65,536 characters; the download has all of it." in shown_of(sent)
    assert "download" not in shown_of(json.dumps({"first": "x" * 60_000}))


def test_deep_nesting_does_not_make_a_page_of_many_megabytes():
    sent = "[" * 200 + ",".join(["1"] * 300_000) + "]" * 200

    assert len(clickable_json(sent, "body")) < 70_000


@given(VALUES)
def test_what_is_shown_is_the_value_and_every_key_is_reachable(value):
    assert json.loads(shown(value)) == value
    assert all(path.startswith("body.") for path in paths(value))
    assert len(paths(value)) == _keys(value)


def _keys(value):
    if isinstance(value, dict):
        return len(value) + sum(_keys(child) for child in value.values())
    return sum(_keys(child) for child in value) if isinstance(value, list) else 0
