"""The step type `switch`: the first case that fits."""

from __future__ import annotations

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
    Steps,
    condition_faults,
    condition_references,
)

DEFAULT = "default"


class SwitchStep(ContainerType):
    """Run the steps of the first case whose `equals` is `value` or whose `when` is true, else those of `default`.

    The output is `{"case"}`: the case's number from 0, "default", or null when none fits and there is no default.
    """

    key = "switch"
    title = "Switch"
    unrendered = frozenset({"cases", "default"})
    branches = ("cases[].steps", DEFAULT)
    config_schema = {
        "type": "object",
        "required": ["cases"],
        "additionalProperties": False,
        "properties": {
            "value": {"default": None, "title": "Value", "description": "What the cases look at; `value` in `when`."},
            "cases": {
                "type": "array",
                "minItems": 1,
                "maxItems": 50,
                "title": "Cases",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "oneOf": [{"required": ["equals"]}, {"required": ["when"]}],
                    "properties": {
                        "equals": {"title": "Equals"},
                        "when": {"type": ["string", "boolean"], "title": "When"},
                        "steps": {"type": "array", "title": "Steps", "default": []},
                    },
                },
            },
            "default": {"type": "array", "title": "Default"},
        },
    }

    def decide(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        if expressions.contains_secret(config["value"]):
            raise RunError("A secret cannot be compared.", code="expression.secret")
        names = {**context.names, "value": config["value"]}
        for number, case in enumerate(config["cases"]):
            if _fits(case, names):
                return {"case": number}
        return {"case": DEFAULT if "default" in config else None}

    def walk(
        self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], children: Children
    ) -> dict[str, Any]:
        case = state["case"]
        if case == DEFAULT:
            children.run(Branch(DEFAULT, config["default"]))
        elif case is not None:
            children.run(Branch(str(case), config["cases"][case]["steps"]))
        return {"case": case}

    def child_steps(self, config: dict[str, Any]) -> dict[str, Steps]:
        found = {
            f"cases[{number}].steps": case["steps"]
            for number, case in _cases(config)
            if isinstance(case.get("steps"), list)
        }
        return {**found, **({DEFAULT: config[DEFAULT]} if isinstance(config.get(DEFAULT), list) else {})}

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        faults: list[Fault] = []
        for number, case in _cases(config):
            where = f"cases[{number}]"
            if isinstance(case.get("when"), str | bool):
                faults += condition_faults(case["when"], names | {"value"}, f"{where}.when")
            faults += [
                {"path": f"{where}.equals", "code": error.code, "message": error.message}
                for error in expressions.check(case.get("equals"), names)
            ]
        return faults

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        return {
            f"cases[{number}]": condition_references(case.get("when")) | expressions.references(case.get("equals"))
            for number, case in _cases(config)
        }


def _fits(case: dict[str, Any], names: dict[str, Any]) -> bool:
    if "when" in case:
        return expressions.evaluate_condition(case["when"], names)
    compared = {"value": names["value"], "wanted": expressions.render(case["equals"], names)}
    return expressions.evaluate_condition("value == wanted", compared)


def _cases(config: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    cases = config.get("cases")
    return [
        (number, case) for number, case in enumerate(cases if isinstance(cases, list) else []) if isinstance(case, dict)
    ]
