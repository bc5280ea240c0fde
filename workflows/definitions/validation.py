"""A workflow's definition: its step envelopes, their ids, and whether it can be saved. Pure but for `warnings`."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from typing import Any

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import Invalid
from automation_lab.core.execution import retry
from tasks.models import Secret
from workflows.definitions import visibility
from workflows.definitions.tree import Placed, child_sequences, walk
from workflows.steps.base import Steps, StepType, WaitingType, step_types

MAX_STEPS = 200
MAX_DEPTH = 5
RETRY_NAMES = frozenset({"error", "attempt"})

ENVELOPE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,39}$"},
        "type": {"type": "string"},
        "name": {"type": "string", "maxLength": 200},
        "config": {"type": "object"},
        "enabled": {"type": "boolean"},
        "condition": {"type": ["string", "boolean"]},
        "retry": {"type": ["object", "null"]},
        "timeout_seconds": {"type": "number", "minimum": 0.1, "maximum": 86400},
        "on_error": {
            "anyOf": [
                {"enum": ["fail", "continue"]},
                {
                    "type": "object",
                    "required": ["steps"],
                    "additionalProperties": False,
                    "properties": {"steps": {"type": "array"}},
                },
            ]
        },
        "output_as": {"type": "string", "pattern": "^vars\\.[A-Za-z_][A-Za-z0-9_.]*$"},
        "log_level": {"enum": ["debug", "info", "warning", "error"]},
        "note": {"type": "string", "maxLength": 2000},
    },
}

Fault = dict[str, Any]


def normalised(steps: Any) -> Steps:
    """A copy of `steps` in which every step has an id. Raises Invalid when it is not a list of objects with a type."""
    copied = copy.deepcopy(steps)
    faults = _shape_faults(copied)
    if faults:
        raise Invalid("The steps are not valid.", errors=faults)
    taken = {step["id"] for step in _all(copied) if isinstance(step.get("id"), str)}
    for step in _all(copied):
        if "id" not in step:
            step["id"] = _free_id(step["type"], taken)
            taken.add(step["id"])
    return copied


def check(steps: Steps, *, known_ids: Iterable[str] = ()) -> None:
    """Raise Invalid with every fault of normalised `steps`, each with its path into the definition.

    `known_ids` are steps before these, for a step that is tested alone.
    """
    placed = list(walk(steps))
    faults = [*_limit_faults(placed), *_id_faults(placed)]
    for item in placed:
        faults += _step_faults(item)
    if not faults:
        faults = visibility.References(steps, known_ids=known_ids).found.faults
    if faults:
        raise Invalid("The steps are not valid.", errors=faults)


def warnings(steps: Steps) -> list[dict[str, str]]:
    """What does not keep valid `steps` from being saved: `[{path, detail}]`.

    Things that are missing now and may exist by the time the workflow runs, and results that may be missing then.
    """
    missing = [
        {"path": f"{item.where}.config", "detail": warning}
        for item in walk(steps)
        for warning in step_types.get(item.step["type"]).warnings(item.step.get("config") or {})
    ]
    seen = visibility.References(steps)
    return [*missing, *_missing_secrets(seen.secrets), *seen.found.warnings]


def long_waits(steps: Steps, timeout_seconds: int) -> Iterator[dict[str, str]]:
    """Warnings about steps that may wait for longer than a run may last."""
    for item in walk(steps):
        step_type = step_types.get(item.step["type"])
        seconds = step_type.wait_seconds(item.step.get("config") or {}) if isinstance(step_type, WaitingType) else None
        if seconds is not None and seconds > timeout_seconds:
            detail = f"It may wait {seconds:,.0f} seconds, but `timeout_seconds` ends a run after {timeout_seconds:,}."
            yield {"path": f"{item.where}.config", "detail": detail}


def _missing_secrets(places: dict[str, str]) -> Iterator[dict[str, str]]:
    known = set(Secret.objects.filter(name__in=places).values_list("name", flat=True)) if places else set()
    for name, where in places.items():
        if name not in known:
            yield {"path": where, "detail": f"There is no secret named {name!r} yet."}


def _all(steps: Steps) -> Iterator[dict[str, Any]]:
    return (item.step for item in walk(steps))


def _fault(field: str, detail: str, code: str = "invalid") -> Fault:
    return {"field": field, "code": code, "detail": detail}


def _shape_faults(steps: Any, where: str = "steps", depth: int = 1) -> list[Fault]:
    """Faults that keep the definition from being walked at all."""
    if not isinstance(steps, list):
        return [_fault(where, "Must be a list of steps.")]
    if steps and depth > MAX_DEPTH:
        return [_fault(where, f"Steps may be nested {MAX_DEPTH} deep at the most.", "limit")]
    faults: list[Fault] = []
    for number, step in enumerate(steps):
        here = f"{where}[{number}]"
        if not isinstance(step, dict):
            faults.append(_fault(here, "A step is an object with a `type` and a `config`."))
        elif not isinstance(step.get("type"), str):
            faults.append(_fault(f"{here}.type", "Every step needs a `type`.", "required"))
        else:
            for field, children in child_sequences(step).items():
                faults += _shape_faults(children, f"{here}.{field}", depth + 1)
    return faults


def _free_id(step_type: str, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9_]", "_", step_type.lower())[:34].lstrip("_0123456789") or "step"
    number = 1
    while (candidate := stem if number == 1 else f"{stem}_{number}") in taken:
        number += 1
    return candidate


def _limit_faults(placed: list[Placed]) -> list[Fault]:
    if len(placed) <= MAX_STEPS:
        return []
    return [_fault("steps", f"{len(placed)} steps are more than {MAX_STEPS}: use several workflows.", "limit")]


def _id_faults(placed: list[Placed]) -> list[Fault]:
    first: dict[str, str] = {}
    faults = []
    for item in placed:
        step_id = item.step["id"]
        if isinstance(step_id, str) and step_id in first:
            faults.append(_fault(f"{item.where}.id", f"{step_id!r} is the id of {first[step_id]} too.", "duplicate"))
        elif isinstance(step_id, str):
            first[step_id] = item.where
    return faults


def _step_faults(item: Placed) -> list[Fault]:
    step = item.step
    faults = [
        _fault(f"{item.where}.{fault.path}" if fault.path else item.where, fault.message, fault.rule)
        for fault in json_schema.validate(step, ENVELOPE_SCHEMA)
    ]
    if step["type"] not in step_types:
        hint = expressions.nearest_hint(step["type"], list(step_types))
        return [*faults, _fault(f"{item.where}.type", f"There is no step type {step['type']!r}.{hint}", "unknown")]
    return faults or [*_envelope_faults(item), *_config_faults(item)]


def _envelope_faults(item: Placed) -> list[Fault]:
    step, faults = item.step, []
    if "condition" in step:
        errors = expressions.check_condition(step["condition"], item.names)
        faults += [_fault(f"{item.where}.condition", error.message, error.code) for error in errors]
    return [*faults, *policy_faults(step.get("retry") or {}, f"{item.where}.retry")]


def policy_faults(policy: dict[str, Any], where: str) -> list[Fault]:
    """What is wrong with a retry policy, of the workflow or of a step."""
    try:
        retry_if = retry.normalise(policy).retry_if
    except Invalid as error:
        return [{**fault, "field": fault["field"].replace("retry_policy", where, 1)} for fault in error.errors]
    errors = expressions.check_condition(retry_if, RETRY_NAMES) if retry_if is not None else []
    return [_fault(f"{where}.retry_if", error.message, error.code) for error in errors]


def _config_faults(item: Placed) -> list[Fault]:
    step_type: StepType = step_types.get(item.step["type"])
    config, where = item.step.get("config") or {}, f"{item.where}.config"
    faults = [
        _fault(f"{where}.{fault.path}" if fault.path else where, fault.message, fault.rule)
        for fault in json_schema.check_config(config, step_type.config_schema, templated=True)
    ]
    rendered = {name: value for name, value in config.items() if name not in step_type.unrendered}
    faults += [
        _fault(f"{where}.{error.field}" if error.field else where, error.message, error.code)
        for error in expressions.check(rendered, item.names)
    ]
    own = step_type.check(config, set(item.names))
    return faults + [_fault(f"{where}.{fault['path']}", fault["message"], fault["code"]) for fault in own]
