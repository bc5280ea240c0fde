"""How runs of workflows look in the console: their steps on a time line, what they wait for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString

from automation_lab.core.admin import Panel
from automation_lab.core.console import display as show
from workflows.console.step_tree import Place, arrange
from workflows.models import StepExecution, WorkflowExecution

Status = StepExecution.Status
STEP_ROWS = 200
TROUBLED_ROWS = 20
TROUBLED = (Status.FAILED, Status.TIMEOUT, Status.INTERRUPTED, Status.WAITING, Status.RUNNING)
HEAVY = ("input", "output", "state", "signal")
WORDS = {
    "approval": "an approval",
    "wait_for_webhook": "a callback",
    "delay": "the time",
    "sub_workflow": "another workflow",
    "task": "a task",
}


def step_panel(run: WorkflowExecution, *, now: datetime) -> Panel:
    """Every step with its place in the tree and in time; long runs show the first ones and those in trouble."""
    rows = run.steps.defer(*HEAVY)
    steps = list(rows.order_by("position", "id")[: STEP_ROWS + 1])
    is_cut = len(steps) > STEP_ROWS
    if is_cut:
        shown = [step.pk for step in steps[:STEP_ROWS]]
        troubled = rows.filter(status__in=TROUBLED).exclude(pk__in=shown).order_by("-position")[:TROUBLED_ROWS]
        steps = [*steps[:STEP_ROWS], *troubled]
    if not steps:
        return Panel("Steps", empty="No step has begun yet.")
    start, end = _span(run, steps, now)
    context = {
        "lines": [_line(place, run, start, end, now) for place in arrange(steps)],
        "total": show.duration((end - start).total_seconds() * 1000),
    }
    url = show.list_url("workflows.stepexecution", execution__id__exact=run.pk) if is_cut else ""
    return Panel("Steps", body=_rendered("workflows/steps.html", context), more_url=url)


def _rendered(template: str, context: dict[str, Any]) -> SafeString:
    return render_to_string(template, context)


def _span(run: WorkflowExecution, steps: list[StepExecution], now: datetime) -> tuple[datetime, datetime]:
    start = run.started_at or run.created_at
    ends = [step.finished_at for step in steps if step.finished_at]
    end = run.finished_at or (now if not run.is_finished else max([start, *ends]))
    return start, max(start, end)


def _line(place: Place, run: WorkflowExecution, start: datetime, end: datetime, now: datetime) -> dict[str, Any]:
    step = place.step
    is_kept = bool(run.resumed_from_id and step.finished_at and step.finished_at < run.created_at)
    return {
        "key": f"step-{step.pk}",
        "version": f"{step.status}-{step.updated_at.timestamp()}",
        "url": show.object_url("workflows.stepexecution", step.pk),
        "data_url": reverse("admin:workflows_stepexecution_data", args=[step.pk]),
        "depth": place.depth,
        "branch": place.branch,
        "name": step.name or step.step_id or step.path,
        "path": step.path,
        "type": show.tag(step.type),
        "status": show.state(step.status),
        "tone": show.tone(step.status),
        "is_kept": is_kept,
        "bar": None if is_kept else _bar(step, start, end, now),
        "duration": show.duration(_duration_ms(step, now)),
        "started": show.clock(step.started_at) if step.started_at else "",
        "attempts": step.attempt if step.attempt > 1 else 0,
        "waits": _waits(step, now),
        "error": str((step.error or {}).get("message", "")) if isinstance(step.error, dict) else "",
    }


def _bar(step: StepExecution, start: datetime, end: datetime, now: datetime) -> dict[str, str] | None:
    """Where the step stands on the time line of the run, in percent."""
    total = (end - start).total_seconds()
    if step.started_at is None or total <= 0:
        return None
    left = min(max((step.started_at - start).total_seconds() / total, 0), 1)
    right = min(max(((step.finished_at or now) - start).total_seconds() / total, left), 1)
    return {"left": f"{left * 100:.2f}", "width": f"{(right - left) * 100:.2f}"}


def _duration_ms(step: StepExecution, now: datetime) -> float | None:
    if step.duration_ms is not None or step.started_at is None or step.finished_at is not None:
        return step.duration_ms
    return max(0.0, (now - step.started_at).total_seconds() * 1000)


def _waits(step: StepExecution, now: datetime) -> str:
    """For what a step waits and until when."""
    if step.status == Status.INTERRUPTED:
        return "Waits for a decision: it was cut off, so its outcome is unknown"
    if step.status != Status.WAITING:
        return ""
    is_retry = step.error is not None
    what = f"attempt {step.attempt + 1}" if is_retry else WORDS.get(step.type, "an event")
    until, end = step.next_attempt_at, step.execution.deadline_at
    word = "at" if is_retry else "until"
    waits = f"Waits for {what} {word} {_instant(until, now)}" if until else f"Waits for {what}, without a limit"
    return f"{waits}; the run ends {_instant(end, now)}" if end and (until is None or end < until) else waits


def _instant(instant: datetime, now: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC, {show.relative(instant, now)}"


def approvals_panel(run: WorkflowExecution, *, may_decide: bool, now: datetime) -> Panel:
    """The approvals that the run waits for, with the way to decide."""
    waiting = run.steps.filter(status=Status.WAITING, type="approval", signal__isnull=True).order_by("position", "id")
    return Panel(
        "Waits for approval",
        ["Step", "Question", "Approved", "Until"],
        [_approval_cells(step, may_decide=may_decide, now=now) for step in waiting],
    )


def _approval_cells(step: StepExecution, *, may_decide: bool, now: datetime) -> list[Any]:
    state = step.state or {}
    url = reverse("admin:workflows_stepexecution_approve", args=[step.pk])
    return [
        show.two_lines(show.link(url, "Approve or reject"), step.path) if may_decide else step.path,
        show.preformatted(str(state.get("message") or "")) or show.EMPTY,
        f"{len(state.get('decisions') or [])} of {state.get('required', 1)}",
        show.when_both(step.waits_until, now=now),
    ]
