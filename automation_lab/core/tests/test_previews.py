"""Marks of what is too large to keep, and values from outside that look like them."""

from __future__ import annotations

import pytest

from automation_lab.core import expressions, previews

LOOK_ALIKES = [
    {"truncated": True},
    {"truncated": True, "reason": ["text"]},
    {"truncated": True, "reason": "More than 10 rows."},
    {"truncated": True, "size_bytes": "many", "preview": "{"},
    {"truncated": True, "size_bytes": None, "preview": "{"},
    {"truncated": True, "size_bytes": True, "preview": "{"},
    {"truncated": True, "size_bytes": 7, "preview": {"a": 1}},
    {"truncated": True, "size_bytes": 7, "preview": "{", "sha": "f00"},
    {"truncated": 1, "reason": "text"},
]


@pytest.mark.parametrize("value", LOOK_ALIKES, ids=str)
def test_what_only_looks_like_a_mark_is_a_value(value):
    assert expressions.render("{{ answer.body }}", {"answer": {"body": value}}) == value


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (previews.preview("[1, 2]", size_bytes=300_000), "Its 300,000 bytes are too many to be kept"),
        (previews.results_cut(), "The results are too large to be kept"),
    ],
    ids=["with a preview", "with a reason"],
)
def test_a_mark_is_not_used_as_the_value(mark, words):
    with pytest.raises(expressions.ExpressionError, match=words) as refused:
        expressions.render("{{ answer.body | default('x') }}", {"answer": {"body": mark}})

    assert refused.value.code == "limit.value"
