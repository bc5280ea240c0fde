"""Filters on lists and objects. Importing this module registers them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any

from automation_lab.core.expressions.filter_table import need, register
from automation_lab.core.expressions.scalar_filters import contains, ends_with, starts_with
from automation_lab.core.expressions.values import Budget, ExpressionError, bounded, is_same, kind, to_json


@register("How many characters, items or keys there are.")
def length(budget: Budget, value: Any) -> int:
    return len(need(value, "text", "list", "object"))


@register("The first item.")
def first(budget: Budget, value: Any) -> Any:
    return _end(value, 0)


@register("The last item.")
def last(budget: Budget, value: Any) -> Any:
    return _end(value, -1)


def _end(value: Any, index: int) -> Any:
    if not need(value, "list", "text"):
        raise ExpressionError("It is empty, so it has no first or last item; check `| length` before.")
    return value[index]


@register("The list or text backwards.")
def reverse(budget: Budget, value: Any) -> Any:
    return need(value, "list", "text")[::-1]


@register("The list in order, or its objects in order of a field.")
def sort(budget: Budget, value: Any, field: Any = "", reverse: Any = False) -> list[Any]:
    keys = _one_kind(_fields(value, field, budget)) if value else []
    order = sorted(range(len(keys)), key=keys.__getitem__, reverse=need(reverse, "boolean"))
    return [value[index] for index in order]


@register("The list without repeated items, or without objects that repeat a field.")
def unique(budget: Budget, value: Any, field: Any = "") -> list[Any]:
    seen: dict[Any, Any] = {}
    for item, key in zip(value, _fields(value, field, budget), strict=True):
        seen.setdefault(_identity(key, budget), item)
    return list(seen.values())


def _identity(value: Any, budget: Budget) -> tuple[str, Any]:
    scalar = isinstance(value, str | int | float) or value is None
    return kind(value), value if scalar else to_json(_sorted_keys(value), budget)


def _sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted_keys(value[key]) for key in sorted(value)}
    return [_sorted_keys(item) for item in value] if isinstance(value, list | tuple) else value


@register(
    "The objects whose field fits: eq, ne, lt, le, gt, ge, in, contains, starts_with, ends_with, exists, missing."
)
def where(budget: Budget, value: Any, field: Any, op: Any = "eq", expected: Any = True) -> list[Any]:
    if need(op, "text") not in _OPERATORS:
        raise ExpressionError(f"`where` knows no such comparison; known are {', '.join(_OPERATORS)}.")
    return [item for item in need(value, "list") if _OPERATORS[op](_at_path(item, field, budget), expected, budget)]


@register("A list of one field of each object; null where it is missing.")
def pluck(budget: Budget, value: Any, field: Any) -> list[Any]:
    found = [_at_path(item, field, budget) for item in need(value, "list")]
    return [None if item is _ABSENT else item for item in found]


@register("The keys of an object as a list.")
def keys(budget: Budget, value: Any) -> list[Any]:
    return list(need(value, "object"))


@register("The values of an object as a list.")
def values(budget: Budget, value: Any) -> list[Any]:
    return list(need(value, "object").values())


@register("An object as a list of `{key, value}`.")
def items(budget: Budget, value: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": item} for key, item in need(value, "object").items()]


@register("The object with the keys of another one added or replaced.")
def merge(budget: Budget, value: Any, other: Any) -> dict[str, Any]:
    return {**need(value, "object"), **need(other, "object")}


@register("The value at a dotted path such as `a.0.b`, or the given one where there is none.")
def get(budget: Budget, value: Any, path: Any, default_value: Any = None) -> Any:
    found = _at_path(value, path, budget)
    return default_value if found is _ABSENT or found is None else found


@register("The smallest item of a list of numbers or texts.")
def min_(budget: Budget, value: Any) -> Any:
    return min(_comparable(value))


@register("The largest item of a list of numbers or texts.")
def max_(budget: Budget, value: Any) -> Any:
    return max(_comparable(value))


@register("The sum of a list of numbers, or of a field of its objects.")
def sum_(budget: Budget, value: Any, field: Any = "") -> int | float:
    return bounded(sum(need(item, "number") for item in _fields(value, field, budget)))


def _comparable(value: Any) -> list[Any]:
    if not need(value, "list"):
        raise ExpressionError("The list is empty, so it has no smallest or largest item.")
    return _one_kind(value)


def _one_kind(values: list[Any]) -> list[Any]:
    kinds = {kind(item) for item in values}
    if len(kinds) > 1 or not kinds <= {"number", "text"}:
        raise ExpressionError(f"The items must be all numbers or all texts, not {', '.join(sorted(kinds))}.")
    return values


_ABSENT: Any = object()


def _at_path(value: Any, path: Any, budget: Budget) -> Any:
    """What lies at the dotted `path`, or `_ABSENT`."""
    for part in str(need(path, "text", "number")).split("."):
        budget.charge(1)
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and re.fullmatch(r"-?[0-9]{1,9}", part) and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value


def _fields(value: Any, field: Any, budget: Budget) -> list[Any]:
    if not need(field, "text"):
        return need(value, "list")
    found = [_at_path(item, field, budget) for item in need(value, "list")]
    if _ABSENT in found:
        raise ExpressionError(f"Not every item has `{field}`; keep those that have it with `where` and `exists` first.")
    return found


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any, Budget], bool]:
    def fits(found: Any, expected: Any, budget: Budget) -> bool:
        return found is not _ABSENT and found is not None and compare(*_one_kind([found, expected]))

    return fits


def _on_present(run: Callable[..., bool]) -> Callable[[Any, Any, Budget], bool]:
    return lambda found, expected, budget: found is not _ABSENT and found is not None and run(budget, found, expected)


_OPERATORS: dict[str, Callable[[Any, Any, Budget], bool]] = {
    "eq": lambda found, expected, budget: found is not _ABSENT and is_same(found, expected, budget),
    "ne": lambda found, expected, budget: found is _ABSENT or not is_same(found, expected, budget),
    "lt": _ordered(lt),
    "le": _ordered(le),
    "gt": _ordered(gt),
    "ge": _ordered(ge),
    "in": _on_present(lambda budget, found, expected: contains(budget, expected, found)),
    "contains": _on_present(contains),
    "starts_with": _on_present(starts_with),
    "ends_with": _on_present(ends_with),
    "exists": lambda found, expected, budget: found is not _ABSENT,
    "missing": lambda found, expected, budget: found is _ABSENT,
}
