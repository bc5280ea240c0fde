"""What handlers and steps raise. The engine alone decides what follows: retry, give up, ask, or stop."""

from __future__ import annotations

from typing import Any

from automation_lab.core.exceptions import AutomationLabError
from automation_lab.core.execution.retry import Failure


class RunError(AutomationLabError):
    """The effect failed. `code` is family.detail (`http.503`, `validation.failed`); `answer` what came back, if anything.

    `outcome_unknown`: the effect may have happened although no answer came.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retry_after_seconds: float | None = None,
        answer: dict[str, Any] | None = None,
        detail: Any = None,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds
        self.answer = answer
        self.detail = detail
        self.outcome_unknown = outcome_unknown

    def as_failure(self) -> Failure:
        return Failure(
            code=self.code,
            message=self.message,
            retry_after_seconds=self.retry_after_seconds,
            outcome_unknown=self.outcome_unknown,
        )


class Interrupted(Exception):
    """The claim's cancellation stopped the effect; `reason` is one of claims.CANCELLED, TIMEOUT, STOPPING, REPLACED."""

    def __init__(self, reason: str, *, request_sent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.request_sent = request_sent


def internal_error(error: Exception) -> str:
    """What is recorded of an error that nobody foresaw: its text may hold anything."""
    return f"Internal error: {type(error).__name__}. The server's log has the details."
