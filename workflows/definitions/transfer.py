"""A workflow as one JSON file with the templates and schemas it names. Secrets travel by name only."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from automation_lab.core import expressions, json_schema
from automation_lab.core.exceptions import Conflict, Invalid
from tasks.handlers.http_call import secret_names
from tasks.models import Secret
from workflows import named, services
from workflows.definitions import tree
from workflows.models import MessageTemplate, NamedSchema, Workflow

FORMAT = "automation-lab/workflow@1"
FIELDS = (
    "name", "description", "trigger_type", "trigger_config", "steps", "variables", "timeout_seconds", "retry_policy",
    "concurrency", "notify",
)  # fmt: skip
TEMPLATE_FIELDS = ("name", "to", "subject", "text", "html")
SCHEMA_FIELDS = ("name", "description", "schema")
SKIP, RENAME, UPDATE = "skip", "rename", "update"
MAX_BYTES = 2 * 1024 * 1024

FILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "workflow"],
    "additionalProperties": False,
    "properties": {
        "format": {"const": FORMAT},
        "workflow": {
            "type": "object",
            "required": ["name", "steps"],
            "additionalProperties": False,
            "properties": {
                **{name: {} for name in FIELDS},
                "name": {"type": "string", "minLength": 1, "maxLength": 200},
                "description": {"type": "string"},
                "steps": {"type": "array"},
                "timeout_seconds": {"type": "integer"},
                "concurrency": {"enum": Workflow.Concurrency.values},
            },
        },
        "templates": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "subject"],
                "additionalProperties": False,
                "properties": {name: {"type": "string"} for name in TEMPLATE_FIELDS},
            },
        },
        "schemas": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "schema"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "description": {"type": "string"},
                    "schema": {"type": "object"},
                },
            },
        },
        "secrets": {"type": "array", "items": {"type": "string"}},
    },
}


def export_workflow(workflow: Workflow) -> dict[str, Any]:
    """The file's content."""
    named = _named(workflow.steps)
    templates = MessageTemplate.objects.filter(name__in=named["template"]).order_by("name")
    schemas = NamedSchema.objects.filter(name__in=named["schema"]).order_by("name")
    return {
        "format": FORMAT,
        "workflow": {name: getattr(workflow, name) for name in FIELDS},
        "templates": [{name: getattr(row, name) for name in TEMPLATE_FIELDS} for row in templates],
        "schemas": [{name: getattr(row, name) for name in SCHEMA_FIELDS} for row in schemas],
        "secrets": sorted(secret_names(expressions.references(workflow.steps))),
    }


@transaction.atomic
def import_workflow(
    *, document: Any, on_conflict: str = SKIP, author: str = "", dry_run: bool = False
) -> dict[str, Any]:
    """Add the workflow of an exported file, switched off. `on_conflict` says what to do when its name is taken.

    Returns `{"action", "workflow", "warnings"}`. Templates and schemas that exist already stay as they are, with a
    warning if they differ. Raises Invalid with every fault, Conflict when skipped.
    """
    _check(document)
    fields = {**document["workflow"], "enabled": False}
    existing = Workflow.objects.filter(name=fields["name"]).first()
    if existing is not None and on_conflict == SKIP:
        raise Conflict(f"A workflow named {fields['name']!r} exists: import with rename or update.")
    warnings = [
        *_add_named(MessageTemplate, document.get("templates", []), "message template"),
        *_add_named(NamedSchema, document.get("schemas", []), "schema"),
        *_missing_secrets(document.get("secrets", [])),
    ]
    if existing is None:
        action, workflow = "created", services.create_workflow(fields=fields, author=author)
    elif on_conflict == UPDATE:
        action, workflow = "updated", services.update_workflow(workflow=existing, changes=fields, author=author)
    else:
        fields["name"] = _free_name(fields["name"])
        action, workflow = "renamed", services.create_workflow(fields=fields, author=author)
    warnings += [warning["detail"] for warning in services.warnings(workflow)]
    if dry_run:
        transaction.set_rollback(True)
    return {"action": action, "workflow": workflow, "warnings": list(dict.fromkeys(warnings))}


def _check(document: Any) -> None:
    faults = json_schema.validate(document, FILE_SCHEMA)
    if faults:
        raise Invalid(
            "This is not an exported workflow.",
            errors=[{"field": fault.path, "code": fault.rule, "detail": fault.message} for fault in faults],
        )
    for template in document.get("templates", []):
        named.check_template(template)
    for schema in document.get("schemas", []):
        named.check_schema(schema["schema"])


def _named(steps: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Names of the templates and schemas that steps use."""
    found: dict[str, set[str]] = {"template": set(), "schema": set()}
    for item in tree.walk(steps):
        for kind, names in found.items():
            name = (item.step.get("config") or {}).get(kind)
            if isinstance(name, str):
                names.add(name)
    return found


def _add_named(model: type[MessageTemplate] | type[NamedSchema], rows: list[dict[str, Any]], what: str) -> list[str]:
    existing = {row.name: row for row in model._default_manager.filter(name__in=[row["name"] for row in rows])}
    model._default_manager.bulk_create(model(**row) for row in rows if row["name"] not in existing)  # type: ignore[misc]  # one of the two, rows alike
    return [
        f"The {what} {row['name']!r} exists and differs from the file's; it stays as it is."
        for row in rows
        if row["name"] in existing and any(getattr(existing[row["name"]], key) != value for key, value in row.items())
    ]


def _missing_secrets(names: list[str]) -> list[str]:
    known = set(Secret.objects.filter(name__in=names).values_list("name", flat=True))
    return [f"There is no secret named {name!r} yet." for name in names if name not in known]


def _free_name(name: str) -> str:
    taken = set(Workflow.objects.filter(name__startswith=name[:190]).values_list("name", flat=True))
    number = 2
    while (candidate := f"{name[:190]} ({number})") in taken:
        number += 1
    return candidate
