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
    return [html.unescape(path) for path in re.findall(r'data-copy-text="([^"]*)"', clickable_json(value, "body"))]


def shown(value):
    """The text that a reader sees, without the copy button of the whole."""
    text = clickable_json(value, "body").replace("Copy</button>", "", 1)
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
    assert f'"key{MOST_KEYS + 49}": {MOST_KEYS + 49}' in shown(value)


def test_a_value_that_is_no_container_is_shown():
    assert '"text"' in shown("text")
    assert paths(10**30) == []


@given(VALUES)
def test_what_is_shown_is_the_value_and_every_key_is_reachable(value):
    assert json.loads(shown(value)) == value
    assert all(path.startswith("body.") for path in paths(value))
    assert len(paths(value)) == _keys(value)


def _keys(value):
    if isinstance(value, dict):
        return len(value) + sum(_keys(child) for child in value.values())
    return sum(_keys(child) for child in value) if isinstance(value, list) else 0
