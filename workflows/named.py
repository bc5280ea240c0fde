"""Message templates and schemas, which steps name: every write of them, from API and console."""

from __future__ import annotations

from typing import Any, TypeVar

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import Invalid
from automation_lab.core.uniqueness import refused_if_taken
from workflows.definitions import tree
from workflows.models import MessageTemplate, NamedSchema

TEMPLATE_PARTS = ("to", "subject", "text", "html")
TEMPLATE_NAMES = tree.NAMES | {"error", "item", "index"}
Named = TypeVar("Named", MessageTemplate, NamedSchema)


def save_template(*, row: MessageTemplate, **changes: Any) -> MessageTemplate:
    """Write `row`, new or stored, with `changes`. Raises Invalid with every fault; a name that is taken is one."""
    _change(row, changes)
    check_template({part: getattr(row, part) for part in TEMPLATE_PARTS})
    return _saved(row)


def save_schema(*, row: NamedSchema, **changes: Any) -> NamedSchema:
    """The same for a schema."""
    _change(row, changes)
    check_schema(row.schema)
    return _saved(row)


def check_template(parts: dict[str, Any]) -> None:
    """Raise Invalid when a part of a message template cannot be parsed or names something unknown."""
    faults = [
        {"field": part, "code": error.code, "detail": error.message}
        for part in TEMPLATE_PARTS
        for error in expressions.check_message(parts.get(part) or "", TEMPLATE_NAMES)
    ]
    if faults:
        raise Invalid("The message template is not valid.", errors=faults)


def check_schema(schema: dict[str, Any]) -> None:
    """Raise Invalid, on `schema`, when it is not a JSON Schema that can be used."""
    try:
        json_schema.check_schema(schema)
    except Invalid as error:
        raise Invalid(error.message, field="schema", code=error.code) from error


def _change(row: MessageTemplate | NamedSchema, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(row, name, value)


def _saved(row: Named) -> Named:
    taken = f"A {row._meta.verbose_name} named {row.name!r} exists already."
    with refused_if_taken(Invalid(taken, field="name", code="unique")):
        row.save()
    return row
