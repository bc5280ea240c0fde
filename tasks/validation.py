"""Whether a task can be saved: all faults at once, each with its field."""

from __future__ import annotations

from typing import Any

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution import retry
from automation_lab.core.registry import UnknownKey
from tasks.handlers.base import handlers
from tasks.models import ScheduledTask
from tasks.notifying import notifications
from tasks.scheduling import schedules, slots, zones

CONFIG_NAMES = ("input", "last", "task", "execution", "secrets", "now")
RETRY_NAMES = ("error", "attempt")
MAX_TIMEOUT_SECONDS = 86_400

Fault = dict[str, Any]


def check_task(task: ScheduledTask) -> None:
    """Raise Invalid with every fault of `task`; fill in nothing."""
    faults = [
        *_zone_faults(task),
        *_schedule_faults(task),
        *_limit_faults(task),
        *_config_faults(task),
        *_policy_faults(task.retry_policy),
        *notifications.faults(task.notify),
    ]
    if faults:
        raise Invalid("The task is not valid.", errors=faults)


def _fault(field: str, detail: str, code: str = "invalid") -> Fault:
    return {"field": field, "code": code, "detail": detail}


def _zone_faults(task: ScheduledTask) -> list[Fault]:
    try:
        zones.zone_named(task.timezone)
    except Invalid as error:
        return [_fault(error.field, error.message, error.code)]
    return []


def _schedule_faults(task: ScheduledTask) -> list[Fault]:
    faults, start_at, end_at = [], task.start_at, task.end_at
    if start_at and end_at and end_at <= start_at:
        faults.append(_fault("end_at", "Must be later than start_at."))
        end_at = None  # so that this does not count as a schedule that never fires, too
    try:
        schedules.parse(
            task.schedule,
            zone=zones.zone_or_utc(task.timezone),
            anchor_at=task.anchor_at,
            start_at=start_at,
            end_at=end_at,
        )
    except Invalid as error:
        faults.append(_fault(error.field, error.message, error.code))
    return faults


def _limit_faults(task: ScheduledTask) -> list[Fault]:
    faults = []
    if not 1 <= task.timeout_seconds <= MAX_TIMEOUT_SECONDS:
        faults.append(_fault("timeout_seconds", f"Must be from 1 to {MAX_TIMEOUT_SECONDS}."))
    if task.jitter_seconds > MAX_TIMEOUT_SECONDS:
        faults.append(_fault("jitter_seconds", f"Must be at most {MAX_TIMEOUT_SECONDS}."))
    if task.misfire_limit > slots.MOST_RUNS:
        faults.append(_fault("misfire_limit", f"Must be at most {slots.MOST_RUNS}."))
    return faults


def _config_faults(task: ScheduledTask) -> list[Fault]:
    try:
        handler = handlers.get(task.task_type)
    except UnknownKey as error:
        return [_fault("task_type", str(error))]
    if not isinstance(task.config, dict):
        return [_fault("config", "Must be an object.")]
    faults = json_schema.check_config(task.config, handler.config_schema, templated=True)
    found = [_fault(f"config.{fault.path}" if fault.path else "config", fault.message, fault.rule) for fault in faults]
    rendered = {name: value for name, value in task.config.items() if name not in handler.unrendered}
    errors = [*expressions.check(rendered, CONFIG_NAMES), *handler.check(task.config)]
    return found + [
        _fault(f"config.{error.field}" if error.field else "config", error.message, error.code) for error in errors
    ]


def _policy_faults(policy: Any) -> list[Fault]:
    if not isinstance(policy, dict):
        return [_fault("retry_policy", "Must be an object.")]
    try:
        retry_if = retry.normalise(policy).retry_if
    except Invalid as error:
        return error.errors
    errors = expressions.check_condition(retry_if, RETRY_NAMES) if retry_if is not None else []
    return [_fault("retry_policy.retry_if", error.message, error.code) for error in errors]
