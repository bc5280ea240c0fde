"""Versions of workflows in the console: what changed, and going back."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from automation_lab.core import audit
from automation_lab.core.admin import Panel, ReadOnlyAdmin, confirmation, id_column, json_column, section, when_column
from automation_lab.core.console import display as show
from workflows.console import version_console
from workflows.definitions import versions
from workflows.models import WorkflowVersion

COMPARABLE_VERSIONS = 50


@admin.register(WorkflowVersion)
class WorkflowVersionAdmin(ReadOnlyAdmin):
    list_display = ["show_id", "show_workflow", "number", "trigger_type", "created_by", "show_created_at"]
    list_display_links = ["show_id"]
    list_select_related = ["workflow"]
    list_defer = ["steps", "variables", "retry_policy", "trigger_config", "workflow__steps"]
    date_hierarchy = "created_at"
    search_exact = ["id", "sha256"]
    ordering = ["-id"]
    sortable_by: list[str] = []
    fieldsets = [
        section(
            None, "show_workflow number trigger_type show_trigger_config timeout_seconds show_created_at created_by"
        ),
        section("Definition", "show_steps show_variables show_retry_policy sha256"),
    ]

    panels_after = 0
    actions_detail = ["restore"]

    show_id = id_column
    show_steps = json_column("steps")
    show_variables = json_column("variables")
    show_retry_policy = json_column("retry_policy")
    show_trigger_config = json_column("trigger_config")
    show_created_at = when_column("created_at", "Saved")

    @display(description="Workflow")
    def show_workflow(self, version: WorkflowVersion) -> SafeString:
        return show.object_link("workflows.workflow", version.workflow_id, version.workflow.name)

    def offers(self, instance: WorkflowVersion, name: str) -> bool:
        return instance.number != instance.workflow.version

    def has_restore_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "workflows.change_workflow")

    @action(
        description="Restore",
        url_path="restore",
        icon="settings_backup_restore",
        permissions=["restore"],
        dialog=confirmation(
            "Restore this version",
            "Its definition becomes the newest version. Runs that are going on stay on theirs.",
            "Restore",
        ),
    )
    def restore(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        def restore(version: WorkflowVersion) -> str:
            author = request.user.get_username()
            workflow = versions.restore(workflow=version.workflow, version=version, author=author)
            audit.record(request.user, workflow, audit.CHANGE, f"Restored version {version.number}.")
            return f"Version {version.number} is restored as version {workflow.version}."

        return self.act(request, object_id, restore)

    def get_panels(self, request: HttpRequest, instance: WorkflowVersion) -> list[Panel]:
        others = WorkflowVersion.objects.filter(workflow=instance.workflow_id).exclude(pk=instance.pk)
        numbers = list(others.order_by("-number").values_list("number", flat=True)[:COMPARABLE_VERSIONS])
        if not numbers:
            return []
        against = request.GET.get("against", "")
        earlier = [number for number in numbers if number < instance.number]
        wanted = int(against) if against in map(str, numbers) else (earlier or numbers)[0]
        return [
            Panel(
                f"Changes from version {wanted} to version {instance.number}",
                body=show.joined(
                    [
                        version_console.diff_of(others.get(number=wanted), instance),
                        version_console.links_to(numbers, chosen=wanted),
                    ]
                ),
            )
        ]
