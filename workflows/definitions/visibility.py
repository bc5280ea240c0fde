"""Which results the expressions of a step can see: static, over the whole definition, with what is wrong and what is risky."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from automation_lab.core import expressions
from automation_lab.core.expressions import Reference, nearest_hint
from workflows.definitions.tree import walk
from workflows.links import KINDS
from workflows.steps.base import ContainerType, Steps, StepType, condition_references, step_types

STEP_FIELDS = ("output", "status", "error", "attempts")
FIELDS = {
    "trigger": (
        "data", "body", "source", "event_type", "type", "headers", "query", "method", "id", "received_at",
    ),
    "execution": ("id", "attempt", "started_at", "idempotency_key", "url"),
    "workflow": ("id", "name", "version"),
}  # fmt: skip
SURE = ""
MAY_BE_ABSENT = "it runs only in a branch, so it may have no result here"
MAY_BE_NULL = "it may be skipped or fail, and then its output is null"
GUARD = "Add `| default(…)` if that is meant."

Seen = dict[str, str]


@dataclass
class Findings:
    """`faults` keep a definition from being saved, `warnings` do not."""

    faults: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)

    def fault(self, where: str, detail: str, code: str) -> None:
        self.faults.append({"field": where, "code": code, "detail": detail})

    def warn(self, where: str, detail: str) -> None:
        self.warnings.append({"path": where, "detail": detail})


class References:
    """Looks at every reference of a definition whose types and ids are valid."""

    def __init__(self, steps: Steps, *, known_ids: Iterable[str] = ()) -> None:
        self.found = Findings()
        self.everything = {*known_ids, *_ids(steps)}
        self.secrets: dict[str, str] = {}  # name -> where it is used first
        self._sequence(steps, "steps", dict.fromkeys(known_ids, SURE), frozenset())

    def _sequence(self, steps: Steps, where: str, seen: Seen, links: frozenset[str]) -> Seen:
        """Returns the ids that this sequence adds to what comes after it."""
        links |= {step["id"] for step in steps if step["type"] in KINDS}
        added: Seen = {}
        for number, step in enumerate(steps):
            added.update(self._step(step, f"{where}[{number}]", {**seen, **added}, links))
        return added

    def _step(self, step: dict[str, Any], where: str, seen: Seen, links: frozenset[str]) -> Seen:
        step_type, config = step_types.get(step["type"]), step.get("config") or {}
        self._check(f"{where}.condition", condition_references(step.get("condition")), seen, links)
        for name, references in _references(step_type, config):
            self._check(f"{where}.config.{name}", references, seen, links)
        added: Seen = {}
        if isinstance(step_type, ContainerType):
            added.update(self._children(step_type, config, where, seen, links))
        handler = step.get("on_error", "fail")
        is_sure = step.get("enabled", True) is True and step.get("condition", True) is True and handler == "fail"
        if isinstance(handler, dict):
            inside = self._sequence(handler["steps"], f"{where}.on_error.steps", {**seen, step["id"]: SURE}, links)
            added.update(dict.fromkeys(inside, MAY_BE_ABSENT))
        if not is_sure:
            added = dict.fromkeys(added, MAY_BE_ABSENT)
        return {**added, step["id"]: SURE if is_sure else MAY_BE_NULL}

    def _children(
        self, step_type: ContainerType, config: dict[str, Any], where: str, seen: Seen, links: frozenset[str]
    ) -> Seen:
        sure = step_type.surely_run(config)
        inside: Seen = {}
        added: Seen = {}
        for path, children in step_type.child_steps(config).items():
            branch = self._sequence(children, f"{where}.config.{path}", seen, links)
            inside.update(branch)
            added.update(branch if path in sure else dict.fromkeys(branch, MAY_BE_ABSENT))
        for name, references in step_type.inner_references(config).items():
            self._check(f"{where}.config.{name}", references, {**seen, **inside}, links)
        return {} if step_type.isolated else added

    def _check(self, where: str, references: Iterable[Reference], seen: Seen, links: frozenset[str]) -> None:
        for reference in sorted(references, key=str):
            if reference.root == "steps" and reference.path:
                self._check_step(where, reference, seen)
            elif reference.root == "callbacks" and reference.path:
                self._check_link(where, reference, links)
            elif reference.root == "secrets" and reference.path:
                self.secrets.setdefault(str(reference.path[0]), where)
            elif reference.root in FIELDS and reference.path:
                self._check_field(where, reference, reference.path[0], FIELDS[reference.root])

    def _check_step(self, where: str, reference: Reference, seen: Seen) -> None:
        step_id = str(reference.path[0])
        if step_id not in self.everything:
            hint = nearest_hint(step_id, self.everything)
            self.found.fault(where, f"`{reference}`: no step has the id {step_id!r}.{hint}", "unknown_step")
            return
        if len(reference.path) > 1:
            self._check_field(where, reference, reference.path[1], STEP_FIELDS)
        if reference.guarded:
            return
        if step_id not in seen:
            detail = f"`{reference}`: the step {step_id!r} runs later or in another branch, so it has no result here."
            self.found.fault(where, detail, "unknown_step")
        elif seen[step_id] == MAY_BE_ABSENT or (
            seen[step_id] == MAY_BE_NULL and len(reference.path) > 2 and reference.path[1] == "output"
        ):
            self.found.warn(where, f"`{reference}`: {seen[step_id]}. {GUARD}")

    def _check_link(self, where: str, reference: Reference, links: frozenset[str]) -> None:
        if reference.path[0] not in links:
            detail = (
                f"`{reference}`: {reference.path[0]!r} is no step of type {' or '.join(KINDS)} of this sequence or one "
                f"around it.{nearest_hint(str(reference.path[0]), links)}"
            )
            self.found.fault(where, detail, "unknown_step")
        elif not settings.PUBLIC_URL:
            detail = f"`{reference}`: PUBLIC_URL is not set, so this is a path that nobody outside can follow."
            self.found.warn(where, detail)

    def _check_field(self, where: str, reference: Reference, name: str | int, known: tuple[str, ...]) -> None:
        if name not in known and not reference.guarded:
            hint = nearest_hint(str(name), known) or f" Known are {', '.join(known)}."
            self.found.fault(where, f"`{reference}`: there is no `{name}`.{hint}", "expression.name")


def _references(step_type: StepType, config: Mapping[str, Any]) -> Iterator[tuple[str, set[Reference]]]:
    for name, value in config.items():
        if name not in step_type.unrendered:
            yield name, expressions.references(value)
    yield from step_type.references(dict(config)).items()


def _ids(steps: Steps) -> Iterator[str]:
    return (item.step["id"] for item in walk(steps))
