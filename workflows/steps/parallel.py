"""The step type `parallel`: branches side by side."""

from __future__ import annotations

from typing import Any

from automation_lab.core.execution.failures import RunError
from workflows.steps.base import Branch, BranchResult, Children, ContainerType, Fault, StepContext, Steps, child_error

MAX_BRANCHES = 20
MAX_CONCURRENCY = 10


class ParallelStep(ContainerType):
    """Run branches at the same time; the output is `{branch: {"status", "output"}}` with the output of its last step.

    A branch sees the steps before this one and its own. Once enough have succeeded the others are cancelled.
    """

    key = "parallel"
    title = "Parallel"
    unrendered = frozenset({"branches"})
    branches = ("branches[].steps",)
    config_schema = {
        "type": "object",
        "required": ["branches"],
        "additionalProperties": False,
        "properties": {
            "branches": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_BRANCHES,
                "title": "Branches",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "additionalProperties": False,
                    "properties": {
                        "name": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,39}$", "title": "Name"},
                        "steps": {"type": "array", "title": "Steps", "default": []},
                    },
                },
            },
            "wait_for": {
                "default": "all",
                "anyOf": [{"enum": ["all", "any"]}, {"type": "integer", "minimum": 1, "maximum": MAX_BRANCHES}],
                "title": "Wait for",
                "description": "all, any, or how many branches have to succeed.",
            },
            "on_branch_error": {
                "enum": ["fail_fast", "wait", "continue"],
                "default": "fail_fast",
                "title": "When a branch fails",
                "description": "fail_fast cancels the others, wait fails after them, continue goes on without it.",
            },
        },
    }

    def decide(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        wanted = config["wait_for"]
        if isinstance(wanted, int) and wanted > len(config["branches"]):
            message = f"wait_for is {wanted}, but there are {len(config['branches'])} branches."
            raise RunError(message, code="configuration.wait_for")
        return {}

    def walk(
        self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], children: Children
    ) -> dict[str, Any]:
        branches = [Branch(branch["name"], branch["steps"]) for branch in config["branches"]]
        wanted = {"all": len(branches), "any": 1}.get(config["wait_for"], config["wait_for"])
        is_race = wanted < len(branches)
        results = children.run_all(
            branches,
            concurrency=min(len(branches), MAX_CONCURRENCY),
            enough=wanted if is_race else None,
            # In a race a failed branch only makes the others count.
            give_up=config["on_branch_error"] == "fail_fast" and not is_race,
        )
        _check(results, wanted, config["on_branch_error"])
        ended = {result.key: {"status": result.status, "output": result.output} for result in results}
        return {branch.key: ended.get(branch.key, {"status": "cancelled", "output": None}) for branch in branches}

    def child_steps(self, config: dict[str, Any]) -> dict[str, Steps]:
        return {
            f"branches[{number}].steps": branch["steps"]
            for number, branch in enumerate(_branches(config))
            if isinstance(branch, dict) and isinstance(branch.get("steps"), list)
        }

    def surely_run(self, config: dict[str, Any]) -> set[str]:
        is_sure = config.get("wait_for", "all") == "all" and config.get("on_branch_error", "fail_fast") != "continue"
        return set(self.child_steps(config)) if is_sure else set()

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        first: dict[str, int] = {}
        faults: list[Fault] = []
        for number, branch in enumerate(_branches(config)):
            name = branch.get("name") if isinstance(branch, dict) else None
            if isinstance(name, str) and first.setdefault(name, number) != number:
                detail = f"{name!r} is the name of branches[{first[name]}] too."
                faults.append({"path": f"branches[{number}].name", "code": "duplicate", "message": detail})
        return faults


def _check(results: list[BranchResult], wanted: int, on_error: str) -> None:
    """Raise what a failed branch leads to."""
    failed = [result for result in results if not result.succeeded]
    enough = len(results) - len(failed) >= wanted
    if failed and not enough and on_error != "continue":
        raise child_error(failed[0], f"Branch {failed[0].key}")


def _branches(config: dict[str, Any]) -> list[Any]:
    branches = config.get("branches")
    return branches if isinstance(branches, list) else []
