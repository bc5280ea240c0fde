"""The interpreter: evaluates Jinja's tree of an expression over JSON.

Nothing is compiled to Python and no Python attribute is ever read: `a.b` is a key, `a[0]` an item. Node kinds without a
rule in `RULES` do not exist, so there are no calls, no power and no comprehensions.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import nodes

from automation_lab.core.expressions.filters import TESTS, apply_filter, need
from automation_lab.core.expressions.paths import constant_key, path_of
from automation_lab.core.expressions.values import (
    Budget,
    ExpressionError,
    SecretValue,
    bounded,
    from_context,
    is_same,
    is_true,
    join_text,
    kind,
    limit_error,
    nearest_hint,
    path_text,
    reveal,
    secret_error,
)
from automation_lab.core.previews import is_cut, why_cut


class MissingValue(Exception):
    """Something along a path does not exist. The message is made only when nothing catches it."""

    def __init__(self, path: list[str | int], count: int, holder: Any) -> None:
        super().__init__("missing")
        self.path = path
        self.count = count
        self.holder = holder

    def explain(self) -> str:
        whole, parent, key = path_text(self.path), path_text(self.path[: self.count]), self.path[self.count]
        if not self.count:
            return f"`{key}` is not known here.{nearest_hint(str(key), self.holder)}"
        reason = f"`{parent}` is {kind(self.holder)}, so it has no `{key}`."
        if isinstance(self.holder, Mapping):
            reason = f"there is no `{key}` in `{parent}`.{nearest_hint(str(key), self.holder)}"
        elif isinstance(self.holder, list | tuple):
            reason = f"`{parent}` has {len(self.holder)} items, so there is no `{key}`."
        return f"`{whole}`: {reason} If it may be missing, add `| default(…)`."


class Evaluation:
    """One evaluation of one tree. `value` is the only way to a node's value, so every node is charged."""

    __slots__ = ("budget", "context", "search_secrets")

    def __init__(self, context: Mapping[str, Any], budget: Budget, *, search_secrets: bool) -> None:
        self.context = context
        self.budget = budget
        self.search_secrets = search_secrets

    def value(self, node: nodes.Node) -> Any:
        self.budget.charge(1)
        return RULES[type(node)](self, node)

    def path(self, node: nodes.Getattr | nodes.Getitem) -> Any:
        base, steps = path_of(node)
        named = isinstance(base, nodes.Name)
        keys: list[str | int] = [base.name if named else "value"]  # type: ignore[attr-defined]
        keys += [self.key(step) for step in steps]
        if named and base.name == "secrets":  # type: ignore[attr-defined]
            return self.secret(keys)
        value = self.root(keys) if named else self.value(base)
        for count, key in enumerate(keys[1:], start=1):
            self.budget.charge(1)
            value = _item(value, key, keys, count)
        return value

    def key(self, node: nodes.Getattr | nodes.Getitem) -> str | int:
        constant = constant_key(node)
        if constant is not None:
            return constant
        key = self.value(node.arg)  # type: ignore[union-attr]
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise ExpressionError(f"A key is text and an index a whole number, not {kind(key)}.")
        return key

    def root(self, path: list[str | int]) -> Any:
        if path[0] not in self.context:
            raise MissingValue(path, 0, self.context)
        return from_context(self.context[path[0]])  # type: ignore[index]

    def name(self, node: nodes.Name) -> Any:
        value = self.root([node.name])
        if isinstance(value, Mapping) and not isinstance(value, dict):  # it looks its parts up when they are asked for
            raise ExpressionError(f"`{node.name}` cannot be used as a whole: name a part, such as `{node.name}.x`.")
        return value

    def secret(self, path: list[str | int]) -> Any:
        secrets = self.root(path)
        value = SecretValue(_item(secrets, path[1], path, 1))
        for count, key in enumerate(path[2:], start=2):
            value = _item(value, key, path, count)
        return value

    def slice(self, node: nodes.Getitem) -> Any:
        bounds = [None if part is None else self.value(part) for part in _slice_parts(node)]
        if any(kind(bound) not in {"number", "null"} or isinstance(bound, float) for bound in bounds) or bounds[2] == 0:
            raise ExpressionError("The bounds of a slice are whole numbers, and its step is not 0.")
        part = need(self.value(node.node), "list", "text")[slice(*bounds)]
        self.budget.charge_value(part)
        return part

    def filtered(self, node: nodes.Filter) -> Any:
        try:
            value = self.value(_operand(node))
        except MissingValue:
            if node.name != "default":
                raise
            value = None
        if node.name == "default" and value is not None and len(node.args) < 2 and not node.kwargs:
            return value  # the replacement may be missing itself, so it is evaluated only when it is needed
        arguments = [self.value(argument) for argument in node.args]
        named = {str(pair.key): self.value(pair.value) for pair in node.kwargs}
        return apply_filter(node.name, value, arguments, named, self.budget, search_secrets=self.search_secrets)

    def test(self, node: nodes.Test) -> bool:
        try:
            value = self.value(node.node)
        except MissingValue:
            if node.name not in {"defined", "undefined"}:
                raise
            return node.name == "undefined"
        if isinstance(value, SecretValue) and node.name not in {"defined", "undefined"}:
            raise secret_error("decide a condition")
        return TESTS[node.name][1](value)

    def compare(self, node: nodes.Compare) -> bool:
        left = self.value(node.expr)
        for operand in node.ops:
            right = self.value(operand.expr)
            if not _compared(operand.op, left, right, self.budget):
                return False
            left = right
        return True

    def join(self, node: nodes.Concat) -> Any:
        return join_text([self.value(part) for part in node.nodes], self.budget)

    def choose(self, node: nodes.CondExpr) -> Any:
        if is_true(self.value(node.test)):
            return self.value(node.expr1)
        return None if node.expr2 is None else self.value(node.expr2)

    def either(self, node: nodes.Or) -> Any:
        left = self.value(node.left)
        return left if is_true(left) else self.value(node.right)

    def both(self, node: nodes.And) -> Any:
        left = self.value(node.left)
        return self.value(node.right) if is_true(left) else left

    def sign(self, node: nodes.UnaryExpr) -> Any:
        number = bounded(need(self.value(node.node), "number"))
        return bounded(-number) if isinstance(node, nodes.Neg) else number

    def calculate(self, node: nodes.BinExpr) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        tagged = isinstance(left, SecretValue) or isinstance(right, SecretValue)
        result = _calculated(node.operator, *((reveal(left), reveal(right)) if tagged else (left, right)))
        self.budget.charge_value(result)
        return SecretValue(result) if tagged else result

    def object(self, node: nodes.Dict) -> dict[str, Any]:
        return {need(self.value(pair.key), "text"): self.value(pair.value) for pair in node.items}


def _operand(node: nodes.Filter) -> nodes.Expr:
    if node.node is None:
        raise AssertionError("only filter blocks have no operand, and blocks are not parsed")
    return node.node


def _slice_parts(node: nodes.Getitem) -> tuple[Any, Any, Any]:
    return node.arg.start, node.arg.stop, node.arg.step  # type: ignore[attr-defined]


def _item(holder: Any, key: str | int, path: list[str | int], count: int) -> Any:
    """The part `path[count]` of `holder`: a key of an object or an index of a list, nothing else."""
    if isinstance(holder, SecretValue):
        try:
            return SecretValue(_item(reveal(holder), key, path, count))
        except MissingValue:  # without what the secret does contain
            raise MissingValue(path, count, holder) from None
    if isinstance(holder, list | tuple):
        if isinstance(key, int) and -len(holder) <= key < len(holder):
            return _whole(holder[key], path, count)
    elif isinstance(holder, Mapping) and str(key) in holder:
        return _whole(holder[str(key)], path, count)
    raise MissingValue(path, count, holder)


def _whole(value: Any, path: list[str | int], count: int) -> Any:
    """`value` as it is used; a mark in its place is an error that no `default` covers."""
    if is_cut(value):
        raise ExpressionError(
            f"`{path_text(path[: count + 1])}` is not there as a whole. {why_cut(value)}", code="limit.value"
        )
    return from_context(value)


_ORDER: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "lt": ("<", operator.lt),
    "lteq": ("<=", operator.le),
    "gt": (">", operator.gt),
    "gteq": (">=", operator.ge),
}


def _compared(op: str, left: Any, right: Any, budget: Budget) -> bool:
    if op in {"eq", "ne"}:
        return is_same(left, right, budget) == (op == "eq")
    if isinstance(left, SecretValue) or isinstance(right, SecretValue):
        raise secret_error("compare")
    if op in {"in", "notin"}:
        return _is_in(left, right, budget) == (op == "in")
    sign, compare = _ORDER[op]
    if kind(left) != kind(right) or kind(left) not in {"number", "text"}:
        raise ExpressionError(f"`{sign}` compares two numbers or two texts, not {kind(left)} with {kind(right)}.")
    return compare(left, right)


def _is_in(item: Any, holder: Any, budget: Budget) -> bool:
    if isinstance(need(holder, "list", "object", "text"), list | tuple):
        return any(is_same(item, other, budget) for other in holder)
    budget.charge_value(holder if isinstance(holder, str) else None)
    return need(item, "text") in holder


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


def _calculated(sign: str, left: Any, right: Any) -> Any:
    kinds = kind(left), kind(right)
    if sign == "+" and kinds in {("text", "text"), ("list", "list")}:
        return left + right
    if kinds != ("number", "number"):
        join = " To join text, use `~`." if sign == "+" and "text" in kinds else ""
        raise ExpressionError(f"`{sign}` cannot be applied to {kinds[0]} and {kinds[1]}.{join}")
    if right == 0 and sign in {"/", "//", "%"}:
        raise ExpressionError("Division by zero.")
    try:
        return bounded(_ARITHMETIC[sign](bounded(left), bounded(right)))
    except OverflowError:
        raise limit_error("The number is too large.") from None


RULES: dict[type[nodes.Node], Callable[[Evaluation, Any], Any]] = {
    nodes.Const: lambda evaluation, node: node.value,
    nodes.Name: Evaluation.name,
    nodes.Getattr: Evaluation.path,
    nodes.Getitem: lambda evaluation, node: (
        evaluation.slice(node) if isinstance(node.arg, nodes.Slice) else evaluation.path(node)
    ),
    nodes.List: lambda evaluation, node: [evaluation.value(item) for item in node.items],
    nodes.Tuple: lambda evaluation, node: [evaluation.value(item) for item in node.items],
    nodes.Dict: Evaluation.object,
    nodes.Filter: Evaluation.filtered,
    nodes.Test: Evaluation.test,
    nodes.Compare: Evaluation.compare,
    nodes.Concat: Evaluation.join,
    nodes.CondExpr: Evaluation.choose,
    nodes.Or: Evaluation.either,
    nodes.And: Evaluation.both,
    nodes.Not: lambda evaluation, node: not is_true(evaluation.value(node.node)),
    nodes.Neg: Evaluation.sign,
    nodes.Pos: Evaluation.sign,
    **dict.fromkeys((nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod), Evaluation.calculate),
}
"""The whole language: what each kind of node evaluates to."""
