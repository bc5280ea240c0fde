"""What expressions work on: JSON values and tagged secrets, their kinds and text form, the limits and the one error."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import islice
from typing import Any
from uuid import UUID

from automation_lab.core.exceptions import AutomationLabError

MAX_STEPS = 10_000
MAX_TEXT_CHARACTERS = 1024 * 1024
MAX_RESULT_CHARACTERS = 8 * 1024 * 1024
MAX_DATA_DEPTH = 200
MAX_INTEGER = 2**63 - 1
MASK = "***"

_SCALAR_SIZE = 24  # more than most need: it also stands for the time that writing one takes

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ExpressionError(AutomationLabError):
    """An expression that cannot be parsed or evaluated. `position` is its offset in the text that holds it."""

    code = "expression.type"

    def __init__(
        self, message: str, *, code: str = "", field: str = "", position: int = 0, expression: str = ""
    ) -> None:
        super().__init__(message, code=code, field=field)
        self.position = position
        self.expression = expression


def limit_error(message: str) -> ExpressionError:
    return ExpressionError(message, code="expression.limit")


class Budget:
    """The work one rendering may still do: a step for every node, list item and 256 characters of text."""

    __slots__ = ("_left",)

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._left = steps

    def charge(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise limit_error("The expressions do too much work; use fewer of them or smaller lists.")

    def charge_text(self, characters: int) -> None:
        if characters > MAX_TEXT_CHARACTERS:
            raise limit_error("The text becomes longer than 1 MiB.")
        self.charge(characters // 256)

    def charge_value(self, value: Any) -> None:
        if isinstance(value, str):
            self.charge_text(len(value))
        elif isinstance(value, list | dict):
            self.charge(len(value))


class SecretValue:
    """A value that may be sent but not shown. Whatever is made of it is tagged again; only `reveal` opens it."""

    __slots__ = ("_plain",)

    def __init__(self, plain: Any) -> None:
        self._plain: Any = plain._plain if isinstance(plain, SecretValue) else plain

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __copy__(self) -> SecretValue:
        return self

    def __deepcopy__(self, memo: Any) -> SecretValue:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("A secret cannot be stored.")


def reveal(value: Any) -> Any:
    """`value` with every secret in it opened. For the moment of sending; never for a log, a result or a message."""
    if isinstance(value, SecretValue):
        return reveal(value._plain)
    return _rebuilt(value, reveal)


def redact(value: Any) -> Any:
    """`value` with every secret in it replaced by `***`."""
    if isinstance(value, SecretValue):
        return MASK
    return _rebuilt(value, redact)


def _rebuilt(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [change(item) for item in value]
    return value


def contains_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return any(contains_secret(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(contains_secret(item) for item in value)
    return isinstance(value, SecretValue)


def kind(value: Any) -> str:
    """The word for `value` in messages; two values can be ordered only when it is the same."""
    exact = _KINDS.get(type(value))
    if exact:
        return exact
    return next((name for base, name in _SUBCLASSED.items() if isinstance(value, base)), "unsupported")


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    tuple: "list",
    dict: "object",
    SecretValue: "secret",
}
_SUBCLASSED: dict[type, str] = {
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    tuple: "list",
    Mapping: "object",
}


def from_context(value: Any) -> Any:
    """`value` as JSON has it: instants and ids become text. Raises ExpressionError for other Python objects."""
    if type(value) in _KINDS:
        return value
    if isinstance(value, date):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    if kind(value) == "unsupported":
        raise ExpressionError("This value is not JSON data, so expressions cannot use it.")
    return value


def is_true(value: Any) -> bool:
    """Jinja's truth: null, false, 0 and empty are false. Raises ExpressionError for a secret."""
    if isinstance(value, SecretValue):
        raise secret_error("decide a condition")
    return bool(value)


def secret_error(purpose: str) -> ExpressionError:
    return ExpressionError(f"A secret cannot be used to {purpose}; it can only be sent.", code="expression.secret")


def is_same(left: Any, right: Any, budget: Budget) -> bool:
    """Equality by kind: 1 equals 1.0 but not true. Raises ExpressionError when a secret is compared."""
    budget.charge(1)
    kinds = kind(left), kind(right)
    if "secret" in kinds:
        raise secret_error("compare")
    if kinds[0] != kinds[1]:
        return False
    if kinds[0] == "list":
        return len(left) == len(right) and all(is_same(a, b, budget) for a, b in zip(left, right, strict=True))
    if kinds[0] == "object":
        return left.keys() == right.keys() and all(is_same(left[key], right[key], budget) for key in left)
    return left == right


def bounded(number: int | float) -> int | float:
    """`number`, or ExpressionError when it is not within 64 bit (integers) or not finite."""
    if isinstance(number, int):
        if -MAX_INTEGER - 1 <= number <= MAX_INTEGER:
            return number
        raise limit_error("The integer does not fit into 64 bit.")
    if number - number == 0:  # false for infinity and NaN
        return number
    raise limit_error("The number is too large or not a number.")


def to_text(value: Any, budget: Budget) -> str | SecretValue:
    """The form of `value` inside text; tagged when a secret is in it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, SecretValue):
        return SecretValue(to_text(value._plain, budget))
    return to_json(value, budget)


def join_text(values: Iterable[Any], budget: Budget) -> str | SecretValue:
    """The texts of `values` one after the other; tagged when one of them is."""
    texts = [to_text(value, budget) for value in values]
    plain = [reveal(text) for text in texts]
    budget.charge_text(sum(map(len, plain)))
    joined = "".join(plain)
    return SecretValue(joined) if contains_secret(texts) else joined


def to_json(value: Any, budget: Budget) -> str | SecretValue:
    """Compact JSON; tagged when a secret is in it."""
    budget.charge_text(measured(value, MAX_TEXT_CHARACTERS))
    tagged = False

    def convert(item: Any) -> Any:
        nonlocal tagged
        tagged = tagged or isinstance(item, SecretValue)
        return reveal(dict(item) if isinstance(item, Mapping) else from_context(item))

    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=convert)
    except (ValueError, RecursionError):
        raise ExpressionError("The value cannot be written as JSON: a number in it has no JSON form.") from None
    budget.charge_text(len(text))
    return SecretValue(text) if tagged else text


def measured(value: Any, limit: int) -> int:
    """About how many characters `value` has as JSON, without writing it. Raises ExpressionError above `limit`.

    A container that is referred to many times is counted many times but walked once.
    """
    return _measured(value, limit, {}, MAX_DATA_DEPTH)


def _measured(value: Any, limit: int, known: dict[int, int], depth: int) -> int:
    if isinstance(value, str):
        return len(value) + 2
    if not isinstance(value, dict | list | tuple):
        return _SCALAR_SIZE
    if id(value) in known:
        return known[id(value)]
    if not depth:
        raise limit_error(f"The value is nested too deep (more than {MAX_DATA_DEPTH} levels).")
    size = _SCALAR_SIZE + (sum(len(str(key)) + 3 for key in value) if isinstance(value, dict) else len(value))
    for item in value.values() if isinstance(value, dict) else value:
        size += _measured(item, limit, known, depth - 1)
        if size > limit:
            raise limit_error(f"The value becomes too large (about {limit // 1024 // 1024} MiB of JSON are allowed).")
    known[id(value)] = size
    return size


def path_text(parts: Sequence[str | int]) -> str:
    """`("steps", 0, "config", "X-Id")` as `steps[0].config["X-Id"]`."""
    return "".join(_part_text(part) for part in parts).removeprefix(".")


def _part_text(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if _NAME.fullmatch(part) else f"[{json.dumps(part, ensure_ascii=False)}]"


def nearest_hint(name: str, names: Iterable[Any]) -> str:
    """` Did you mean …?`, or nothing. Looks at the first 200 names only, so that huge objects stay cheap."""
    by_lower = {known.lower(): known for known in islice(names, 200) if isinstance(known, str) and len(known) <= 64}
    close = difflib.get_close_matches(name[:64].lower(), by_lower, n=1)
    return f" Did you mean `{by_lower[close[0]]}`?" if close else ""
