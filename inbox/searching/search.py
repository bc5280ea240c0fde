"""Conditions on what a webhook carried: a header, a value at a JSON path, text in the body.

`header.X-GitHub-Event=push`, `body.repository.full_name=octo/x`, `q=text`. The first two are answered by the index on the
terms of all webhooks; text has none, so it is looked for in the newest TEXT_WINDOW webhooks that the other filters find.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import connection, transaction
from django.db.models import (
    BigIntegerField,
    BinaryField,
    BooleanField,
    ExpressionWrapper,
    F,
    Func,
    IntegerField,
    Model,
    Q,
    Value,
)
from django.db.models.lookups import Exact

from automation_lab.core.exceptions import Invalid
from automation_lab.core.redaction.shapes import is_sensitive_header
from inbox import terms
from inbox.querysets import WebhookQuerySet

HEADER, BODY = "header.", "body."
PREFIXES = (HEADER, BODY)
TEXT_WINDOW = 2_000
COUNTED_ROWS = 1_000
FEW = 5_000
NEWEST, COMMON = 1_000, 20
MOST_CONDITIONS = 5
MOST_SEGMENTS = 10
LONGEST = 500
ANY = "*"

_SEGMENTS = re.compile(r"(?:\\.|[^.\\])+(?:\.(?:\\.|[^.\\])+)*")
_SEGMENT = re.compile(r"(?:\\.|[^.\\])+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


class _OneOf(Exact):
    """Thousands of numbers as one parameter."""

    def get_rhs_op(self, connection: Any, rhs: str) -> str:
        return f"= ANY({rhs})"


class _Position(Func):
    function = "position"
    arg_joiner = " IN "
    output_field = IntegerField()


def carrying(webhooks: WebhookQuerySet, parameters: list[tuple[str, str]]) -> WebhookQuerySet:
    """Those of `webhooks` that meet every `header.` and `body.` parameter. Raises Invalid."""
    wanted = [(name, value) for name, value in parameters if name.startswith(PREFIXES) and value]
    if len(wanted) > MOST_CONDITIONS:
        raise Invalid(f"At most {MOST_CONDITIONS} conditions on headers and body.", field=wanted[MOST_CONDITIONS][0])
    if not wanted:
        return webhooks
    condition = Q()
    for name, value in wanted:
        if len(name) > LONGEST or len(value) > LONGEST:
            raise Invalid(f"A condition has at most {LONGEST} characters on each side.", field=name[:50])
        condition &= _header(name, value) if name.startswith(HEADER) else _body(name, value)
    found = webhooks.filter(condition)
    return found if _is_common(webhooks.model, condition) else _settled(found)


def _is_common(model: type[Model], condition: Q) -> bool:
    """Whether a page is full after few rows, newest first; the index would first gather a large part of the table."""
    newest = model._default_manager.order_by("-id").values_list(ExpressionWrapper(condition, BooleanField()), flat=True)
    return sum(newest[:NEWEST]) >= COMMON


def _settled(webhooks: WebhookQuerySet) -> WebhookQuerySet:
    """`webhooks`, by their ids where they are few.

    PostgreSQL knows of few values how common they are. For a page of what it takes for common it would read the table
    backwards, which finds the newest of more than FEW rows soon, and a single one after minutes.
    """
    with _by_index():
        ids = list(webhooks.order_by().values_list("pk", flat=True)[: FEW + 1])
    return _with_ids(webhooks, ids) if len(ids) <= FEW else webhooks


def _with_ids(webhooks: WebhookQuerySet, ids: list[int]) -> WebhookQuerySet:
    return webhooks.filter(_OneOf(F("pk"), Value(ids, ArrayField(BigIntegerField()))))


@contextmanager
def _by_index() -> Iterator[None]:
    """Within, PostgreSQL reads only rows that an index gives, in no order, if there is such an index."""
    settings = ("enable_seqscan", "enable_indexscan")
    with transaction.atomic(), connection.cursor() as cursor:
        for name in settings:
            cursor.execute(f"SET LOCAL {name} = off")
        yield
        for name in settings:
            cursor.execute(f"SET LOCAL {name} = on")


def holding_text(webhooks: WebhookQuerySet, text: str) -> WebhookQuerySet:
    """Those of the newest `webhooks` whose body holds the bytes of `text`."""
    position = _Position(Value(text.encode(), BinaryField()), F("raw_body"))
    newest = webhooks.order_by("-id").values("pk")[:TEXT_WINDOW]  # known before any body is read
    window = webhooks.model._default_manager.filter(pk__in=newest).values_list("pk", position)
    return _with_ids(webhooks, [pk for pk, found in window if found])


def _header(parameter: str, value: str) -> Q:
    name = parameter.removeprefix(HEADER)
    if not name:
        raise Invalid("Name a header, as in header.X-GitHub-Event=push.", field=parameter)
    if is_sensitive_header(name) and "signature" not in name.lower():
        raise Invalid(f"{name} holds a credential, which cannot be searched for.", field=parameter)
    return Q(header_terms__contains=[terms.header_term(name, value)])


def _body(parameter: str, text: str) -> Q:
    path = _path(parameter)
    return Q(body_terms__overlap=[terms.body_term(path, value) for value in _values(text)])


def _path(parameter: str) -> list[str | None]:
    r"""The keys and positions; `*` is any element, `\*` a key of that name."""
    text = parameter.removeprefix(BODY)
    if not _SEGMENTS.fullmatch(text):
        raise Invalid(
            "Name a path, as in body.repository.full_name=octo/x; a dot in a name is written \\.", field=parameter
        )
    path = [terms.ANY if part == ANY else re.sub(r"\\(.)", r"\1", part) for part in _SEGMENT.findall(text)]
    if len(path) > MOST_SEGMENTS:
        raise Invalid(f"A path has at most {MOST_SEGMENTS} parts.", field=parameter)
    return path


def _values(text: str) -> Iterator[Any]:
    """What `text` may stand for in JSON: itself, and the number, true, false or null that it spells. Quoted: a text only."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            yield json.loads(text)
        except ValueError:
            yield text
        return
    yield text
    if text in _WORDS:
        yield _WORDS[text]
    elif _NUMBER.fullmatch(text):
        number = json.loads(text)
        if math.isfinite(number):
            yield number
