"""When to try again: a pure function from (policy, attempt, error) to a decision."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from automation_lab.core.exceptions import Invalid

STRATEGIES = ("fixed", "linear", "exponential")
JITTERS = ("none", "full", "equal")
ON_UNKNOWN = ("auto", "retry", "fail", "ask")
RETRY_ON = ("communication", "timeout", "http.429", "http.5xx", "smtp.4xx")
GIVE_UP_ON = ("validation", "expression", "configuration", "authorization")
FAMILIES = (
    "configuration", "validation", "expression", "authentication", "authorization", "timeout", "communication",
    "runtime", "http", "smtp", "limit", "cancelled", "unknown_outcome",
)  # fmt: skip
RETRY_AFTER_FACTOR = 4

SPELLINGS = {
    "retry_delay": "delay_seconds",
    "retry_delay_seconds": "delay_seconds",
    "delay": "delay_seconds",
    "interval_seconds": "delay_seconds",
    "backoff": "strategy",
    "backoff_strategy": "strategy",
    "backoff_factor": "multiplier",
    "backoff_multiplier": "multiplier",
    "backoff_rate": "multiplier",
    "max_delay": "max_delay_seconds",
    "attempts": "max_attempts",
}
RETRY_COUNTS = ("max_retries", "retries")


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when a failed attempt is repeated. `max_attempts` counts the first one too: 1 means no retry.

    Before attempt n (n >= 2) the base delay is d (fixed), d * (n - 1) (linear) or d * m^(n - 2) (exponential), at most
    `max_delay_seconds`; jitter "full" draws from 0 to the base, "equal" from half the base to the base.
    """

    max_attempts: int = 3
    strategy: str = "exponential"
    delay_seconds: float = 2
    multiplier: float = 2.0
    max_delay_seconds: float = 300
    jitter: str = "full"
    max_total_seconds: float | None = 3600
    retry_on: tuple[str, ...] = RETRY_ON
    give_up_on: tuple[str, ...] = GIVE_UP_ON
    retry_if: str | None = None
    respect_retry_after: bool = True
    on_unknown_outcome: str = "auto"

    def base_delay(self, attempt: int) -> float:
        """Seconds before `attempt` (2 or more), without jitter."""
        if self.strategy == "fixed":
            delay = self.delay_seconds
        elif self.strategy == "linear":
            delay = self.delay_seconds * (attempt - 1)
        else:
            delay = self.delay_seconds * self.multiplier ** min(attempt - 2, 64)
        return min(delay, self.max_delay_seconds)

    def as_dict(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


KNOWN = frozenset(item.name for item in fields(RetryPolicy))


@dataclass(frozen=True)
class Failure:
    """What went wrong, as far as the decision needs it. `code` is family.detail, such as `http.503`."""

    code: str
    message: str = ""
    retry_after_seconds: float | None = None
    outcome_unknown: bool = False


@dataclass(frozen=True)
class Decision:
    """`at` is when to try again, or None to give up; `reason` says why, for the log and the console."""

    at: datetime | None
    reason: str


def decide(
    policy: RetryPolicy,
    *,
    attempt: int,
    failure: Failure,
    first_started_at: datetime,
    now: datetime,
    deadline_at: datetime | None = None,
    retry_if: Callable[[str], bool] | None = None,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Decision:
    """Whether attempt number `attempt`, just failed, is repeated, and when."""
    refusal = _refusal(policy, attempt=attempt, failure=failure, retry_if=retry_if)
    if refusal:
        return Decision(None, refusal)
    delay, reason = _delay(policy, attempt=attempt, failure=failure, uniform=uniform)
    at = now + timedelta(seconds=delay)
    if policy.max_total_seconds is not None and at > first_started_at + timedelta(seconds=policy.max_total_seconds):
        return Decision(None, f"The retries' total time of {policy.max_total_seconds:g} s is used up.")
    if deadline_at is not None and at >= deadline_at:
        return Decision(None, "The time limit comes before the next attempt.")
    return Decision(at, f"Attempt {attempt + 1} of {policy.max_attempts} {reason}.")


def _refusal(policy: RetryPolicy, *, attempt: int, failure: Failure, retry_if: Callable[[str], bool] | None) -> str:
    if failure.outcome_unknown and policy.on_unknown_outcome != "retry":
        return "It may have been done, and repeating it is not known to be harmless."
    if matches(failure.code, policy.give_up_on):
        return f"{failure.code} is not retried."
    if policy.retry_if is not None and retry_if is not None:
        if not retry_if(policy.retry_if):
            return "retry_if is false."
    elif not matches(failure.code, policy.retry_on):
        return f"{failure.code} is not in retry_on."
    if attempt >= policy.max_attempts:
        return (
            f"All {policy.max_attempts} attempts are used." if policy.max_attempts > 1 else "No retries are configured."
        )
    return ""


def _delay(
    policy: RetryPolicy, *, attempt: int, failure: Failure, uniform: Callable[[float, float], float]
) -> tuple[float, str]:
    base = policy.base_delay(attempt + 1)
    if policy.jitter == "full":
        delay = uniform(0, base)
    elif policy.jitter == "equal":
        delay = base / 2 + uniform(0, base / 2)
    else:
        delay = base
    wanted = failure.retry_after_seconds
    if policy.respect_retry_after and wanted is not None and wanted > delay:
        delay = min(wanted, policy.max_delay_seconds * RETRY_AFTER_FACTOR)
        return delay, f"in {delay:.1f} s, as Retry-After asks"
    return delay, f"in {delay:.1f} s"


def matches(code: str, patterns: tuple[str, ...]) -> bool:
    """`http` matches every `http.…`, `http.5xx` every 500 to 599; anything else matches itself."""
    return any(_matches(code, pattern) for pattern in patterns)


def _matches(code: str, pattern: str) -> bool:
    if code == pattern or code.startswith(pattern + "."):
        return True
    return pattern.endswith("xx") and code.startswith(pattern[:-2]) and len(code) == len(pattern)


def normalise(policy: dict[str, Any], *, base: RetryPolicy | None = None) -> RetryPolicy:
    """The policy that `policy` means, merged over `base`. Accepts likely other spellings. Raises Invalid, all faults at once."""
    values: dict[str, Any] = {}
    errors: list[dict[str, Any]] = []
    for written, given in policy.items():
        name, value = _translated(written, given)
        fault = _fault(name, value)
        if fault and written in RETRY_COUNTS:
            fault = "Must be a whole number from 0 to 19."
        elif name in values:
            fault = f"The same as another field, {name}: give one."
        if fault:
            errors.append({"field": f"retry_policy.{written}", "code": "invalid", "detail": fault})
        values[name] = value
    if errors:
        raise Invalid("The retry policy is not valid.", field="retry_policy", errors=errors)
    merged = {**(base or RetryPolicy()).as_dict(), **values}
    parts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in merged.items()}
    return RetryPolicy(**parts)


def _translated(name: str, value: Any) -> tuple[str, Any]:
    """The field that `name` means, and its value there."""
    if name in RETRY_COUNTS:
        return "max_attempts", value + 1 if isinstance(value, int) and not isinstance(value, bool) else None
    meant = SPELLINGS.get(name, name)
    if meant == "strategy" and value in ("constant", "none"):
        return meant, "fixed"
    if name == "backoff" and isinstance(value, bool):
        return meant, "exponential" if value else "fixed"
    if name == "jitter" and isinstance(value, bool):
        return meant, "full" if value else "none"
    return meant, value


def _fault(name: str, value: Any) -> str:
    if name not in KNOWN:
        return f"Unknown; known are {', '.join(sorted(KNOWN))}."
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "max_attempts":
        return "" if isinstance(value, int) and number and 1 <= value <= 20 else "Must be a whole number from 1 to 20."
    if name in ("delay_seconds", "max_delay_seconds"):
        return "" if number and 0 <= value <= 86_400 else "Must be a number of seconds from 0 to 86400."
    if name == "multiplier":
        return "" if number and 1 <= value <= 100 else "Must be a number from 1 to 100."
    if name == "max_total_seconds":
        return "" if value is None or (number and 0 < value <= 31_622_400) else "Must be null or 1 to 31622400 seconds."
    if name in ("retry_on", "give_up_on"):
        return _families_fault(value)
    if name == "retry_if":
        return "" if value is None or isinstance(value, str) else "Must be an expression or null."
    if name == "respect_retry_after":
        return "" if isinstance(value, bool) else "Must be true or false."
    allowed = {"strategy": STRATEGIES, "jitter": JITTERS, "on_unknown_outcome": ON_UNKNOWN}[name]
    return "" if value in allowed else f"Must be one of {', '.join(allowed)}."


def _families_fault(value: Any) -> str:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return "Must be a list of error codes, such as communication or http.5xx."
    unknown = [item for item in value if item.split(".")[0] not in FAMILIES]
    return f"Unknown error family: {', '.join(unknown)}; known are {', '.join(FAMILIES)}." if unknown else ""
