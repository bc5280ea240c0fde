"""Reads an expression with Jinja's parser and refuses everything that the interpreter has no rule for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.parser import Parser

from automation_lab.core.expressions.filters import TESTS, check_call
from automation_lab.core.expressions.interpreter import RULES, Evaluation, MissingValue
from automation_lab.core.expressions.paths import Reference, is_secret, references
from automation_lab.core.expressions.values import Budget, ExpressionError, bounded, limit_error, nearest_hint

MAX_SOURCE_CHARACTERS = 2_000
MAX_TOKENS = 800
MAX_TREE_DEPTH = 100

_ENVIRONMENT = Environment()  # noqa: S701 - only its lexer and parser are used; nothing is rendered by Jinja
_ESCAPE = re.compile(r"""\\(?:[\\'"nrt]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})|\\""")

_TOKEN = re.compile(r"""\"(?:[^"\\]|\\.)*(?:"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\w+|[^\w\s]""", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Expression:
    """One parsed expression, without braces. Shared between threads, so never changed."""

    source: str
    tree: nodes.Expr
    references: frozenset[Reference]
    uses_secrets: bool

    def evaluate(self, context: Mapping[str, Any], budget: Budget, *, position: int = 0) -> Any:
        """The value in `context`. Raises ExpressionError, with `position` for where the expression stands."""
        try:
            return Evaluation(context, budget, search_secrets=self.uses_secrets).value(self.tree)
        except MissingValue as missing:
            error = ExpressionError(missing.explain(), code="expression.missing")
        except RecursionError:
            error = limit_error("The value is nested too deep.")
        except ExpressionError as refused:
            error = refused
        error.position, error.expression = position, self.source
        raise error from None


@lru_cache(maxsize=2048)
def parse_expression(source: str) -> Expression:
    """Raises ExpressionError when `source` is not one expression of the language."""
    try:
        if len(source) > MAX_SOURCE_CHARACTERS:
            raise limit_error(f"An expression may have at most {MAX_SOURCE_CHARACTERS:,} characters.")
        if len(_TOKEN.findall(source)) > MAX_TOKENS:
            raise limit_error(f"An expression may have at most {MAX_TOKENS} words and signs.")
        tree = _parse(source)
        for node in _nodes_with_depth(tree):
            _check_node(node)
        used = frozenset(references(tree, guarded=False))
        return Expression(source, tree, used, uses_secrets=any(reference.root == "secrets" for reference in used))
    except ExpressionError as error:
        error.expression = source
        raise


def _parse(source: str) -> nodes.Expr:
    if not source.strip():
        raise _syntax_error("The expression is empty.")
    if "\\" in _ESCAPE.findall(source):
        raise _syntax_error("A backslash in a text must be doubled.")
    try:
        parser = Parser(_ENVIRONMENT, source, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise _syntax_error(f"`{parser.stream.current.value}` is not expected here.")
    except TemplateSyntaxError as error:
        raise _syntax_error(f"Syntax error: {error.message}.") from None
    except RecursionError:
        raise limit_error("The expression is nested too deep.") from None
    return tree


def _syntax_error(message: str) -> ExpressionError:
    return ExpressionError(message, code="expression.syntax")


def _nodes_with_depth(tree: nodes.Node) -> Iterator[nodes.Node]:
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_TREE_DEPTH:
            raise limit_error("The expression is nested too deep.")
        yield node
        if is_secret(node):
            waiting.extend((child, depth + 1) for child in node.iter_child_nodes() if isinstance(child, nodes.Const))
        else:
            waiting.extend((child, depth + 1) for child in node.iter_child_nodes())


def _check_node(node: nodes.Node) -> None:
    if isinstance(node, nodes.Call):
        raise _syntax_error("Functions cannot be called; use a filter, as in `value | name`.")
    if isinstance(node, nodes.Name) and node.name == "secrets":
        raise _syntax_error("Name one secret, as in `secrets.API_KEY`.")
    if isinstance(node, nodes.Const):
        _check_constant(node.value)
    if isinstance(node, nodes.Filter | nodes.Test):
        _check_filter_or_test(node)
    if type(node) not in RULES and not isinstance(node, nodes.Helper | nodes.Slice):
        raise _syntax_error(f"`{type(node).__name__.lower()}` is not part of the expression language.")


def _check_constant(value: Any) -> None:
    if isinstance(value, int | float):
        bounded(value)
    elif isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
        raise _syntax_error("The text holds a character that cannot be stored.")


def _check_filter_or_test(node: nodes.Filter | nodes.Test) -> None:
    if node.dyn_args or node.dyn_kwargs:
        raise _syntax_error("`*` and `**` are not available in arguments.")
    if isinstance(node, nodes.Filter):
        check_call(node.name, len(node.args), [str(pair.key) for pair in node.kwargs])
    elif node.name not in TESTS:
        hint = nearest_hint(node.name, TESTS) or f" Known are {', '.join(TESTS)}."
        raise _syntax_error(f"There is no test `is {node.name}`.{hint}")
    elif node.args or node.kwargs:
        raise _syntax_error(f"`is {node.name}` takes no arguments.")
