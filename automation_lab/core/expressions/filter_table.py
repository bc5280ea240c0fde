"""The table of filters: how one is registered, described, checked and applied.

A filter gets the budget, the value before the `|`, and its arguments. Secrets never reach it: `apply_filter` opens them
before and tags the result after.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from automation_lab.core.expressions.values import (
    Budget,
    ExpressionError,
    SecretValue,
    bounded,
    contains_secret,
    kind,
    nearest_hint,
    reveal,
    to_text,
)


@dataclass(frozen=True)
class Filter:
    """One filter; `usage` and `help` are what the console and the API documents show."""

    run: Callable[..., Any]
    help: str

    @property
    def usage(self) -> str:
        return ", ".join(_parameter_text(parameter) for parameter in self.parameters)

    @property
    def parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.run).parameters.values())[2:]


FILTERS: dict[str, Filter] = {}


def describe_filters() -> list[dict[str, str]]:
    """`{name, usage, help}` of every filter, for the console and the API documents."""
    return [
        {"name": name, "usage": f"{name}({entry.usage})" if entry.usage else name, "help": entry.help}
        for name, entry in FILTERS.items()
    ]


def check_call(name: str, count: int, named: list[str]) -> None:
    """Raises ExpressionError unless filter `name` exists and takes `count` arguments and those `named`."""
    if name not in FILTERS:
        hint = nearest_hint(name, FILTERS) or f" Known are {', '.join(FILTERS)}."
        raise ExpressionError(f"There is no filter `{name}`.{hint}", code="expression.syntax")
    try:
        inspect.signature(FILTERS[name].run).bind(None, None, *[None] * count, **dict.fromkeys(named))
    except TypeError:
        raise ExpressionError(
            f"Wrong arguments; the filter is used as `{name}({FILTERS[name].usage})`.", code="expression.syntax"
        ) from None


def apply_filter(
    name: str, value: Any, arguments: list[Any], named: dict[str, Any], budget: Budget, *, search_secrets: bool
) -> Any:
    """The result of `value | name(…)`; tagged when a secret went in.

    `search_secrets` says whether secrets may hide inside lists and objects; searching costs time.
    """
    given = [value, *arguments, *named.values()]
    tagged = any(isinstance(item, SecretValue) for item in given) or (search_secrets and contains_secret(given))
    if tagged:
        value, arguments, named = reveal(value), reveal(arguments), reveal(named)
    for item in (value, *arguments, *named.values()):
        budget.charge_value(item)
    try:
        result = FILTERS[name].run(budget, value, *arguments, **named)
    except (ValueError, OverflowError, OSError):
        raise ExpressionError(f"`{name}` cannot be applied to this {kind(value)}.") from None
    budget.charge_value(result)
    return SecretValue(result) if tagged else result


def _parameter_text(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name}={json.dumps(parameter.default, ensure_ascii=False)}"


def register(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        FILTERS[run.__name__.strip("_")] = Filter(run, help_text)
        return run

    return add


def need(value: Any, *kinds: str) -> Any:
    """`value` when it is one of `kinds`. Raises ExpressionError that names both."""
    if kind(value) not in kinds:
        raise ExpressionError(f"This needs {' or '.join(kinds)}, not {kind(value)}.")
    return value


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ExpressionError(f"This needs a whole number, not {kind(value)}.")
    return int(bounded(value))


def plain_text(value: Any, budget: Budget) -> str:
    text = to_text(value, budget)
    if isinstance(text, SecretValue):
        raise ExpressionError("A secret inside a list or object cannot be used here.", code="expression.secret")
    return text
