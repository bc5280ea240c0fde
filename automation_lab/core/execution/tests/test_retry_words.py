from __future__ import annotations

import pytest

from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution.retry_words import explain

LIMIT = " None begins later than 1 h after the first."


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (
            {},  # what the engine does without a policy, too
            "Up to 3 attempts; the next tries come after 2 s and 4 s, each at random from 0 up to that." + LIMIT,
        ),
        ({"max_attempts": 1}, "One attempt, no retries."),
        (
            {"max_attempts": 4, "jitter": "none"},
            "Up to 4 attempts; the next tries come after 2 s, 4 s and 8 s." + LIMIT,
        ),
        (
            {"max_attempts": 2, "strategy": "fixed", "delay": 90, "jitter": "none", "max_total_seconds": None},
            "Up to 2 attempts; the second comes after 90 s.",
        ),
        (
            {"max_attempts": 3, "strategy": "linear", "delay_seconds": 60},
            "Up to 3 attempts; the next tries come after 1 min and 2 min, each at random from 0 up to that." + LIMIT,
        ),
        (
            {"max_attempts": 10, "jitter": "equal"},
            "Up to 10 attempts; the next tries come after 2 s, 4 s, 8 s, 16 s, 32 s, 64 s … 5 min, "
            "each at random from half of that up to it." + LIMIT,
        ),
    ],
)
def test_a_policy_is_said_in_words(policy, words):
    assert explain(policy) == words


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(Invalid):
        explain({"max_attempts": "many"})
