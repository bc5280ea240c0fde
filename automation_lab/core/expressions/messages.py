"""Message templates: e-mail and notification texts, which may also hold `{% if %}`, `{% for %}` and `{# comments #}`."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from typing import Any

from automation_lab.core.expressions.grammar import parse_expression
from automation_lab.core.expressions.paths import Reference
from automation_lab.core.expressions.templates import (
    MAX_HOLES,
    MAX_TEMPLATE_CHARACTERS,
    Hole,
    closing,
    read_hole,
    skip_space,
    unknown_names,
)
from automation_lab.core.expressions.values import (
    MAX_TEXT_CHARACTERS,
    Budget,
    ExpressionError,
    SecretValue,
    is_true,
    kind,
    limit_error,
    secret_error,
    to_text,
)

MAX_BLOCK_DEPTH = 20

_OPENING = re.compile(r"\{[{%]-?|\{#")
_STATEMENT = re.compile(r"(if|elif|else|endif|for|endfor)\b\s*(.*)", re.DOTALL)
_LOOP = re.compile(r"([A-Za-z_]\w*)\s+in\s+(.+)", re.DOTALL)
_REST_OF_LINE = re.compile(r"[ \t]*(?:\r?\n|\Z)")
_RESERVED = {"secrets", "loop", "true", "false", "none", "True", "False", "None"}


@dataclass(frozen=True)
class Statement:
    """One `{% word rest %}` as it is read, before blocks are built."""

    word: str
    rest: str
    position: int

    def fault(self, message: str) -> ExpressionError:
        return ExpressionError(
            message, code="expression.syntax", position=self.position, expression=f"{self.word} {self.rest}".strip()
        )


@dataclass(frozen=True)
class Choice:
    """`{% if %}`: the first branch whose condition is true; the condition of `else` is None."""

    branches: list[tuple[Hole | None, Body]] = field(default_factory=list)


@dataclass(frozen=True)
class Loop:
    """`{% for name in items %}`."""

    name: str
    items: Hole
    body: Body


Body = list["str | Hole | Choice | Loop"]


@dataclass(frozen=True)
class Message:
    """A parsed message template."""

    source: str
    body: Body

    @property
    def references(self) -> frozenset[Reference]:
        return frozenset(
            reference
            for hole, local in _holes(self.body, frozenset())
            for reference in hole.expression.references
            if reference.root not in local
        )


def render_message(source: str, context: Mapping[str, Any], *, html: bool = False) -> str:
    """The text of a message. With `html` every value is escaped; the template's own text is not.

    Raises ExpressionError, also when a secret would be shown.
    """
    writer = _Writer(html=html)
    writer.write(parse_message(source).body, context)
    return "".join(writer.texts)


def message_references(source: str) -> frozenset[Reference]:
    """Every name that the message uses, but for its own loop names. Raises ExpressionError."""
    return parse_message(source).references


def check_message(source: str, names: Iterable[str]) -> list[ExpressionError]:
    """What is wrong with the message without rendering it: syntax, limits, root names not in `names`."""
    try:
        return unknown_names(_holes(parse_message(source).body, frozenset()), set(names))
    except ExpressionError as error:
        return [error]


@lru_cache(maxsize=128)
def parse_message(source: str) -> Message:
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise limit_error(f"A message may have at most {MAX_TEMPLATE_CHARACTERS:,} characters.")
    return Message(source, _Blocks(list(_tokens(source))).all())


class _Writer:
    """Collects the output of one message under one budget."""

    def __init__(self, *, html: bool) -> None:
        self.html = html
        self.texts: list[str] = []
        self.budget = Budget()
        self.length = 0

    def write(self, body: Body, context: Mapping[str, Any]) -> None:
        for part in body:
            self.budget.charge(1)
            if isinstance(part, str):
                self.add(part)
            elif isinstance(part, Hole):
                self.add_value(part, context)
            elif isinstance(part, Choice):
                self.write(self.chosen(part, context), context)
            else:
                self.repeat(part, context)

    def add(self, text: str) -> None:
        self.length += len(text)
        self.budget.charge_text(len(text))
        if self.length > MAX_TEXT_CHARACTERS:
            raise limit_error("The message becomes longer than 1 MiB.")
        self.texts.append(text)

    def add_value(self, hole: Hole, context: Mapping[str, Any]) -> None:
        text = to_text(hole.value(context, self.budget), self.budget)
        if isinstance(text, SecretValue):
            raise _at(hole, secret_error("fill a message"))
        self.add(escape(text) if self.html else text)

    def chosen(self, choice: Choice, context: Mapping[str, Any]) -> Body:
        for hole, body in choice.branches:
            if hole is None or is_true(hole.value(context, self.budget)):
                return body
        return []

    def repeat(self, loop: Loop, context: Mapping[str, Any]) -> None:
        items = loop.items.value(context, self.budget)
        if not isinstance(items, list | tuple):
            raise _at(loop.items, ExpressionError(f"A loop needs a list, not {kind(items)}."))
        for index, item in enumerate(items):
            state = {"index": index + 1, "index0": index, "first": index == 0, "last": index == len(items) - 1}
            self.write(loop.body, ChainMap({loop.name: item, "loop": {**state, "length": len(items)}}, context))  # type: ignore[arg-type]


def _at(hole: Hole, error: ExpressionError) -> ExpressionError:
    error.position, error.expression = hole.position, hole.expression.source
    return error


class _Blocks:
    """Builds the nested blocks from the flat tokens."""

    def __init__(self, tokens: list[str | Hole | Statement]) -> None:
        self.tokens = tokens[::-1]
        self.depth = 0

    def all(self) -> Body:
        body, end = self.body(until=())
        if end is not None:
            raise end.fault(f"`{{% {end.word} %}}` has no beginning.")
        return body

    def body(self, *, until: tuple[str, ...]) -> tuple[Body, Statement | None]:
        """The parts up to one of the words `until`, which is taken too; None at the end of the source."""
        body: Body = []
        while self.tokens:
            token = self.tokens.pop()
            if not isinstance(token, Statement):
                body.append(token)
            elif token.word in {"if", "for"}:
                body.append(self.block(token))
            elif token.word in until or not until:
                return body, token
            else:
                raise token.fault(f"`{{% {token.word} %}}` is not expected here.")
        return body, None

    def block(self, opening: Statement) -> Choice | Loop:
        self.depth += 1
        if self.depth > MAX_BLOCK_DEPTH:
            raise limit_error(f"Blocks are nested too deep (more than {MAX_BLOCK_DEPTH} levels).")
        block = self.choice(opening) if opening.word == "if" else self.loop(opening)
        self.depth -= 1
        return block

    def choice(self, opening: Statement) -> Choice:
        choice = Choice()
        word: Statement = opening
        while word.word != "endif":
            last = word.word == "else"
            condition = None if last else _hole(word, word.rest)
            body, end = self.body(until=("endif",) if last else ("elif", "else", "endif"))
            if end is None:
                raise opening.fault("`{% if %}` is not closed with `{% endif %}`.")
            choice.branches.append((condition, body))
            word = end
        return choice

    def loop(self, opening: Statement) -> Loop:
        head = _LOOP.fullmatch(opening.rest)
        if not head or head[1] in _RESERVED:
            raise opening.fault("A loop is written as `{% for item in items %}`.")
        body, end = self.body(until=("endfor",))
        if end is None:
            raise opening.fault("`{% for %}` is not closed with `{% endfor %}`.")
        return Loop(head[1], _hole(opening, head[2]), body)


def _hole(statement: Statement, source: str) -> Hole:
    try:
        return Hole(parse_expression(source.strip()), statement.position)
    except ExpressionError as error:
        error.position = statement.position
        raise


def _holes(body: Body, local: frozenset[str]) -> Iterator[tuple[Hole, frozenset[str]]]:
    """Every expression with the loop names that are known where it stands."""
    for part in body:
        if isinstance(part, Hole):
            yield part, local
        elif isinstance(part, Loop):
            yield part.items, local
            yield from _holes(part.body, local | {part.name, "loop"})
        elif isinstance(part, Choice):
            for condition, branch in part.branches:
                yield from _holes([condition, *branch] if condition else branch, local)


def _tokens(source: str) -> Iterator[str | Hole | Statement]:
    at = count = 0
    while opening := _OPENING.search(source, at):
        count += 1
        if count > MAX_HOLES * 2:
            raise limit_error(f"A message may hold at most {MAX_HOLES * 2} expressions and statements.")
        start, mark = opening.span()[0], opening.group()
        token, after = _token(source, opening)
        text = source[at:start].rstrip() if mark.endswith("-") else source[at:start]
        if not isinstance(token, Hole):
            text, after = _without_own_line(source, at, start, after, text)
        if text:
            yield text
        if token is not None:
            yield token
        at = after
    if source[at:]:
        yield source[at:]


def _token(source: str, opening: re.Match[str]) -> tuple[Hole | Statement | None, int]:
    if opening.group() == "{#":
        return None, _end_of_comment(source, opening.start())
    if opening.group().startswith("{{"):
        return read_hole(source, opening.start(), opening.end())
    return _statement(source, opening.start(), opening.end())


def _end_of_comment(source: str, start: int) -> int:
    end = source.find("#}", start)
    if end < 0:
        raise ExpressionError("`{#` is not closed with `#}`.", code="expression.syntax", position=start)
    return end + 2


def _statement(source: str, start: int, inside: int) -> tuple[Statement, int]:
    end = closing(source, inside, "%}")
    contents, after = source[inside:end], end + 2
    if contents.endswith("-"):
        contents, after = contents[:-1], skip_space(source, after)
    words = _STATEMENT.fullmatch(contents.strip())
    if not words:
        raise ExpressionError(
            "Only if, elif, else, endif, for and endfor are available in `{% … %}`.",
            code="expression.syntax",
            position=start,
            expression=contents.strip(),
        )
    statement = Statement(words[1], words[2].strip(), start)
    if statement.rest and statement.word in {"else", "endif", "endfor"}:
        raise statement.fault(f"`{{% {statement.word} %}}` takes nothing.")
    return statement, after


def _without_own_line(source: str, at: int, start: int, after: int, text: str) -> tuple[str, int]:
    """A statement or comment that is alone on its line takes the whole line with it."""
    line = source.rfind("\n", 0, start) + 1
    rest = _REST_OF_LINE.match(source, after)
    if line < at or source[line:start].strip(" \t") or not rest:
        return text, after
    return text[: len(text) - (start - line)] if text.endswith(source[line:start]) else text, rest.end()
