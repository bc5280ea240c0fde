"""All filters and tests of the language. The modules imported here register theirs in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from automation_lab.core.expressions import list_filters, scalar_filters  # noqa: F401 - imported for what they register
from automation_lab.core.expressions.filter_table import FILTERS, apply_filter, check_call, describe_filters, need
from automation_lab.core.expressions.values import kind

__all__ = ["FILTERS", "TESTS", "apply_filter", "check_call", "describe_filters", "need"]

TESTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "defined": ("The name and everything along its path exists.", lambda value: True),
    "undefined": ("Something along the path is missing.", lambda value: False),
    "none": ("The value is null.", lambda value: value is None),
    "null": ("The value is null.", lambda value: value is None),
    "true": ("The value is true.", lambda value: value is True),
    "false": ("The value is false.", lambda value: value is False),
    "boolean": ("The value is true or false.", lambda value: kind(value) == "boolean"),
    "number": ("The value is a number.", lambda value: kind(value) == "number"),
    "integer": ("The value is a whole number.", lambda value: kind(value) == "number" and isinstance(value, int)),
    "float": ("The value is a number with a fraction.", lambda value: isinstance(value, float)),
    "string": ("The value is text.", lambda value: kind(value) == "text"),
    "list": ("The value is a list.", lambda value: kind(value) == "list"),
    "sequence": ("The value is a list.", lambda value: kind(value) == "list"),
    "object": ("The value is an object.", lambda value: kind(value) == "object"),
    "mapping": ("The value is an object.", lambda value: kind(value) == "object"),
    "empty": ("The value is null or an empty text, list or object.", lambda value: value in (None, "", [], {})),
}
"""name -> (what it is true for, test); `defined` and `undefined` see only values that exist."""
