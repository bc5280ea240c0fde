"""Tasks, their runs, secrets and notification channels in the console."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from automation_lab.core import display as show
from automation_lab.core.admin import (
    Panel,
    ServiceAdmin,
    confirmation,
    json_column,
    panel_of,
    section,
    text_column,
    when_column,
)
from automation_lab.core.console_forms import (
    InputDialogForm,
    JSONObjectField,
    NoteDialogForm,
    ServiceForm,
    TimeRangeFilter,
)
from automation_lab.core.exceptions import Invalid
from tasks import command_access, execution_admin, previews, secret_admin, services, validation  # noqa: F401 - two register their own
from tasks.models import ScheduledTask, TaskExecution

PANEL_ROWS = 8
LOG_LINES = 200


class TaskForm(ServiceForm):
    config = JSONObjectField(required=False, help_text="What the task does; the keys depend on its type.")
    retry_policy = JSONObjectField(required=False, help_text='Such as {"max_attempts": 5}. Empty: one attempt.')
    notify = JSONObjectField(required=False, help_text="{failure, recovery, skipped, paused: [channel names]}")

    class Meta:
        model = ScheduledTask
        fields = sorted(services.EDITABLE)

    def check(self) -> None:
        validation.check_task(self.instance)


NEW_SCHEDULE = section("Schedule", "schedule timezone|jitter_seconds anchor_at start_at end_at")


@admin.register(ScheduledTask)
class ScheduledTaskAdmin(ServiceAdmin):
    form = TaskForm
    list_display = [
        "name",
        "enabled",
        "show_type",
        "show_schedule",
        "show_last_status",
        "show_last_run",
        "show_next_run",
        "show_results",
    ]
    list_filter = [
        ("enabled", BooleanRadioFilter),
        ("task_type", ChoicesDropdownFilter),
        ("created_at", TimeRangeFilter),
    ]
    panels_after = 0
    list_defer = ["config", "retry_policy", "notify", "last_output"]
    search_fields = ["name", "description"]
    date_hierarchy = "created_at"
    ordering = ["name", "id"]
    actions = ["enable_selected", "disable_selected", "delete_selected"]
    actions_detail = ["run_now", "pause", "resume"]
    readonly_fields = ["version"]
    fieldsets = [
        section(None, "name description task_type config enabled pause_note"),
        section(
            "Schedule", "schedule show_upcoming show_schedule_error timezone|jitter_seconds anchor_at start_at end_at"
        ),
        section(
            "When it fails or is late",
            "retry_policy timeout_seconds|max_concurrency overlap|misfire grace_seconds|pause_after_failures "
            "on_lost_worker|priority notify",
        ),
    ]
    state_fieldsets = [
        section(
            "State",
            "show_last_run|show_next_run show_results|version show_created_at|show_updated_at show_archived_at "
            "show_last_output",
        ),
    ]

    show_last_run = when_column("last_run_at", "Last run", ordering=True)
    show_next_run = when_column("next_run_at", "Next run", ordering=True)
    show_last_output = json_column("last_output", "Last output")
    show_schedule_error = text_column("schedule_error")
    show_created_at = when_column("created_at")
    show_updated_at = when_column("updated_at")
    show_archived_at = when_column("archived_at")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return (
            [*self.fieldsets, *self.state_fieldsets]
            if obj
            else [*self.fieldsets[:1], NEW_SCHEDULE, *self.fieldsets[2:]]
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ScheduledTask]:
        latest = TaskExecution.objects.filter(task=OuterRef("pk")).order_by("-id").values("status")[:1]
        return super().get_queryset(request).annotate(last_status=Subquery(latest))

    @display(description="Type", ordering="task_type")
    def show_type(self, task: ScheduledTask) -> SafeString:
        return show.tag(task.task_type)

    @display(description="Schedule")
    def show_schedule(self, task: ScheduledTask) -> Any:
        if task.schedule_error:
            return show.label("cannot be evaluated", "bad")
        if not task.schedule:
            return show.muted("by hand")
        return show.mono(task.schedule if task.timezone == "UTC" else f"{task.schedule} {task.timezone}")

    @display(description="Next runs")
    def show_upcoming(self, task: ScheduledTask) -> Any:
        try:
            preview = previews.of_task(task, now=timezone.now(), count=5)
        except Invalid as error:
            return error.message
        runs = [show.joined([show.when(run["at_utc"]), show.muted(run["note"])]) for run in preview["runs"]]
        return show.lines([preview["explanation"], *runs])

    @display(description="Last result")
    def show_last_status(self, task: Any) -> SafeString:
        return show.state(task.last_status or "")

    @display(description="Runs", ordering="failure_count")
    def show_results(self, task: ScheduledTask) -> SafeString:
        return show.results(task.success_count, task.failure_count)

    def offers(self, instance: ScheduledTask, name: str) -> bool:
        return {"pause": instance.enabled, "resume": not instance.enabled}.get(name, True)

    def has_run_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "tasks.add_taskexecution")

    @action(
        description="Run now",
        url_path="run",
        icon="play_arrow",
        variant=ActionVariant.PRIMARY,
        permissions=["run"],
        dialog=confirmation("Run this task now", "The schedule stays as it is.", "Run", InputDialogForm),
    )
    def run_now(self, request: HttpRequest, form: InputDialogForm, object_id: str) -> HttpResponse:
        def start(task: ScheduledTask) -> str:
            command_access.check_task(request.user, task)
            execution = services.start_execution(
                task=task, trigger=TaskExecution.Trigger.MANUAL, input_data=form.cleaned_data["input_data"]
            )
            return f"Run #{execution.pk} is queued."

        return self.act(request, object_id, start)

    @action(
        description="Pause",
        url_path="pause",
        icon="pause",
        permissions=["change"],
        dialog=confirmation("Pause this task", "Runs by hand stay possible.", "Pause", NoteDialogForm),
    )
    def pause(self, request: HttpRequest, form: NoteDialogForm, object_id: str) -> HttpResponse:
        def pause(task: ScheduledTask) -> str:
            services.pause_task(task=task, note=form.cleaned_data["note"])
            return "Paused."

        return self.act(request, object_id, pause)

    @action(
        description="Resume",
        url_path="resume",
        icon="play_circle",
        permissions=["change"],
        dialog=confirmation("Resume this task", "The schedule goes on from now; missed slots do not fire.", "Resume"),
    )
    def resume(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        def resume(task: ScheduledTask) -> str:
            command_access.check_task(request.user, task)
            services.resume_task(task=task)
            return "Resumed."

        return self.act(request, object_id, resume)

    @action(description="Enable selected tasks", permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[ScheduledTask]) -> None:
        def resume(task: ScheduledTask) -> ScheduledTask:
            command_access.check_task(request.user, task)
            return services.resume_task(task=task)

        self.act_on_all(request, queryset, resume, "Resumed.")

    @action(description="Pause selected tasks", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[ScheduledTask]) -> None:
        self.act_on_all(request, queryset, lambda task: services.pause_task(task=task, note=""), "Paused.")

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> ScheduledTask:
        command_access.check_config(request.user, fields.get("task_type", ""), fields.get("config"))
        return services.create_task(fields=fields)

    def update(self, request: HttpRequest, instance: ScheduledTask, changes: dict[str, Any]) -> ScheduledTask:
        command_access.check_task(request.user, instance)
        changed_type = changes.get("task_type", instance.task_type)
        command_access.check_config(request.user, changed_type, changes.get("config", instance.config))
        return services.update_task(task=instance, changes=changes)

    def destroy(self, instance: ScheduledTask) -> None:
        services.delete_task(task=instance)

    def get_panels(self, request: HttpRequest, instance: ScheduledTask) -> list[Panel]:
        return [
            panel_of(
                "Latest runs",
                ["Run", "Status", "Trigger", "Attempt", "Duration", "Created", "Error"],
                instance.executions.order_by("-id").defer("input_data", "output_data"),
                lambda run: [
                    show.object_link("tasks.taskexecution", run.pk, f"#{run.pk}"),
                    show.state(run.status),
                    run.trigger,
                    run.attempt,
                    show.duration(run.duration_ms),
                    show.when(run.created_at),
                    show.shortened(run.error_message),
                ],
                limit=PANEL_ROWS,
                url=show.list_url("tasks.taskexecution", task__id__exact=instance.pk),
            )
        ]
