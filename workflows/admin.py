"""Workflows, their versions, runs and steps in the console, and the templates and schemas that steps name."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from automation_lab.core.admin import (
    Panel,
    ServiceAdmin,
    confirmation,
    panel_of,
    section,
    text_column,
    when_column,
)
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import (
    InputDialogForm,
    JSONObjectField,
    JSONTextField,
    ServiceForm,
    TimeRangeFilter,
)
from automation_lab.core.console.pages import row_or_404
from automation_lab.core.console.widgets import RetryPolicyTextarea
from tasks.console.notify_field import NotifyField
from workflows import named, services
from workflows.console import (
    execution_admin,  # noqa: F401 - registers its own, as does the other one
    version_admin,  # noqa: F401
)
from workflows.console.dry_run_page import dry_run_view
from workflows.console.import_page import import_view
from workflows.definitions import transfer, tree
from workflows.models import MessageTemplate, NamedSchema, Workflow, WorkflowExecution

PANEL_ROWS = 8


class WorkflowForm(ServiceForm):
    trigger_config = JSONObjectField(required=False, help_text='Such as {"source": "github", "event_type": "push"}.')
    steps = JSONTextField(help_text='A list such as [{"type": "api_call", "config": {"url": "https://…"}}].')
    variables = JSONObjectField(required=False, help_text="Defaults that steps read as vars.NAME.")
    retry_policy = JSONObjectField(
        required=False, widget=RetryPolicyTextarea, help_text='Such as {"max_attempts": 5}; 1 means no retries.'
    )
    notify = NotifyField(required=False)

    class Meta:
        model = Workflow
        fields = sorted(services.EDITABLE)

    def check(self) -> None:
        services.check_workflow(self.instance)


@admin.register(Workflow)
class WorkflowAdmin(ServiceAdmin):
    form = WorkflowForm
    list_display = [
        "name",
        "enabled",
        "show_trigger",
        "show_step_count",
        "show_last_status",
        "show_last_run",
        "show_next_run_at",
        "show_results",
        "version",
    ]
    list_filter = [
        ("enabled", BooleanRadioFilter),
        ("trigger_type", ChoicesDropdownFilter),
        ("created_at", TimeRangeFilter),
    ]
    panels_after = 0
    list_defer = ["variables", "retry_policy", "notify"]
    search_fields = ["name", "description"]
    date_hierarchy = "created_at"
    ordering = ["name", "id"]
    actions = ["enable_selected", "disable_selected", "delete_selected"]
    actions_list = ["import_file"]
    actions_detail = ["run_now", "enable", "disable", "dry_run", "export"]
    readonly_fields = ["version"]
    fieldsets = [
        section(None, "name description enabled"),
        section("Trigger", "trigger_type|concurrency trigger_config"),
        section("Steps", "steps variables"),
        section("Limits and notices", "timeout_seconds retry_policy notify"),
    ]
    state_fieldsets = [
        section("State", "show_results|version show_next_run_at show_schedule_error show_created_at|show_updated_at")
    ]

    show_next_run_at = when_column("next_run_at", ordering=True)
    show_schedule_error = text_column("schedule_error")
    show_created_at = when_column("created_at")
    show_updated_at = when_column("updated_at")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*self.fieldsets, *self.state_fieldsets] if obj else self.fieldsets

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        latest = WorkflowExecution.objects.filter(workflow=OuterRef("pk")).order_by("-id")
        return (
            super()
            .get_queryset(request)
            .annotate(
                last_status=Subquery(latest.values("status")[:1]), last_run_at=Subquery(latest.values("created_at")[:1])
            )
        )

    @display(description="Trigger", ordering="trigger_type")
    def show_trigger(self, workflow: Workflow) -> SafeString:
        config = workflow.trigger_config if isinstance(workflow.trigger_config, dict) else {}
        about = " ".join(
            str(config[key]) for key in ("source", "event_type", "schedule", "event", "name") if config.get(key)
        )
        return show.joined(
            [show.tag(workflow.trigger_type), *([show.muted(show.shortened(about, 40))] if about else [])]
        )

    @display(description="Steps")
    def show_step_count(self, workflow: Workflow) -> int:
        return len(workflow.steps) if isinstance(workflow.steps, list) else 0

    @display(description="Last result")
    def show_last_status(self, workflow: Any) -> SafeString:
        return show.state(workflow.last_status or "")

    @display(description="Last run", ordering="last_run_at")
    def show_last_run(self, workflow: Any) -> SafeString:
        return show.when(workflow.last_run_at)

    @display(description="Runs", ordering="failure_count")
    def show_results(self, workflow: Workflow) -> SafeString:
        return show.results(workflow.success_count, workflow.failure_count)

    def offers(self, instance: Workflow, name: str) -> bool:
        return {"run": instance.enabled, "disable": instance.enabled, "enable": not instance.enabled}.get(name, True)

    def has_run_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "workflows.add_workflowexecution")

    @action(
        description="Run now",
        url_path="run",
        icon="play_arrow",
        variant=ActionVariant.PRIMARY,
        permissions=["run"],
        dialog=confirmation(
            "Run this workflow now", "The input is what steps read as trigger.data.", "Run", InputDialogForm
        ),
    )
    def run_now(self, request: HttpRequest, form: InputDialogForm, object_id: str) -> HttpResponse:
        def start(workflow: Workflow) -> str:
            execution = services.start_execution(
                workflow=workflow,
                trigger_source="manual",
                trigger_data=form.cleaned_data["input_data"],
                started_by=request.user.get_username(),
            )
            return f"Run #{execution.pk} is queued."

        return self.act(request, object_id, start)

    @action(
        description="Enable",
        url_path="enable",
        icon="play_circle",
        permissions=["change"],
        dialog=confirmation("Enable this workflow", "Its trigger starts runs again.", "Enable"),
    )
    def enable(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return self.act(request, object_id, lambda workflow: self._switch(workflow, enabled=True))

    @action(
        description="Disable",
        url_path="disable",
        icon="pause",
        permissions=["change"],
        dialog=confirmation("Disable this workflow", "Its trigger starts nothing; runs go on to their end.", "Disable"),
    )
    def disable(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return self.act(request, object_id, lambda workflow: self._switch(workflow, enabled=False))

    @action(description="Dry run", url_path="dry-run", icon="science", permissions=["view"])
    def dry_run(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return dry_run_view(self, request, object_id)

    @action(description="Export", url_path="export", icon="download", permissions=["view"])
    def export(self, request: HttpRequest, object_id: str) -> HttpResponse:
        workflow = row_or_404(self, request, object_id)
        return HttpResponse(
            show.pretty_json(transfer.export_workflow(workflow)),
            content_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="workflow-{workflow.pk}.json"'},
        )

    def has_import_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_add_permission(request) and self.has_change_permission(request)

    @action(description="Import", url_path="import", icon="upload_file", permissions=["import"])
    def import_file(self, request: HttpRequest) -> HttpResponse:
        return import_view(self, request)

    @action(description="Enable selected workflows", permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        self.act_on_all(request, queryset, lambda workflow: self._switch(workflow, enabled=True), "Enabled.")

    @action(description="Disable selected workflows", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        self.act_on_all(request, queryset, lambda workflow: self._switch(workflow, enabled=False), "Disabled.")

    def _switch(self, workflow: Workflow, *, enabled: bool) -> str:
        services.update_workflow(workflow=workflow, changes={"enabled": enabled})
        return "Enabled." if enabled else "Disabled."

    def save_model(self, request: HttpRequest, obj: Workflow, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        for warning in services.warnings(obj):
            self.message_user(request, warning["detail"], messages.WARNING)

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> Workflow:
        return services.create_workflow(fields=fields, author=request.user.get_username())

    def update(self, request: HttpRequest, instance: Workflow, changes: dict[str, Any]) -> Workflow:
        return services.update_workflow(workflow=instance, changes=changes, author=request.user.get_username())

    def destroy(self, instance: Workflow) -> None:
        services.delete_workflow(workflow=instance)

    def get_panels(self, request: HttpRequest, instance: Workflow) -> list[Panel]:
        warnings = [[show.mono(found["path"]), found["detail"]] for found in services.warnings(instance)]
        return [
            *([Panel("Warnings", ["Where", "What"], warnings)] if warnings else []),
            self._latest_runs(instance),
            Panel(
                "Steps",
                ["Step", "Type", "Config"],
                [outline_cells(item) for item in tree.walk(instance.steps)],
            ),
            self._versions(instance),
        ]

    def _latest_runs(self, workflow: Workflow) -> Panel:
        return panel_of(
            "Latest runs",
            ["Run", "Status", "Trigger", "Steps", "Version", "Duration", "Created", "Error"],
            workflow.executions.select_related("version").order_by("-id").defer("trigger_data", "variables", "output"),
            lambda run: [
                show.object_link("workflows.workflowexecution", run.pk, f"#{run.pk}"),
                show.state(run.status),
                run.trigger_source,
                f"{run.current_step} of {run.total_steps}",
                run.version.number,
                show.duration(run.duration_ms),
                show.when(run.created_at),
                show.shortened(run.error_message),
            ],
            limit=PANEL_ROWS,
            url=show.list_url("workflows.workflowexecution", workflow__id__exact=workflow.pk),
        )

    def _versions(self, workflow: Workflow) -> Panel:
        return panel_of(
            "Versions",
            ["Version", "Steps", "Saved by", "Saved"],
            workflow.versions.order_by("-number"),
            lambda version: [
                show.object_link("workflows.workflowversion", version.pk, version.number),
                len(version.steps),
                version.created_by or show.EMPTY,
                show.when(version.created_at),
            ],
            limit=PANEL_ROWS,
            url=show.list_url("workflows.workflowversion", workflow__id__exact=workflow.pk),
        )


def outline_cells(item: tree.Placed) -> list[Any]:
    """A row of the outline; steps inside others are indented."""
    step = item.step
    return [
        show.indented(step.get("name") or step.get("id") or show.EMPTY, item.depth - 1),
        show.tag(str(step.get("type", ""))),
        show.folded("Config", show.json_view(step.get("config"))),
    ]


class MessageTemplateForm(ServiceForm):
    class Meta:
        model = MessageTemplate
        fields = ["name", "to", "subject", "text", "html"]

    def check(self) -> None:
        named.check_template(self.cleaned_data)


@admin.register(MessageTemplate)
class MessageTemplateAdmin(ServiceAdmin):
    form = MessageTemplateForm
    list_display = ["name", "subject", "to", "show_updated_at"]
    list_defer = ["text", "html"]
    search_fields = ["name", "subject"]
    date_hierarchy = "created_at"
    fieldsets = [section(None, "name to subject text html")]

    show_updated_at = when_column("updated_at", "Changed", ordering=True)

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> MessageTemplate:
        return named.save_template(row=MessageTemplate(), **fields)

    def update(self, request: HttpRequest, instance: MessageTemplate, changes: dict[str, Any]) -> MessageTemplate:
        return named.save_template(row=instance, **changes)

    def destroy(self, instance: MessageTemplate) -> None:
        instance.delete()


class NamedSchemaForm(ServiceForm):
    schema = JSONObjectField(help_text="A JSON Schema, draft 2020-12.")

    class Meta:
        model = NamedSchema
        fields = ["name", "description", "schema"]

    def check(self) -> None:
        named.check_schema(self.instance.schema)


@admin.register(NamedSchema)
class NamedSchemaAdmin(ServiceAdmin):
    form = NamedSchemaForm
    list_display = ["name", "description", "show_updated_at"]
    list_defer = ["schema"]
    search_fields = ["name", "description"]
    date_hierarchy = "created_at"
    fieldsets = [section(None, "name description schema")]

    show_updated_at = when_column("updated_at", "Changed", ordering=True)

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> NamedSchema:
        return named.save_schema(row=NamedSchema(), **fields)

    def update(self, request: HttpRequest, instance: NamedSchema, changes: dict[str, Any]) -> NamedSchema:
        return named.save_schema(row=instance, **changes)

    def destroy(self, instance: NamedSchema) -> None:
        instance.delete()
