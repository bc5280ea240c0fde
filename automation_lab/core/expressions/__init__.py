"""Expressions: `{{ trigger.body.total * 2 }}` in configs, conditions and messages, over JSON data and tagged secrets."""

from automation_lab.core.expressions.filters import FILTERS, TESTS, describe_filters
from automation_lab.core.expressions.grammar import Expression, parse_expression
from automation_lab.core.expressions.messages import (
    Message,
    check_message,
    message_references,
    parse_message,
    render_message,
)
from automation_lab.core.expressions.paths import Reference
from automation_lab.core.expressions.templates import (
    Template,
    check,
    check_condition,
    evaluate_condition,
    has_expression,
    parse,
    parse_condition,
    references,
    render,
)
from automation_lab.core.expressions.values import (
    Budget,
    ExpressionError,
    SecretValue,
    contains_secret,
    nearest_hint,
    path_text,
    redact,
    reveal,
)

__all__ = [
    "FILTERS",
    "TESTS",
    "Budget",
    "Expression",
    "ExpressionError",
    "Message",
    "Reference",
    "SecretValue",
    "Template",
    "check",
    "check_condition",
    "check_message",
    "contains_secret",
    "describe_filters",
    "evaluate_condition",
    "has_expression",
    "message_references",
    "nearest_hint",
    "parse",
    "parse_condition",
    "parse_expression",
    "parse_message",
    "path_text",
    "redact",
    "references",
    "render",
    "render_message",
    "reveal",
]
