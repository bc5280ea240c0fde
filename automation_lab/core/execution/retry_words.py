"""A retry policy in words, for people who are about to save it."""

from __future__ import annotations

from typing import Any

from automation_lab.core.execution.retry import RetryPolicy, normalise

SHOWN_DELAYS = 6


def explain(policy: dict[str, Any]) -> str:
    """Such as `Up to 4 attempts; the next tries come after 2 s, 4 s and 8 s.` Raises Invalid."""
    rules = normalise(policy)
    if rules.max_attempts == 1:
        return "One attempt, no retries."
    return f"Up to {rules.max_attempts} attempts; {_delays(rules)}{_jitter(rules)}.{_limit(rules)}"


def _delays(rules: RetryPolicy) -> str:
    delays = [_seconds(rules.base_delay(attempt)) for attempt in range(2, rules.max_attempts + 1)]
    if len(delays) == 1:
        return f"the second comes after {delays[0]}"
    if len(delays) > SHOWN_DELAYS:
        return f"the next tries come after {', '.join(delays[:SHOWN_DELAYS])} … {delays[-1]}"
    return f"the next tries come after {', '.join(delays[:-1])} and {delays[-1]}"


def _jitter(rules: RetryPolicy) -> str:
    return {"full": ", each at random from 0 up to that", "equal": ", each at random from half of that up to it"}.get(
        rules.jitter, ""
    )


def _limit(rules: RetryPolicy) -> str:
    if rules.max_total_seconds is None:
        return ""
    return f" None begins later than {_seconds(rules.max_total_seconds)} after the first."


def _seconds(seconds: float) -> str:
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"
