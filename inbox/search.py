"""Conditions on what a webhook carried: a header, a value at a JSON path, text in the body.

`header.X-GitHub-Event=push`, `body.repository.full_name=octo/x`, `q=text`. The first two are answered by GIN indexes over
all webhooks; text has no index, so it is looked for in the newest TEXT_WINDOW webhooks that the other filters find.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import BinaryField, F, Func, IntegerField, JSONField, Q, TextField, Value
from django.db.models.lookups import Exact, GreaterThan

from automation_lab.core.exceptions import Invalid
from automation_lab.core.redaction.shapes import is_sensitive_header
from inbox.querysets import WebhookQuerySet

HEADER, BODY = "header.", "body."
PREFIXES = (HEADER, BODY)
TEXT_WINDOW = 2_000
COUNTED_ROWS = 1_000
MOST_CONDITIONS = 5
MOST_SEGMENTS = 10
LONGEST = 500
ANY = "*"

_SEGMENTS = re.compile(r"(?:\\.|[^.\\])+(?:\.(?:\\.|[^.\\])+)*")
_SEGMENT = re.compile(r"(?:\\.|[^.\\])+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


class _At(Func):
    """The value of a JSON column at a path, by name in objects and by position in lists."""

    template = "(%(expressions)s)"
    arg_joiner = " #> "
    output_field = JSONField()


class _Position(Func):
    function = "position"
    arg_joiner = " IN "
    output_field = IntegerField()


def carrying(webhooks: WebhookQuerySet, parameters: list[tuple[str, str]]) -> WebhookQuerySet:
    """Those of `webhooks` that meet every `header.` and `body.` parameter. Raises Invalid."""
    wanted = [(name, value) for name, value in parameters if name.startswith(PREFIXES) and value]
    if len(wanted) > MOST_CONDITIONS:
        raise Invalid(f"At most {MOST_CONDITIONS} conditions on headers and body.", field=wanted[MOST_CONDITIONS][0])
    for name, value in wanted:
        if len(name) > LONGEST or len(value) > LONGEST:
            raise Invalid(f"A condition has at most {LONGEST} characters on each side.", field=name[:50])
        webhooks = webhooks.filter(_header(name, value) if name.startswith(HEADER) else _body(name, value))
    return webhooks


def holding_text(webhooks: WebhookQuerySet, text: str) -> WebhookQuerySet:
    """Those of the newest `webhooks` whose body holds the bytes of `text`."""
    window = webhooks.order_by("-id").values("pk")[:TEXT_WINDOW]
    found = _Position(Value(text.encode(), BinaryField()), F("raw_body"))
    return webhooks.filter(pk__in=window).filter(GreaterThan(found, 0))


def _header(parameter: str, value: str) -> Q:
    name = parameter.removeprefix(HEADER)
    if not name:
        raise Invalid("Name a header, as in header.X-GitHub-Event=push.", field=parameter)
    if is_sensitive_header(name) and "signature" not in name.lower():
        raise Invalid(f"{name} holds a credential, which cannot be searched for.", field=parameter)
    # The server gives names without their spelling; they are stored like this.
    return Q(headers__contains=[[name.replace("_", "-").title(), value]])


def _body(parameter: str, text: str) -> Q:
    path = _path(parameter)
    values = list(_values(text))
    positions = any(segment.isdecimal() for segment in path)
    if positions and ANY in path:
        raise Invalid("A path has positions or *, not both.", field=parameter)
    found = Q()
    for value in values:
        condition = Q(body__contains=_nested(path, value, as_lists=positions))
        if positions:
            # The index knows that some element has the value; which one, only the row itself tells.
            condition = (condition | Q(body__contains=_nested(path, value, as_lists=False))) & _is_at(path, value)
        found |= condition
    return found


def _path(parameter: str) -> list[str]:
    text = parameter.removeprefix(BODY)
    if not _SEGMENTS.fullmatch(text):
        raise Invalid(
            "Name a path, as in body.repository.full_name=octo/x; a dot in a name is written \\.", field=parameter
        )
    path = [re.sub(r"\\(.)", r"\1", segment) for segment in _SEGMENT.findall(text)]
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


def _nested(path: list[str], value: Any, *, as_lists: bool) -> Any:
    for segment in reversed(path):
        value = [value] if segment == ANY or (as_lists and segment.isdecimal()) else {segment: value}
    return value


def _is_at(path: list[str], value: Any) -> Q:
    return Q(Exact(_At(F("body"), Value(path, ArrayField(TextField()))), Value(value, JSONField())))
