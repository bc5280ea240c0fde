"""The step type `while`: the same steps as long as a condition holds."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from automation_lab.core import expressions
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import Reference
from workflows.steps.base import (
    Branch,
    Children,
    ContainerType,
    Fault,
    StepContext,
    condition_faults,
    condition_references,
)

INDEX = frozenset({"index"})


class WhileStep(ContainerType):
    """Repeat the steps while `condition` is true, judged before each round; the output is `{"iterations"}`.

    Inside and afterwards, `steps.<id>` is the result of the last round.
    """

    key = "while"
    title = "While"
    unrendered = frozenset({"condition", "steps"})
    branches = ("steps",)
    config_schema = {
        "type": "object",
        "required": ["condition", "steps"],
        "additionalProperties": False,
        "properties": {
            "condition": {
                "type": ["string", "boolean"],
                "title": "Condition",
                "description": "An expression; before the first round the steps inside have no result: add | default(…).",
            },
            "steps": {"type": "array", "title": "Steps", "minItems": 1},
            "max_iterations": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100, "title": "At most"},
            "delay_seconds": {
                "type": "number",
                "minimum": 0,
                "maximum": 31_622_400,
                "default": 0,
                "title": "Seconds between rounds",
            },
        },
    }

    def decide(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        return {}

    def walk(
        self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], children: Children
    ) -> dict[str, Any]:
        for index in range(config["max_iterations"]):
            branch = Branch(str(index), config["steps"], names={"index": index})
            # A round on record was judged before: judging it again could end the loop in the middle of it.
            if not children.has_begun(branch) and not _goes_on(config, index, state, children):
                return {"iterations": index}
            children.run(branch)
        if _goes_on(config, config["max_iterations"], state, children):
            message = f"The condition still holds after {config['max_iterations']} rounds."
            raise RunError(message, code="limit.iterations")
        return {"iterations": config["max_iterations"]}

    def child_names(self) -> frozenset[str]:
        return INDEX

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        source = config.get("condition")
        return condition_faults(source, names | INDEX, "condition") if isinstance(source, str | bool) else []

    def inner_references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        return {"condition": condition_references(config.get("condition"))}


def _goes_on(config: dict[str, Any], index: int, state: dict[str, Any], children: Children) -> bool:
    """Whether another round follows; if so, only when the time between rounds has passed."""
    if not expressions.evaluate_condition(config["condition"], {**children.names(), "index": index}):
        return False
    if 0 < index < config["max_iterations"] and config["delay_seconds"]:
        _pause(config["delay_seconds"], index, state, children)
    return True


def _pause(seconds: float, index: int, state: dict[str, Any], children: Children) -> None:
    pause = state.get("pause") or {}
    if pause.get("before") != index:
        pause = {"before": index, "until": (children.now() + timedelta(seconds=seconds)).isoformat()}
        children.remember(pause=pause)
    children.sleep_until(datetime.fromisoformat(pause["until"]))
