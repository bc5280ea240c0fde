"""The demo's workflow runs: those that webhooks started, and some by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F

from automation_lab.demo.chance import Chance, later
from automation_lab.demo.definitions import Made
from automation_lab.demo.workflow_plays import WORKFLOWS, Play, WorkflowPlan
from inbox.models import Webhook
from workflows.models import StepAttempt, StepExecution, Workflow, WorkflowExecution, WorkflowLog, WorkflowVersion

Status = WorkflowExecution.Status
WORKER = 1
RETRY_MS = 10_000
PICKED_UP_MS = 18


@dataclass
class Story:
    """One run with all its rows, not saved yet."""

    execution: WorkflowExecution
    steps: list[StepExecution]
    attempts: list[StepAttempt]
    lines: list[WorkflowLog]
    webhook: Webhook | None


def create(made: Made, webhooks: list[Webhook], chance: Chance) -> int:
    """Save the runs and settle the webhooks that started them; the number of runs."""
    stories = [
        _story(plan, made, chance, webhook.received_at, webhook)
        for webhook in webhooks
        if (plan := _plan_for(webhook)) is not None
    ]
    for plan in WORKFLOWS:
        stories += [_story(plan, made, chance, chance.instant(), None) for _ in range(plan.runs_by_hand)]
    stories.sort(key=lambda story: story.execution.started_at or chance.now)
    _save(stories)
    _settle([story for story in stories if story.webhook])
    _count(stories, made)
    return len(stories)


def _plan_for(webhook: Webhook) -> WorkflowPlan | None:
    if webhook.status == Webhook.Status.REJECTED or webhook.is_duplicate:
        return None
    trigger = {"source": webhook.source, "event_type": webhook.event_type}
    return next((plan for plan in WORKFLOWS if plan.trigger_config == trigger), None)


def _story(plan: WorkflowPlan, made: Made, chance: Chance, at: datetime, webhook: Webhook | None) -> Story:
    version = _version_at(made.versions[plan.name], at)
    started_at = later(at, chance.milliseconds(PICKED_UP_MS))
    data: dict[str, Any] = webhook.body if webhook else {}  # type: ignore[assignment]  # the demo's bodies are objects
    execution = WorkflowExecution(
        workflow=made.workflows[plan.name],
        version=version,
        trigger_source="webhook" if webhook else "manual",
        trigger_data=data,
        webhook=webhook,
        dedupe_key=f"webhook:{webhook.pk}" if webhook else "",
        total_steps=len(version.steps),
        epoch=1,
        attempt=1,
        correlation_id=webhook.correlation_id if webhook else chance.hex(32),
        started_at=started_at,
    )
    story = Story(execution, [], [], [], webhook)
    top_level = {step["id"]: step for step in version.steps}
    plays = plan.run(data, chance, chance.happens(plan.failure_share))
    # An older version has fewer steps.
    _play(story, [play for play in plays if _root(play) in top_level], chance)
    return story


def _version_at(versions: list[WorkflowVersion], at: datetime) -> WorkflowVersion:
    return [version for version in versions if version.created_at <= at][-1]


def _root(play: Play) -> str:
    return play.path.partition("[")[0]


def _play(story: Story, plays: list[Play], chance: Chance) -> None:
    """Let the steps happen one after the other, and the run end with them."""
    execution = story.execution
    at = execution.started_at or chance.now
    for play in plays:
        at = _add_step(story, play, at, chance)
        if play.error is None and play.path == _root(play):
            execution.current_step += 1
        if play.error is None and play.type == "set":
            execution.variables = {**execution.variables, **play.output}
    failure = plays[-1].error
    execution.status = Status.SUCCESS if failure is None else _status_of(failure[0])
    execution.error_message = f"Step {plays[-1].path}: {failure[1]}" if failure else ""
    _log(story, "error" if failure else "info", execution.error_message or "Finished.", at)
    execution.finished_at = later(at, 1)
    execution.duration_ms = _milliseconds(execution.started_at, execution.finished_at)


def _add_step(story: Story, play: Play, at: datetime, chance: Chance) -> datetime:
    """Returns when it ended."""
    step = StepExecution(
        execution=story.execution,
        path=play.path,
        step_id=play.path.rpartition("/")[2],
        type=play.type,
        position=len(story.steps) + 1,
        status=_status_of(play.error[0]) if play.error else Status.SUCCESS,
        attempt=play.attempts,
        idempotency_key=chance.hex(32),
        input=play.input,
        output=play.output,
        scheduled_at=at,
        started_at=at,
    )
    story.steps.append(step)
    ended_at = at
    for number in range(1, play.attempts + 1):
        is_last = number == play.attempts
        begun_at, ended_at = ended_at, later(ended_at, chance.milliseconds(play.typical_ms))
        fault = play.error or (None if is_last else ("http.503", "The target answered 503; expected 2xx."))
        _add_attempt(story, step, play, number, (begun_at, ended_at), fault)
        if not is_last:
            ended_at = later(ended_at, RETRY_MS * 2 ** (number - 1))
    if play.error:
        step.error = _error(play, play.attempts, play.error)
    elif play.log:
        _log(story, "info", play.log, ended_at, play.path)
    step.finished_at = ended_at
    step.duration_ms = _milliseconds(at, ended_at)
    return ended_at


def _add_attempt(
    story: Story,
    step: StepExecution,
    play: Play,
    number: int,
    times: tuple[datetime, datetime],
    fault: tuple[str, str] | None,
) -> None:
    if play.type not in ("api_call", "email"):
        return  # steps without effect have no attempts of their own
    begun_at, ended_at = times
    story.attempts.append(
        StepAttempt(
            step=step,
            number=number,
            epoch=1,
            worker=WORKER,
            status=_status_of(fault[0]) if fault else Status.SUCCESS,
            started_at=begun_at,
            finished_at=ended_at,
            duration_ms=_milliseconds(begun_at, ended_at),
            error=_error(play, number, fault) if fault else None,
        )
    )
    if fault:
        _log(story, "warning" if number < play.attempts else "error", fault[1], ended_at, play.path)


def _error(play: Play, attempt: int, fault: tuple[str, str]) -> dict[str, Any]:
    code, message = fault
    return {
        "code": code,
        "type": code.partition(".")[0],
        "message": message,
        "retryable": True,
        "step": play.path,
        "attempt": attempt,
    }


def _status_of(code: str) -> str:
    return Status.TIMEOUT if code.startswith("timeout") else Status.FAILED


def _log(story: Story, level: str, text: str, at: datetime, path: str = "") -> None:
    line = WorkflowLog(
        execution=story.execution, epoch=1, seq=len(story.lines), at=at, level=level, text=text, path=path
    )
    story.lines.append(line)


def _milliseconds(begun_at: datetime | None, ended_at: datetime) -> int:
    return round((ended_at - (begun_at or ended_at)).total_seconds() * 1000)


def _save(stories: list[Story]) -> None:
    executions = [story.execution for story in stories]
    WorkflowExecution.objects.bulk_create(executions, batch_size=500)
    StepExecution.objects.bulk_create([step for story in stories for step in story.steps], batch_size=500)
    StepAttempt.objects.bulk_create([attempt for story in stories for attempt in story.attempts], batch_size=500)
    WorkflowLog.objects.bulk_create([line for story in stories for line in story.lines], batch_size=500)
    ids = [execution.pk for execution in executions]
    WorkflowExecution.objects.filter(pk__in=ids).update(created_at=F("started_at"), updated_at=F("finished_at"))
    StepExecution.objects.filter(execution__in=ids).update(created_at=F("started_at"), updated_at=F("finished_at"))


def _settle(stories: list[Story]) -> None:
    """Webhooks take the status of what they started."""
    changed = []
    for story in stories:
        webhook, run = story.webhook, story.execution
        assert webhook is not None  # noqa: S101 - the caller has sorted the others out
        good = run.status == Status.SUCCESS
        webhook.status = Webhook.Status.PROCESSED if good else Webhook.Status.FAILED
        webhook.processed_at = run.finished_at
        webhook.error_message = "" if good else f"Workflow run {run.pk} {run.status}: {run.error_message}"
        changed.append(webhook)
    Webhook.objects.bulk_update(changed, ["status", "processed_at", "error_message"], batch_size=500)


def _count(stories: list[Story], made: Made) -> None:
    for workflow in made.workflows.values():
        results = [story.execution.status for story in stories if story.execution.workflow_id == workflow.pk]
        good = results.count(Status.SUCCESS)
        Workflow.objects.filter(pk=workflow.pk).update(success_count=good, failure_count=len(results) - good)
