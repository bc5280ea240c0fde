"""The step type `transform`: a list, or one value, into another form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from automation_lab.core import expressions
from automation_lab.core.execution.failures import RunError
from automation_lab.core.expressions import Budget, Reference, contains_secret
from workflows.steps.base import Fault, StepContext, StepType, condition_faults, condition_references

MAX_ITEMS = 10_000
WORK = 200_000
NAMES = frozenset({"item", "index"})
FIELD = {"type": "string", "minLength": 1, "maxLength": 200}

# One property each: the schema is a list of ways, so that the builder can offer them.
OPERATIONS: dict[str, dict[str, Any]] = {
    "map": {"title": "Map", "description": "An expression over `item` and `index`, or an object of such expressions."},
    "where": {"type": ["string", "boolean"], "title": "Where", "description": "A condition over `item`."},
    "pluck": {**FIELD, "title": "Pluck", "description": "The field, or the dotted path to it."},
    "sort": {
        "title": "Sort",
        "anyOf": [
            FIELD,
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {"by": FIELD, "descending": {"type": "boolean"}},
            },
        ],
        "description": "By a field, as text or {by, descending}.",
    },
    "unique": {"title": "Unique", "anyOf": [FIELD, {"const": True}], "description": "By a field, or true."},
    "group_by": {**FIELD, "title": "Group by", "description": "Gives an object: the field's value → its items."},
    "limit": {"type": "integer", "minimum": 0, "title": "Limit"},
    "rename": {
        "type": "object",
        "additionalProperties": {"type": "string", "minLength": 1},
        "title": "Rename fields",
        "description": "Old name: new name.",
    },
}


class TransformStep(StepType):
    """Pass `input` through the `steps`, one after the other; the output is what comes out.

    All but `group_by` take a list and give one; a `map` or `rename` of another value changes that value.
    """

    key = "transform"
    title = "Transform"
    unrendered = frozenset({"steps"})
    config_schema = {
        "type": "object",
        "required": ["input"],
        "additionalProperties": False,
        "properties": {
            "input": {"title": "Input"},
            "steps": {
                "type": "array",
                "maxItems": 50,
                "default": [],
                "title": "Operations",
                "items": {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": False,
                    "properties": OPERATIONS,
                },
            },
        },
    }

    def run(self, *, config: dict[str, Any], context: StepContext) -> Any:
        value, budget = config["input"], Budget(WORK)
        if contains_secret(value):
            raise RunError("A secret cannot be part of a step's result.", code="expression.secret")
        for number, operation in enumerate(config["steps"]):
            [(name, argument)] = operation.items()
            if isinstance(value, list) and len(value) > MAX_ITEMS:
                raise RunError(f"A list may have {MAX_ITEMS:,} items at the most here.", code="limit.items")
            try:
                value = OPERATE[name](value, argument, context, budget)
            except expressions.ExpressionError as error:
                raise RunError(f"steps[{number}].{name}: {error.message}", code=error.code) from error
        return value

    def check(self, config: dict[str, Any], names: set[str]) -> list[Fault]:
        faults: list[Fault] = []
        for where, source in _sources(config):
            if isinstance(source, str | bool):
                faults += condition_faults(source, names | NAMES, where)
            else:
                faults += [
                    {"path": f"{where}.{error.field}", "code": error.code, "message": error.message}
                    for error in expressions.check(source, names | NAMES)
                ]
        return faults

    def references(self, config: dict[str, Any]) -> dict[str, set[Reference]]:
        return {
            where: condition_references(source) if isinstance(source, str) else expressions.references(source)
            for where, source in _sources(config)
        }


def _sources(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """The expressions of `map` and `where`, by path."""
    steps = config.get("steps")
    return [
        (f"steps[{number}].{name}", operation[name])
        for number, operation in enumerate(steps if isinstance(steps, list) else [])
        if isinstance(operation, dict)
        for name in ("map", "where")
        if name in operation
    ]


def _map(value: Any, form: Any, context: StepContext, budget: Budget) -> Any:
    def mapped(item: Any, index: int) -> Any:
        names = {**context.names, "item": item, "index": index}
        if isinstance(form, str):
            return expressions.parse_condition(form).render(names, budget)
        return expressions.render(form, names, budget)

    return [mapped(item, index) for index, item in enumerate(value)] if isinstance(value, list) else mapped(value, 0)


def _where(value: Any, source: str | bool, context: StepContext, budget: Budget) -> list[Any]:
    return [
        item
        for index, item in enumerate(_listed(value))
        if expressions.evaluate_condition(source, {**context.names, "item": item, "index": index}, budget)
    ]


def _rename(value: Any, names: dict[str, str], context: StepContext, budget: Budget) -> Any:
    if isinstance(value, list):
        return [_rename(item, names, context, budget) for item in value]
    if not isinstance(value, dict):
        raise RunError("`rename` needs objects.", code="expression.type")
    budget.charge(len(value))
    return {names.get(key, key): item for key, item in value.items()}


def _group(value: Any, field: str, context: StepContext, budget: Budget) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    keys = _filtered("value | pluck(field)", _listed(value), budget, field=field)
    for item, key in zip(value, keys, strict=True):
        text = _filtered("value ~ ''", key, budget) if isinstance(key, str | int | float | bool) else ""
        groups.setdefault(text, []).append(item)
    return groups


def _sort(value: Any, by: Any, context: StepContext, budget: Budget) -> Any:
    wanted = by if isinstance(by, dict) else {"by": by}
    descending = wanted.get("descending", False)
    return _filtered("value | sort(field, down)", value, budget, field=wanted.get("by", ""), down=descending)


def _unique(value: Any, field: Any, context: StepContext, budget: Budget) -> Any:
    return _filtered("value | unique(field)", value, budget, field="" if field is True else field)


def _limit(value: Any, count: int, context: StepContext, budget: Budget) -> list[Any]:
    return _listed(value)[:count]


def _pluck(value: Any, field: str, context: StepContext, budget: Budget) -> Any:
    return _filtered("value | pluck(field)", value, budget, field=field)


def _filtered(source: str, value: Any, budget: Budget, **names: Any) -> Any:
    """By the same filters as in expressions, so that both agree on what is missing, equal or ordered."""
    return expressions.parse_condition(source).render({"value": value, **names}, budget)


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise expressions.ExpressionError("It needs a list here.")
    return value


OPERATE: dict[str, Callable[[Any, Any, StepContext, Budget], Any]] = {
    "map": _map,
    "where": _where,
    "pluck": _pluck,
    "sort": _sort,
    "unique": _unique,
    "group_by": _group,
    "limit": _limit,
    "rename": _rename,
}
