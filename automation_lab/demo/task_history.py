"""The demo's task runs: a week of slots with what goes wrong in a week."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import F
from django.db.models.functions import Coalesce

from automation_lab.demo.chance import PERIOD, Chance, later
from automation_lab.demo.definitions import Made
from tasks.models import ScheduledTask, TaskAttempt, TaskExecution, TaskLog
from tasks.scheduling import schedules

Status = TaskExecution.Status
WORKER = 1
RETRY_MS = 10_000
MOST_SLOTS = 1_000
# One night without a worker, in the middle of the week: its slots are missed, and one row tells how many.
OUTAGE_BEGAN_BEFORE = PERIOD / 2
OUTAGE = timedelta(hours=3)
RUNS_BY_HAND = 4


@dataclass(frozen=True)
class Habit:
    """How a task usually goes: its shares of trouble, its duration, what it gives back."""

    typical_ms: float
    failed: float = 0.0
    recovered: float = 0.0
    skipped: float = 0.0
    fault: tuple[str, str] = ("http.503", "The target answered 503; expected 2xx.")
    output: dict[str, Any] = field(default_factory=dict)
    line: str = "GET answered 200 after 84 ms."


def _answer(body: Any, *, status: int = 200) -> dict[str, Any]:
    return {"status": status, "headers": {"content-type": "application/json"}, "body": body, "elapsed_ms": 84}


HABITS = {
    "Daily report": Habit(1_900, failed=0.15, recovered=0.2, output=_answer({"pages": 12})),
    "Sync products": Habit(
        850,
        failed=0.02,
        recovered=0.05,
        skipped=0.02,
        fault=("timeout.total", "No answer within 30 s."),
        output=_answer({"changed": 17, "until": "2026-01-01T00:00:00Z"}),
    ),
    "Shop answers": Habit(
        130,
        failed=0.03,
        fault=("communication.connect", "shop.example.com refused the connection."),
        output=_answer(None),
        line="HEAD answered 200 after 84 ms.",
    ),
    "Announce release": Habit(
        310,
        output={"status": 202, "message_id": "msg_demo", "body": None, "elapsed_ms": 84},
        line="The webhook was answered 202 after 84 ms.",
    ),
    "Nightly clean-up": Habit(420, output={"deleted": 0}, line="Running prune."),
}


@dataclass
class Story:
    """Rows of one task, not saved yet."""

    executions: list[TaskExecution] = field(default_factory=list)
    attempts: list[TaskAttempt] = field(default_factory=list)
    lines: list[TaskLog] = field(default_factory=list)


def create(made: Made, chance: Chance) -> int:
    """Save the runs of every task, and what they add up to; the number of runs."""
    stories = {task.pk: _story(task, HABITS[task.name], chance) for task in made.tasks}
    executions = [execution for story in stories.values() for execution in story.executions]
    executions.sort(key=lambda execution: execution.scheduled_for or execution.started_at or chance.now)
    TaskExecution.objects.bulk_create(executions, batch_size=500)
    TaskAttempt.objects.bulk_create([row for story in stories.values() for row in story.attempts], batch_size=500)
    TaskLog.objects.bulk_create([row for story in stories.values() for row in story.lines], batch_size=500)
    arrived = Coalesce(F("scheduled_for"), F("started_at"))
    TaskExecution.objects.filter(pk__in=[execution.pk for execution in executions]).update(
        created_at=arrived, updated_at=F("finished_at")
    )
    for task in made.tasks:
        _count(task, stories[task.pk].executions)
    return len(executions)


def _story(task: ScheduledTask, habit: Habit, chance: Chance) -> Story:
    story = Story()
    missed_from = chance.now - OUTAGE_BEGAN_BEFORE
    slots = _slots(task, chance)
    missed = [slot for slot in slots if missed_from <= slot < missed_from + OUTAGE]
    for slot in slots:
        if slot not in missed:
            _add_slot(story, task, habit, slot, chance)
    if missed:
        _add_missed(story, task, missed, missed_from + OUTAGE)
    if not task.schedule:
        for at in sorted(chance.instant() for _ in range(RUNS_BY_HAND)):
            _add_run(story, _by_hand(task, at, chance), habit, chance)
    return story


def _slots(task: ScheduledTask, chance: Chance) -> list[datetime]:
    schedule = schedules.parse(task.schedule, zone=ZoneInfo(task.timezone))
    return schedule.slots_between(chance.now - PERIOD, chance.now, limit=MOST_SLOTS) if schedule else []


def _add_slot(story: Story, task: ScheduledTask, habit: Habit, slot: datetime, chance: Chance) -> None:
    execution = TaskExecution(
        task=task, trigger=TaskExecution.Trigger.SCHEDULE, scheduled_for=slot, correlation_id=chance.hex(32)
    )
    if chance.happens(habit.skipped):
        execution.status, execution.finished_at = Status.SKIPPED, slot
        execution.error_message = "Skipped: the run of an earlier slot is still going on."
        story.executions.append(execution)
        return
    execution.started_at = later(slot, chance.milliseconds(12))
    _add_run(story, execution, habit, chance)


def _add_missed(story: Story, task: ScheduledTask, missed: list[datetime], noticed_at: datetime) -> None:
    message = f"Missed: more than {task.grace_seconds} s late."
    story.executions.append(
        TaskExecution(
            task=task,
            trigger=TaskExecution.Trigger.SCHEDULE,
            scheduled_for=missed[0],
            status=Status.MISSED,
            count=len(missed),
            finished_at=noticed_at,
            error_message=message,
        )
    )


def _by_hand(task: ScheduledTask, at: datetime, chance: Chance) -> TaskExecution:
    version = f"{chance.randint(1, 4)}.{chance.randint(0, 20)}.0"
    return TaskExecution(
        task=task,
        trigger=TaskExecution.Trigger.MANUAL,
        input_data={"version": version},
        started_at=at,
        correlation_id=chance.hex(32),
    )


def _add_run(story: Story, execution: TaskExecution, habit: Habit, chance: Chance) -> None:
    draw = chance.random()
    fails = draw < habit.failed
    attempts = int(execution.task.retry_policy.get("max_attempts", 1)) if fails else 1
    if habit.failed <= draw < habit.failed + habit.recovered:
        attempts = 2
    at = execution.started_at or chance.now
    story.executions.append(execution)
    for number in range(1, attempts + 1):
        good = number == attempts and not fails
        at = _add_attempt(story, execution, habit, number, attempts, at, chance, good)
    execution.status = _status_of(habit) if fails else Status.SUCCESS
    execution.error_message = habit.fault[1] if fails else ""
    execution.output_data = None if fails else habit.output
    execution.attempt, execution.epoch, execution.finished_at = attempts, attempts, at
    execution.duration_ms = _milliseconds(execution.started_at, at)


def _add_attempt(
    story: Story,
    execution: TaskExecution,
    habit: Habit,
    number: int,
    attempts: int,
    at: datetime,
    chance: Chance,
    good: bool,
) -> datetime:
    """Returns when the next attempt begins, or when the last one ended."""
    ended_at = later(at, chance.milliseconds(habit.typical_ms))
    next_at = later(ended_at, RETRY_MS * 2 ** (number - 1)) if number < attempts else None
    code, message = ("", "") if good else habit.fault
    story.attempts.append(
        TaskAttempt(
            execution=execution,
            number=number,
            epoch=number,
            worker=WORKER,
            status=Status.SUCCESS if good else _status_of(habit),
            started_at=at,
            finished_at=ended_at,
            duration_ms=_milliseconds(at, ended_at),
            error_class=code,
            error_message=message,
            next_attempt_at=next_at,
        )
    )
    text = habit.line if good else f"Attempt {number} failed: {message}"
    level = "info" if good else "error"
    story.lines.append(TaskLog(execution=execution, epoch=number, seq=0, at=ended_at, level=level, text=text))
    return next_at or ended_at


def _status_of(habit: Habit) -> str:
    return Status.TIMEOUT if habit.fault[0].startswith("timeout") else Status.FAILED


def _milliseconds(begun_at: datetime | None, ended_at: datetime) -> int:
    return round((ended_at - (begun_at or ended_at)).total_seconds() * 1000)


def _count(task: ScheduledTask, executions: list[TaskExecution]) -> None:
    ran = [row for row in executions if row.started_at]
    good = [row for row in ran if row.status == Status.SUCCESS]
    in_a_row = next((number for number, row in enumerate(reversed(ran)) if row.status == Status.SUCCESS), len(ran))
    ScheduledTask.objects.filter(pk=task.pk).update(
        success_count=len(good),
        failure_count=len(ran) - len(good),
        consecutive_failures=in_a_row,
        last_run_at=ran[-1].finished_at if ran else None,
        last_output=good[-1].output_data if good else None,
    )
