"""Texts that hold expressions: `{{ … }}` in configs, conditions, and the checks made when they are saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from automation_lab.core.expressions.grammar import MAX_SOURCE_CHARACTERS, Expression, parse_expression
from automation_lab.core.expressions.paths import Reference
from automation_lab.core.expressions.values import (
    MAX_RESULT_CHARACTERS,
    Budget,
    ExpressionError,
    join_text,
    kind,
    limit_error,
    measured,
    nearest_hint,
    path_text,
)

MAX_CONFIG_DEPTH = 64
MAX_TEMPLATE_CHARACTERS = 256 * 1024
MAX_HOLES = 200
MAX_CACHED_CHARACTERS = 4_000

_OPENING = re.compile(r"\{\{-?")
# Texts end at their quote or at the end of the source, so that an open quote is looked at once only.
_INNER = re.compile(r"""\"(?:[^"\\]|\\.)*(?:"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)|[{}]|%\}""", re.DOTALL)


@dataclass(frozen=True)
class Hole:
    """One expression at its place in a text."""

    expression: Expression
    position: int

    def value(self, context: Mapping[str, Any], budget: Budget) -> Any:
        return self.expression.evaluate(context, budget, position=self.position)


@dataclass(frozen=True)
class Template:
    """A text with expressions in it."""

    source: str
    parts: tuple[str | Hole, ...]

    @property
    def references(self) -> frozenset[Reference]:
        return frozenset(reference for hole in self.holes for reference in hole.expression.references)

    @property
    def holes(self) -> list[Hole]:
        return [part for part in self.parts if isinstance(part, Hole)]

    def render(self, context: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """The value of the only expression with its own type, or text. Treat it as read-only: it may be part of `context`."""
        budget = budget or Budget()
        if len(self.parts) == 1 and isinstance(self.parts[0], Hole):
            return self.parts[0].value(context, budget)
        return join_text(
            (part if isinstance(part, str) else part.value(context, budget) for part in self.parts), budget
        )


def has_expression(text: str) -> bool:
    return "{{" in text


def parse(source: str) -> Template:
    """`source` as a template; cached. Raises ExpressionError when an expression in it cannot be parsed."""
    return _parse_cached(source) if len(source) <= MAX_CACHED_CHARACTERS else _parse(source)


def parse_condition(source: str) -> Template:
    """A condition, with or without braces, as a template of one expression."""
    text = source.strip()
    if not text.startswith("{{"):
        return Template(source, (Hole(parse_expression(text), 0),))
    template = parse(text)
    if len(template.parts) != 1:
        raise ExpressionError(
            "Write the whole condition as one expression, as in `a == 1 and b == 2`.", code="expression.syntax"
        )
    return template


def evaluate_condition(source: str | bool, context: Mapping[str, Any], budget: Budget | None = None) -> bool:
    """Whether the condition holds. Raises ExpressionError when its value is neither true nor false."""
    if isinstance(source, bool):
        return source
    value = parse_condition(source).render(context, budget)
    if not isinstance(value, bool):
        raise ExpressionError(
            f"The condition is {kind(value)}; it must be true or false. Write a comparison such as `… == …`.",
            code="expression.secret" if kind(value) == "secret" else "expression.type",
            expression=source,
        )
    return value


def render(value: Any, context: Mapping[str, Any], budget: Budget | None = None) -> Any:
    """`value` with every text in it rendered, at any depth; keys stay as they are. One budget for all of it.

    Raises ExpressionError whose `field` is the place in `value`. Treat the result as read-only: parts of it may be
    parts of `context`.
    """
    rendered = _rendered(value, context, budget or Budget(), ())
    measured(rendered, MAX_RESULT_CHARACTERS)
    return rendered


def _rendered(value: Any, context: Mapping[str, Any], budget: Budget, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, str):
        return _rendered_text(value, context, budget, path) if has_expression(value) else value
    if isinstance(value, dict | list):
        _check_depth(path)
    if isinstance(value, dict):
        return {key: _rendered(item, context, budget, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, context, budget, (*path, index)) for index, item in enumerate(value)]
    return value


def _rendered_text(text: str, context: Mapping[str, Any], budget: Budget, path: tuple[str | int, ...]) -> Any:
    try:
        return parse(text).render(context, budget)
    except ExpressionError as error:
        error.field = path_text(path)
        raise


def _check_depth(path: tuple[str | int, ...]) -> None:
    if len(path) >= MAX_CONFIG_DEPTH:
        raise limit_error(f"The value is nested too deep (more than {MAX_CONFIG_DEPTH} levels).")


def references(value: Any) -> set[Reference]:
    """Every name that the expressions in `value` use, at any depth. Texts that cannot be parsed are left to `check`."""
    found: set[Reference] = set()
    for _, text in _texts(value, ()):
        try:
            found |= parse(text).references
        except ExpressionError:
            continue
    return found


def check(value: Any, names: Iterable[str]) -> list[ExpressionError]:
    """What is wrong with the expressions in `value` without evaluating them: syntax, limits, root names not in `names`."""
    known = set(names)
    faults: list[ExpressionError] = []
    try:
        for path, text in _texts(value, ()):
            faults += _placed(check_text(text, known), path)
    except ExpressionError as error:  # nested too deep to look further
        faults.append(error)
    return faults


def check_text(source: str, names: Iterable[str]) -> list[ExpressionError]:
    try:
        return unknown_names(((hole, frozenset()) for hole in parse(source).holes), set(names))
    except ExpressionError as error:
        return [error]


def check_condition(source: str | bool, names: Iterable[str]) -> list[ExpressionError]:
    """As `check`, for one condition."""
    if isinstance(source, bool):
        return []
    try:
        return unknown_names(((hole, frozenset()) for hole in parse_condition(source).holes), set(names))
    except ExpressionError as error:
        return [error]


def unknown_names(holes: Iterable[tuple[Hole, frozenset[str]]], names: set[str]) -> list[ExpressionError]:
    """An error for every root name that is neither in `names` nor local to the hole."""
    return [
        ExpressionError(
            f"`{root}` is not known here.{_known_hint(root, names | local)}",
            code="expression.name",
            position=hole.position,
            expression=hole.expression.source,
        )
        for hole, local in holes
        for root in sorted({reference.root for reference in hole.expression.references} - names - local)
    ]


def _known_hint(root: str, names: set[str]) -> str:
    return nearest_hint(root, names) or (f" Known are {', '.join(sorted(names))}." if names else "")


def _placed(errors: list[ExpressionError], path: tuple[str | int, ...]) -> list[ExpressionError]:
    for error in errors:
        error.field = path_text(path)
    return errors


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str) and ("{{" in value or "{%" in value):
        yield path, value
    elif isinstance(value, dict | list):
        _check_depth(path)
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, key))


def _parse(source: str) -> Template:
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise limit_error(f"A text with expressions may have at most {MAX_TEMPLATE_CHARACTERS:,} characters.")
    parts: list[str | Hole] = []
    at = 0
    while opening := _OPENING.search(source, at):
        parts.append(
            source[at : opening.start()].rstrip() if opening.group()[-1] == "-" else source[at : opening.start()]
        )
        hole, at = read_hole(source, opening.start(), opening.end())
        parts.append(hole)
        if len(parts) > MAX_HOLES * 2:
            raise limit_error(f"A text may hold at most {MAX_HOLES} expressions.")
    parts.append(source[at:])
    _refuse_statements(parts)
    return Template(source, tuple(part for part in parts if part != ""))


_parse_cached = lru_cache(maxsize=2048)(_parse)


def read_hole(source: str, start: int, inside: int) -> tuple[Hole, int]:
    """The expression whose braces open at `start` and contents at `inside`, and where the text goes on."""
    end = closing(source, inside, "}}")
    contents, after = source[inside:end], end + 2
    if contents.endswith("-"):
        contents, after = contents[:-1], skip_space(source, after)
    try:
        return Hole(parse_expression(contents.strip()), start), after
    except ExpressionError as error:
        error.position = start
        raise


def closing(source: str, inside: int, mark: str) -> int:
    """Where `mark` (`}}` or `%}`) closes what was opened before `inside`; marks in texts and objects do not count."""
    depth = 0
    for found in _INNER.finditer(source, inside, inside + MAX_SOURCE_CHARACTERS + 2):
        if found.group() == mark:
            return found.start()
        if found.group() == "{":
            depth += 1
        elif found.group() == "}" and depth:
            depth -= 1
        elif found.group() == "}" and source.startswith(mark, found.start()):
            return found.start()
    if len(source) - inside > MAX_SOURCE_CHARACTERS:
        message = f"It is not closed with `{mark}` within {MAX_SOURCE_CHARACTERS:,} characters."
        raise ExpressionError(
            message, code="expression.limit", position=inside, expression=source[inside : inside + 40]
        )
    raise ExpressionError(
        f"It is not closed with `{mark}`.", code="expression.syntax", position=inside, expression=source[inside:]
    )


def skip_space(source: str, at: int) -> int:
    while at < len(source) and source[at].isspace():
        at += 1
    return at


def _refuse_statements(parts: list[str | Hole]) -> None:
    at = 0
    for part in parts:
        if isinstance(part, Hole):
            at = part.position
        elif (start := part.find("{%")) >= 0 and "%}" in part[start:]:
            raise ExpressionError(
                "`{% … %}` works only in messages (e-mail and notification texts).",
                code="expression.syntax",
                position=at,
            )
