"""The step type `for_each`: the same steps for every item of a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from automation_lab.core import expressions
from automation_lab.core.execution.failures import RunError
from automation_lab.core.execution.results import MAX_OUTPUT_BYTES
from automation_lab.core.expressions import Reference
from automation_lab.core.previews import results_cut
from automation_lab.core.safe_json import dump
from workflows.links import contains_token
from workflows.steps.base import (
    Branch,
    BranchResult,
    Children,
    ContainerType,
    Fault,
    StepContext,
    child_error,
    condition_faults,
    condition_references,
)

MAX_ITEMS = 1_000
MAX_STATE_BYTES = 4 * 1024 * 1024
MAX_RESULT_BYTES = MAX_OUTPUT_BYTES - 4_096  # leaves room for the counts
NAMES = frozenset({"item", "index"})


class ForEachStep(ContainerType):
    """Run the steps once for each item, with `item` and `index`; the output is `{"count", "succeeded", "failed", "results"}`.

    `results` has for each item the value of `collect`, or without it the output of the last step; null for one that failed.
    With a `batch_size` above 1, `item` is a list of up to that many items.
    """

    key = "for_each"
    title = "For each"
    unrendered = frozenset({"items", "steps", "collect"})
    branches = ("steps",)
    isolated = True
    config_schema = {
        "type": "object",
        "required": ["items", "steps"],
        "additionalProperties": False,
        "properties": {
            "items": {"type": ["string", "array"], "title": "Items", "description": "An expression that gives a list."},
            "steps": {"type": "array", "title": "Steps"},
            "concurrency": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1, "title": "At a time"},
            "on_item_error": {"enum": ["stop", "continue"], "default": "stop", "title": "When an item fails"},
            "max_items": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_ITEMS,
                "default": MAX_ITEMS,
                "title": "At most",
            },
            "batch_size": {"type": "integer", "minimum": 1, "maximum": MAX_ITEMS, "default": 1, "title": "Batch size"},
            "collect": {
                "type": "string",
                "title": "Collect",
                "description": "An expression over `item`, `index` and the steps inside.",
            },
        },
    }

    def decide(self, *, config: dict[str, Any], context: StepContext) -> dict[str, Any]:
        """The items are kept: a later look at the expression could give others."""
        items = config["items"]
        items = context.value(items) if isinstance(items, str) else expressions.render(items, context.names)
        if not isinstance(items, list | tuple):
            raise RunError("`items` must give a list.", code="configuration.items")
        if len(items) > config["max_items"]:
            message = f"{len(items)} items are more than max_items ({config['max_items']})."
            raise RunError(message, code="limit.items")
        return {"items": _storable(list(items))}

    def walk(
        self, *, config: dict[str, Any], context: StepContext, state: dict[str, Any], children: Children
    ) -> dict[str, Any]:
        rounds = list(_batches(state["items"], config["batch_size"]))
        branches = [
            Branch(str(index), config["steps"], names={"item": item, "index": index}, isolated=True)
            for index, item in enumerate(rounds)
        ]
        stops = config["on_item_error"] == "stop"
        results = children.run_all(branches, concurrency=config["concurrency"], give_up=stops)
        failed = [result for result in results if not result.succeeded]
        if failed and stops:
            raise child_error(failed[0], f"Item {failed[0].key}")
        return {
            "count": len(rounds),
            "succeeded": len(results) - len(failed),
            "failed": len(failed),
            "results": _bounded([_collected(result, config.get("collect")) for result in results]),
        }

    def child_names(self) -> frozenset[str]:
        return NAMES

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        faults: list[Fault] = []
        if isinstance(config.get("items"), str):
            faults += condition_faults(config["items"], names, "items")
        else:
            faults += [
                {"path": f"items{error.field}", "code": error.code, "message": error.message}
                for error in expressions.check(config.get("items"), names)
            ]
        if isinstance(config.get("collect"), str):
            faults += condition_faults(config["collect"], names | NAMES, "collect")
        return faults

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        items = config.get("items")
        return {"items": condition_references(items) if isinstance(items, str) else expressions.references(items)}

    def inner_references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        return {"collect": condition_references(config.get("collect"))}


def _storable(items: list[Any]) -> list[Any]:
    if expressions.contains_secret(items) or contains_token(items):
        raise RunError("A secret cannot be an item.", code="expression.secret")
    if len(dump(items).encode()) > MAX_STATE_BYTES:
        message = f"The items have more than {MAX_STATE_BYTES // 1024 // 1024} MiB: pass less of each, such as its id."
        raise RunError(message, code="limit.items")
    return items


def _batches(items: list[Any], size: int) -> Iterator[Any]:
    if size == 1:
        yield from items
        return
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _collected(result: BranchResult, collect: str | None) -> Any:
    if not result.succeeded:
        return None
    return expressions.parse_condition(collect).render(result.names) if collect else result.output


def _bounded(results: list[Any]) -> Any:
    """The results, or a mark in their place: the counts beside them stay readable in any case."""
    if expressions.contains_secret(results):
        raise RunError("A secret cannot be part of a step's result.", code="expression.secret")
    size_bytes = 0
    for result in results:
        size_bytes += len(dump(result).encode()) + 1
        if size_bytes > MAX_RESULT_BYTES:
            return results_cut()
    return results
