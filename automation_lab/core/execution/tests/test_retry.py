"""When a failed attempt is repeated: pure decisions over a policy."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution import retry
from automation_lab.core.execution.retry import Failure, RetryPolicy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
PLAIN = RetryPolicy(jitter="none", max_attempts=20)


def decide(policy: RetryPolicy = PLAIN, *, attempt: int = 1, code: str = "http.503", **given) -> retry.Decision:
    failure = given.pop("failure", None) or Failure(code, retry_after_seconds=given.pop("retry_after", None))
    options = {"first_started_at": NOW, "now": NOW, **given}
    return retry.decide(policy, attempt=attempt, failure=failure, **options)


def delay(policy: RetryPolicy = PLAIN, **given) -> float:
    decision = decide(policy, **given)
    assert decision.at is not None, decision.reason
    return (decision.at - NOW).total_seconds()


# --- how long -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(jitter="none", max_attempts=20), [2, 4, 8, 16]),
        (RetryPolicy(jitter="none", max_attempts=20, strategy="fixed", delay_seconds=5), [5, 5, 5, 5]),
        (RetryPolicy(jitter="none", max_attempts=20, strategy="linear", delay_seconds=3), [3, 6, 9, 12]),
        (RetryPolicy(jitter="none", max_attempts=20, multiplier=3, delay_seconds=1), [1, 3, 9, 27]),
        (RetryPolicy(jitter="none", max_attempts=20, max_delay_seconds=5), [2, 4, 5, 5]),
        (RetryPolicy(jitter="none", max_attempts=20, delay_seconds=0), [0, 0, 0, 0]),
    ],
)
def test_the_base_delay_before_each_attempt(policy, expected):
    assert [delay(policy, attempt=attempt) for attempt in (1, 2, 3, 4)] == expected


@pytest.mark.parametrize(("jitter", "bounds"), [("none", (4, 4)), ("full", (0, 4)), ("equal", (2, 4))])
def test_jitter_draws_within_its_bounds(jitter, bounds):
    policy = RetryPolicy(jitter=jitter)

    lowest = delay(policy, attempt=2, uniform=lambda low, high: low)
    highest = delay(policy, attempt=2, uniform=lambda low, high: high)

    assert (lowest, highest) == bounds


def test_the_highest_policy_that_can_be_saved_does_not_overflow():
    policy = retry.normalise(
        {"max_attempts": 20, "multiplier": 100, "delay_seconds": 86_400, "max_delay_seconds": 86_400, "jitter": "none",
         "max_total_seconds": None}
    )  # fmt: skip

    assert delay(policy, attempt=19) == 86_400


@pytest.mark.parametrize(
    ("retry_after", "expected"), [(1, 2), (2, 2), (10, 10), (119, 119), (120, 120), (121, 120), (10**9, 120), (None, 2)]
)
def test_a_longer_retry_after_is_followed_up_to_four_times_the_longest_delay(retry_after, expected):
    policy = RetryPolicy(jitter="none", max_delay_seconds=30)

    assert delay(policy, code="http.429", retry_after=retry_after) == expected


def test_retry_after_is_not_followed_when_the_policy_says_so():
    policy = RetryPolicy(jitter="none", respect_retry_after=False)

    assert delay(policy, retry_after=100) == 2


# --- whether ------------------------------------------------------------------------------------------------------------


def test_attempts_include_the_first_one():
    policy = RetryPolicy(max_attempts=3)

    assert [decide(policy, attempt=attempt).at is not None for attempt in (1, 2, 3)] == [True, True, False]
    assert decide(policy, attempt=3).reason == "All 3 attempts are used."


def test_one_attempt_means_no_retry():
    assert decide(RetryPolicy(max_attempts=1)).reason == "No retries are configured."


@pytest.mark.parametrize(("passed", "repeated"), [(57, True), (58, True), (59, False), (1000, False)])
def test_the_total_time_counts_from_the_first_start_to_the_next_one(passed, repeated):
    policy = RetryPolicy(jitter="none", max_total_seconds=60)

    decision = decide(policy, first_started_at=NOW - timedelta(seconds=passed))

    assert (decision.at is not None) is repeated


def test_without_total_time_there_is_no_such_limit():
    policy = RetryPolicy(max_total_seconds=None)

    assert decide(policy, first_started_at=NOW - timedelta(days=300)).at is not None


@pytest.mark.parametrize(("seconds", "repeated"), [(1, False), (2, False), (3, True)])
def test_an_attempt_that_would_start_at_the_deadline_is_not_made(seconds, repeated):
    assert (decide(deadline_at=NOW + timedelta(seconds=seconds)).at is not None) is repeated


@pytest.mark.parametrize(
    ("code", "repeated"),
    [
        ("http.500", True), ("http.503", True), ("http.599", True), ("http.429", True), ("http.404", False),
        ("http.400", False), ("timeout.read", True), ("timeout.total", True), ("communication.connect", True),
        ("smtp.450", True), ("smtp.550", False), ("validation.failed", False), ("expression.unknown", False),
        ("configuration.config", False), ("authorization.secret_host", False), ("runtime.internal", False),
        ("timeouts", False), ("http.5000", False),
    ],
)  # fmt: skip
def test_which_errors_are_repeated_by_default(code, repeated):
    assert (decide(code=code).at is not None) is repeated


@pytest.mark.parametrize(
    ("pattern", "code", "matched"),
    [
        ("http", "http.503", True), ("http", "http", True), ("http", "httpx.1", False), ("http.5xx", "http.503", True),
        ("http.5xx", "http.499", False), ("http.50x", "http.503", False), ("http.503", "http.503", True),
        ("http.503", "http.504", False), ("timeout.read", "timeout.read", True), ("timeout.read", "timeout", False),
    ],
)  # fmt: skip
def test_patterns_of_error_codes(pattern, code, matched):
    assert retry.matches(code, (pattern,)) is matched


def test_giving_up_comes_before_retrying():
    policy = RetryPolicy(retry_on=("http.5xx",), give_up_on=("http.501",))

    assert decide(policy, code="http.501").reason == "http.501 is not retried."
    assert decide(policy, code="http.502").at is not None


def test_giving_up_comes_before_retry_if():
    policy = RetryPolicy(retry_if="true", give_up_on=("http.501",))

    assert decide(policy, code="http.501", retry_if=lambda source: True).at is None


@pytest.mark.parametrize(("answer", "repeated"), [(True, True), (False, False)])
def test_retry_if_decides_in_place_of_retry_on(answer, repeated):
    asked = []

    def retry_if(source: str) -> bool:
        asked.append(source)
        return answer

    decision = decide(RetryPolicy(retry_if="error.status == 404"), code="http.404", retry_if=retry_if)

    assert (decision.at is not None) is repeated
    assert asked == ["error.status == 404"]


@pytest.mark.parametrize(("rule", "repeated"), [("auto", False), ("ask", False), ("fail", False), ("retry", True)])
def test_what_may_have_been_done_is_repeated_only_on_request(rule, repeated):
    failure = Failure("communication.reset", outcome_unknown=True)

    assert (decide(RetryPolicy(on_unknown_outcome=rule), failure=failure).at is not None) is repeated


# --- reading a policy ---------------------------------------------------------------------------------------------------


def test_an_empty_policy_is_the_default_one():
    assert retry.normalise({}) == RetryPolicy()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"max_retries": 4}, {"max_attempts": 5}),
        ({"retries": 0}, {"max_attempts": 1}),
        ({"attempts": 2}, {"max_attempts": 2}),
        ({"retry_delay": 7}, {"delay_seconds": 7}),
        ({"retry_delay_seconds": 7}, {"delay_seconds": 7}),
        ({"delay": 7}, {"delay_seconds": 7}),
        ({"backoff": "linear"}, {"strategy": "linear"}),
        ({"backoff": True}, {"strategy": "exponential"}),
        ({"backoff": False}, {"strategy": "fixed"}),
        ({"backoff_strategy": "constant"}, {"strategy": "fixed"}),
        ({"backoff_factor": 3}, {"multiplier": 3}),
        ({"backoff_multiplier": 1.5}, {"multiplier": 1.5}),
        ({"max_delay": 60}, {"max_delay_seconds": 60}),
        ({"jitter": True}, {"jitter": "full"}),
        ({"jitter": False}, {"jitter": "none"}),
    ],
)
def test_likely_spellings_are_understood(written, meant):
    assert retry.normalise(written) == retry.normalise(meant)
    assert retry.normalise(written) == RetryPolicy(**meant)


def test_a_policy_is_merged_over_its_base():
    base = RetryPolicy(max_attempts=7, retry_on=("http.5xx",))

    merged = retry.normalise({"delay_seconds": 1}, base=base)

    assert (merged.max_attempts, merged.delay_seconds, merged.retry_on) == (7, 1, ("http.5xx",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", 0), ("max_attempts", 21), ("max_attempts", True), ("max_attempts", 2.5), ("max_attempts", "3"),
        ("max_attempts", None), ("max_retries", -1), ("max_retries", 20), ("max_retries", "many"), ("retries", None),
        ("strategy", "cubic"), ("strategy", None), ("strategy", ["fixed"]), ("backoff", 2), ("delay_seconds", -1),
        ("delay_seconds", math.nan), ("delay_seconds", math.inf), ("delay_seconds", 86_401), ("delay_seconds", True),
        ("retry_delay", "5s"), ("multiplier", 0.5), ("multiplier", 101), ("max_delay_seconds", None),
        ("jitter", "some"), ("jitter", None), ("max_total_seconds", 0), ("max_total_seconds", "1h"),
        ("retry_on", "http"), ("retry_on", [5]), ("retry_on", ["htp.5xx"]), ("retry_on", None),
        ("give_up_on", {"a": 1}), ("retry_if", 5), ("respect_retry_after", "yes"), ("on_unknown_outcome", "guess"),
        ("max_tries", 3), ("", 1),
    ],
)  # fmt: skip
def test_a_fault_is_named_as_it_was_written(name, value):
    with pytest.raises(Invalid) as caught:
        retry.normalise({name: value})

    assert [fault["field"] for fault in caught.value.errors] == [f"retry_policy.{name}"]
    assert caught.value.errors[0]["detail"]


def test_all_faults_are_named_at_once():
    with pytest.raises(Invalid) as caught:
        retry.normalise({"max_retries": "x", "delay_seconds": -1, "strategy": "cubic", "tries": 1, "jitter": "full"})

    assert {fault["field"] for fault in caught.value.errors} == {
        "retry_policy.max_retries", "retry_policy.delay_seconds", "retry_policy.strategy", "retry_policy.tries",
    }  # fmt: skip


def test_two_spellings_of_one_thing_are_refused():
    with pytest.raises(Invalid) as caught:
        retry.normalise({"max_attempts": 3, "max_retries": 5})

    assert caught.value.errors == [
        {
            "field": "retry_policy.max_retries",
            "code": "invalid",
            "detail": "The same as another field, max_attempts: give one.",
        }
    ]


POLICIES = st.builds(
    dict,
    max_attempts=st.integers(1, 20),
    strategy=st.sampled_from(retry.STRATEGIES),
    delay_seconds=st.floats(0, 86_400) | st.integers(0, 86_400),
    multiplier=st.floats(1, 100),
    max_delay_seconds=st.floats(0, 86_400),
    jitter=st.sampled_from(retry.JITTERS),
    max_total_seconds=st.none() | st.floats(1, 31_622_400),
    retry_on=st.lists(st.sampled_from(["http", "http.5xx", "timeout", "communication.reset"])),
    respect_retry_after=st.booleans(),
)


@patient
@given(POLICIES)
def test_the_normal_form_means_the_same(written):
    policy = retry.normalise(written)

    assert retry.normalise(policy.as_dict()) == policy


@patient
@given(
    POLICIES,
    st.integers(1, 25),
    st.sampled_from(["http.503", "http.404", "timeout.read", "communication.reset", "validation.failed"]),
    st.none() | st.floats(0, 1e9),
    st.floats(0, 1),
)
def test_a_decision_keeps_every_limit(written, attempt, code, retry_after, drawn):
    policy = retry.normalise(written)

    decision = decide(
        policy,
        attempt=attempt,
        failure=Failure(code, retry_after_seconds=retry_after),
        deadline_at=NOW + timedelta(days=1),
        uniform=lambda low, high: low + (high - low) * drawn,
    )

    assert decision.reason
    if decision.at is not None:
        waited = (decision.at - NOW).total_seconds()
        assert attempt < policy.max_attempts
        assert retry.matches(code, policy.retry_on)
        assert 0 <= waited < 86_400
        assert waited <= policy.max_delay_seconds * retry.RETRY_AFTER_FACTOR + 1e-5
        assert policy.max_total_seconds is None or waited <= policy.max_total_seconds + 1e-5


@patient
@given(POLICIES, st.integers(2, 19))
def test_the_base_delay_never_shrinks_from_one_attempt_to_the_next(written, attempt):
    policy = retry.normalise(written)

    assert 0 <= policy.base_delay(attempt) <= policy.base_delay(attempt + 1) <= policy.max_delay_seconds


@patient
@given(st.dictionaries(st.sampled_from([*RetryPolicy().as_dict(), *retry.SPELLINGS, "x"]), st.none() | st.booleans()
       | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2)))  # fmt: skip
def test_any_json_is_read_or_refused_with_reasons(written):
    try:
        retry.normalise(written)
    except Invalid as refusal:
        assert all(fault["field"].startswith("retry_policy.") and fault["detail"] for fault in refusal.errors)
