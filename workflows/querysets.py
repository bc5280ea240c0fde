"""Reads of workflows and their runs, shared by API and console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from workflows.models import Workflow, WorkflowExecution  # noqa: F401 - named in the base classes


class WorkflowQuerySet(models.QuerySet["Workflow"]):
    def enabled(self) -> WorkflowQuerySet:
        return self.filter(enabled=True)


class WorkflowExecutionQuerySet(models.QuerySet["WorkflowExecution"]):
    def with_workflow(self) -> WorkflowExecutionQuerySet:
        return self.select_related("workflow", "version")

    def for_lists(self) -> WorkflowExecutionQuerySet:
        """Without the documents, which are most of a row."""
        return self.select_related("workflow", "version").only(
            *(
                field.name
                for field in self.model._meta.concrete_fields
                if field.name not in ("trigger_data", "variables", "output")
            ),
            "workflow__name",
            "version__number",
        )

    def with_history(self) -> WorkflowExecutionQuerySet:
        return self.with_workflow().prefetch_related("steps", "log_lines")
