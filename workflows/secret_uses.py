"""Which workflows name a secret."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import TextField
from django.db.models.functions import Cast, Concat

from automation_lab.core import secret_uses
from automation_lab.core.registry import SecretUser
from workflows.models import Workflow

DEFINITION = ("steps", "variables", "trigger_config")


def uses_in_workflows() -> Iterator[tuple[str, SecretUser]]:
    """(secret, workflow) for every workflow whose current definition names one."""
    text = Concat(*(Cast(name, TextField()) for name in DEFINITION), output_field=TextField())
    workflows = Workflow.objects.annotate(text=text).filter(text__contains="secrets").order_by("name")
    for pk, name, *definition in workflows.values_list("pk", "name", *DEFINITION):
        for secret in sorted(secret_uses.names_in(*definition)):
            yield secret, SecretUser("workflow", pk, name)
