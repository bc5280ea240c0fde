"""Sending stored webhooks again: one at once, many as a batch that the engine works off in slices.

A replay goes to one of `core.registry.replay_targets`. Each slice is one transaction: what it has started, how far it
has come, and when the next one is due, so a worker that dies repeats nothing and leaves nothing out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count

from automation_lab.core import clock, correlation
from automation_lab.core.exceptions import AutomationLabError, Conflict, Invalid
from automation_lab.core.execution import attempts, queue
from automation_lab.core.execution.claims import Claim
from automation_lab.core.execution.failures import internal_error
from automation_lab.core.execution.idempotency import once
from automation_lab.core.execution.interruptions import end_of
from automation_lab.core.execution.models import LIVE_STATUSES, Execution
from automation_lab.core.execution.results import masked_text
from automation_lab.core.execution.runner import Executable
from automation_lab.core.registry import ReplayTarget, replay_targets
from inbox.models import PAYLOAD_REMOVED, Forward, Replay, Webhook

Status = Replay.Status
STOPPED = "Stopped."
MOST_WEBHOOKS = 10_000
LARGEST_SLICE = 100
DEFAULT_RATE = 10.0
# A batch that fell behind, for want of a worker, catches up so much and no more.
CATCH_UP = timedelta(seconds=2)


def replay_webhook(
    *, webhook: Webhook, target: str, options: dict[str, Any], created_by: str = "", idempotency_key: str = ""
) -> Replay:
    """Send one webhook again, now. Raises what the target refuses; nothing is recorded then.

    The same `idempotency_key` gives the same replay; with another order it is a Conflict.
    """
    _check_payload(webhook, options)
    chosen = replay_targets.get(target)
    replay = _build([webhook.pk], target, {"ids": [webhook.pk]}, created_by, idempotency_key)
    replay.options = chosen.check(options)
    replay.position = replay.done_count = 1
    replay.status = Status.SUCCESS
    replay.started_at = replay.finished_at = clock.database_now()
    replay.duration_ms = 0
    replay.correlation_id = correlation.current()

    def record() -> Replay:
        replay.save(force_insert=True)
        chosen.start(webhook, replay)
        return replay

    return once(replay, record, request=_order(replay, options))


def replay_webhooks(
    *,
    webhook_ids: Sequence[int],
    filters: dict[str, Any],
    target: str,
    options: dict[str, Any],
    rate_per_second: float = DEFAULT_RATE,
    created_by: str = "",
    idempotency_key: str = "",
) -> Replay:
    """Order a batch; a worker works it off, oldest first. `filters` says how the webhooks were chosen."""
    ids = sorted(set(webhook_ids))
    check_count(len(ids))
    replay = _build(ids, target, filters, created_by, idempotency_key)
    replay.options = replay_targets.get(target).check(options)
    replay.rate_per_second = rate_per_second
    request = _order(replay, options)
    return once(replay, lambda: queue.enqueue(replay, due_at=clock.database_now()), request=request)


def _check_payload(webhook: Webhook, options: dict[str, Any]) -> None:
    if PAYLOAD_REMOVED in webhook.flags and "body" not in options:
        raise Conflict("The body of this webhook was removed: give one to send instead.", code=PAYLOAD_REMOVED)


def check_count(count: int) -> None:
    """Raises Invalid for none and for too many."""
    if not count:
        raise Invalid("No webhook is selected.", field="filter", code="empty")
    if count > MOST_WEBHOOKS:
        raise Invalid(
            f"More than {MOST_WEBHOOKS:,} webhooks are selected: narrow the filter, for example by received_after.",
            field="filter",
            code="too_many",
        )


def stop_replay(*, replay: Replay) -> Replay:
    """Start nothing more, and cancel what still waits to be sent. Raises Conflict if the batch has finished."""
    stopped = queue.cancel(replay, now=clock.database_now(), reason=STOPPED)
    _cancel_waiting_forwards(stopped)
    return stopped


def cancel_forward(*, forward: Forward) -> Forward:
    """End a waiting forward at once, interrupt one that is being sent. Raises Conflict if it has finished."""
    return queue.cancel(forward, now=clock.database_now())


def outcomes(replay: Replay) -> dict[str, int]:
    """How many of the executions that `replay` has started are in which status."""
    rows = replay_targets.get(replay.target).executions(replay).order_by().values("status").annotate(n=Count("pk"))
    return {row["status"]: row["n"] for row in rows}


# --- ordering ---------------------------------------------------------------------------------------------------------


def _build(ids: list[int], target: str, filters: dict[str, Any], created_by: str, key: str) -> Replay:
    return Replay(
        webhook_ids=ids,
        total_count=len(ids),
        target=target,
        filters=filters,
        created_by=created_by[:150],
        idempotency_key=key,
    )


def _order(replay: Replay, options: dict[str, Any]) -> dict[str, Any]:
    """What was asked for: `options` before they were checked."""
    return {"ids": replay.webhook_ids, "target": replay.target, "options": options}


def _cancel_waiting_forwards(replay: Replay) -> None:
    """One statement, as there may be thousands: no forward has anything that its end would have to close."""
    now = clock.database_now()
    Forward.objects.filter(replay=replay, worker__isnull=True, status__in=LIVE_STATUSES).update(
        status=Forward.Status.CANCELLED,
        due_at=None,
        finished_at=now,
        updated_at=now,
        error_message="The replay was stopped.",
    )


# --- running ----------------------------------------------------------------------------------------------------------


class ReplayExecutable(Executable):
    """Works off one slice of a batch, then lets go of it until the next slice is due."""

    model = Replay

    def run(self, execution: Execution, claim: Claim) -> None:
        queue.persist(lambda: _run_slice(claim))

    def crashed(self, execution: Execution, claim: Claim, *, now: datetime, error: Exception) -> None:
        queue.finish(claim, status=Status.FAILED, now=now, error_message=internal_error(error))

    def taken_over(self, execution: Execution, *, worker: int, now: datetime) -> str:
        """`attempt` counts within a slice: in its hours a long batch may lose many workers and still go on."""
        lost = execution.attempt + 1
        Replay.objects.filter(pk=execution.pk).update(attempt=lost)
        return attempts.crash_loop(lost, "replay")

    def ended(self, execution: Execution, *, now: datetime) -> None:
        """What it has started goes on by itself."""


def _run_slice(claim: Claim) -> None:
    queue.guard(claim)
    replay = Replay.objects.get(pk=claim.pk)
    now = clock.database_now()
    if claim.cancellation.cancelled:
        _let_go(claim, now)
        return
    ids = replay.webhook_ids[replay.position :][: _slice_size(replay.rate_per_second)]
    started, refusals = _start_each(replay, ids)
    replay.position += len(ids)
    replay.done_count += started
    replay.failed_count += len(refusals)
    replay.error_message = replay.error_message or next(iter(refusals), "")
    progress = {name: getattr(replay, name) for name in ("position", "done_count", "failed_count")}
    if replay.position < replay.total_count:
        due_at = max(replay.due_at or now, now - CATCH_UP) + timedelta(seconds=len(ids) / replay.rate_per_second)
        queue.park(claim, due_at=due_at, now=now, attempt=0, error_message=replay.error_message, **progress)
        return
    status = Status.FAILED if replay.failed_count else Status.SUCCESS
    queue.finish(claim, status=status, now=now, error_message=replay.error_message, **progress)


def _slice_size(rate_per_second: float) -> int:
    """What one second holds."""
    return min(LARGEST_SLICE, max(1, math.floor(rate_per_second)))


def _start_each(replay: Replay, ids: Sequence[int]) -> tuple[int, list[str]]:
    """How many could be started, and why the others could not; each is tried by itself."""
    target, webhooks = replay_targets.get(replay.target), Webhook.objects.in_bulk(ids)
    refusals = [refusal for pk in ids if (refusal := _start(target, webhooks.get(pk), pk, replay))]
    return len(ids) - len(refusals), refusals


def _start(target: ReplayTarget, webhook: Webhook | None, pk: int, replay: Replay) -> str:
    if webhook is None:
        return f"Webhook {pk} has been deleted."
    try:
        _check_payload(webhook, replay.options)
        with transaction.atomic():
            target.start(webhook, replay)
    except AutomationLabError as error:
        return masked_text(f"Webhook {pk}: {error.message}")
    return ""


def _let_go(claim: Claim, now: datetime) -> None:
    end = end_of(claim, claim.cancellation.reason)
    if end is None:
        queue.park(claim, due_at=now, now=now)
        return
    message = STOPPED if end.status == Status.CANCELLED else end.error_message
    queue.finish(claim, status=end.status, now=now, error_message=message)
