"""How an execution ends whose worker was told to stop: the same states and words for every kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

from automation_lab.core.execution.claims import CANCELLED, REPLACED, STOPPING, TIMEOUT, Claim, Replaced

CANCELLED_MESSAGE = "Cancelled."
TIMEOUT_MESSAGE = "Not finished within its time limit."
RELEASED_MESSAGE = "Handed back: the worker stopped."


@dataclass(frozen=True)
class End:
    """The final state of an execution and of its open attempt, with the error that both record."""

    status: str
    error_message: str
    error_class: str = ""


ENDS = {CANCELLED: End("cancelled", CANCELLED_MESSAGE), TIMEOUT: End("timeout", TIMEOUT_MESSAGE, "timeout.total")}


def end_of(claim: Claim, reason: str) -> End | None:
    """What an interruption for `reason` comes to; None: the execution is handed back. Raises Replaced."""
    if reason == REPLACED:
        raise Replaced(claim)
    if reason == CANCELLED:
        asked_for = claim.rows().values_list("error_message", flat=True).first()  # `queue.cancel` has noted why
        return replace(ENDS[CANCELLED], error_message=asked_for or CANCELLED_MESSAGE)
    return None if reason == STOPPING else ENDS[reason]
