"""Tasks, their runs, secrets and notification channels in the words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

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
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import InputDialogForm, NoteDialogForm, TimeRangeFilter, dialog_again
from automation_lab.core.exceptions import AutomationLabError
from tasks import services
from tasks.commands import access
from tasks.console import (
    execution_admin,  # noqa: F401 - registers its own, as does the other one
    history,
    secret_admin,  # noqa: F401
    words,
)
from tasks.console.task_forms import BackfillForm, TaskForm
from tasks.models import ScheduledTask, TaskExecution
from tasks.scheduling import backfill as backfills
from tasks.scheduling.zones import zone_or_utc

PANEL_ROWS = 8
BACKFILL = confirmation(
    "Run the slots of a past period",
    "Those that were missed or skipped, or that have no run. They are counted first.",
    "Count",
    BackfillForm,
)


@admin.register(ScheduledTask)
class ScheduledTaskAdmin(ServiceAdmin):
    form = TaskForm
    list_display = [
        "name",
        "show_state",
        "show_type",
        "show_schedule",
        "show_recent_runs",
        "show_p95",
        "show_last_run",
        "show_coming_run",
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
    actions_detail = ["run_now", "pause", "resume", "backfill", "duplicate"]
    readonly_fields = ["version"]
    fieldsets = [
        section(None, "name description task_type config enabled pause_note"),
        section("Schedule", "schedule timezone|jitter_seconds anchor_at start_at end_at"),
        section(
            "When it fails or is late",
            "retry_policy timeout_seconds|max_concurrency overlap|grace_seconds misfire|misfire_limit "
            "pause_after_failures|priority on_lost_worker notify",
        ),
    ]
    state_fieldsets = [
        section(
            "State",
            "show_state|show_p95 show_last_run|show_next_run show_results|version show_schedule_error "
            "show_created_at|show_updated_at show_archived_at show_last_output",
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
        if obj is None:
            return self.fieldsets
        (title, first), *rest = [*self.fieldsets, *self.state_fieldsets]
        hidden = ["seen_version"] if self.has_change_permission(request, obj) else []
        return [(title, {**first, "fields": [*first["fields"], *hidden]}), *rest]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """What the form to add begins with: for a copy, all of the other task but its name, switched off."""
        initial = super().get_changeform_initial_data(request)
        original = self.get_object(request, request.GET.get("copy_of", ""))
        if original is None or not self.has_view_permission(request, original):
            return initial
        copied = {name: getattr(original, name) for name in services.EDITABLE}
        return {**copied, "name": f"{original.name[:190]} (copy)", "enabled": False, "pause_note": ""}

    def complete_rows(self, rows: Iterable[Any]) -> None:
        tasks = list(rows)
        found = history.recent([task.pk for task in tasks])
        for task in tasks:
            task.history = found[task.pk]

    @display(description="State", ordering="enabled")
    def show_state(self, task: ScheduledTask) -> SafeString:
        return words.state_of(task)

    @display(description="Type", ordering="task_type")
    def show_type(self, task: ScheduledTask) -> SafeString:
        return show.tag(task.task_type)

    @display(description="Schedule")
    def show_schedule(self, task: ScheduledTask) -> SafeString:
        return words.schedule_words(task)

    @display(description="Latest runs")
    def show_recent_runs(self, task: Any) -> SafeString:
        return words.run_cells(task.history)

    @display(description="p95")
    def show_p95(self, task: Any) -> str:
        if not hasattr(task, "history"):
            self.complete_rows([task])
        return show.duration(task.history.p95_ms)

    @display(description="Next run", ordering="next_run_at")
    def show_coming_run(self, task: ScheduledTask) -> SafeString:
        return show.when_both(task.next_run_at, zone=zone_or_utc(task.timezone))

    @display(description="Runs", ordering="failure_count")
    def show_results(self, task: ScheduledTask) -> SafeString:
        return show.results(task.success_count, task.failure_count)

    def offers(self, instance: ScheduledTask, name: str) -> bool:
        return {"pause": instance.enabled, "resume": not instance.enabled}.get(name, True)

    def has_run_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, "tasks.add_taskexecution")

    def has_duplicate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_add_permission(request)

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
            access.check_task(request.user, task)
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
            access.check_task(request.user, task)
            services.resume_task(task=task)
            return "Resumed."

        return self.act(request, object_id, resume)

    @action(
        description="Backfill",
        url_path="backfill",
        icon="history",
        permissions=["change"],
        dialog=BACKFILL,
    )
    def backfill(self, request: HttpRequest, form: BackfillForm, object_id: str) -> HttpResponse:
        task = self.get_object(request, object_id)
        if task is None:
            raise Http404(f"There is no task {object_id}.")
        from_at, to_at = form.period
        if not form.is_counted:
            return self._count(request, form, task)

        def run(task: ScheduledTask) -> str:
            access.check_task(request.user, task)
            done = backfills.backfill(task=task, from_at=from_at, to_at=to_at)
            return f"Backfilled {done.revived + done.created} slots."

        return self.act(request, object_id, run)

    def _count(self, request: HttpRequest, form: BackfillForm, task: ScheduledTask) -> HttpResponse:
        from_at, to_at = form.period
        try:
            found = backfills.backfill(task=task, from_at=from_at, to_at=to_at, dry_run=True)
        except AutomationLabError as error:
            form.add_error({"from": "from_at", "to": "to_at"}.get(error.field), error.message)
            return dialog_again(request, BACKFILL, form)
        note = (
            f"{found.slots} slots: {found.revived} were missed or skipped, {found.created} have no run, "
            f"{found.kept} have run or are going to."
            if found.slots
            else "The schedule has no slot in this period."
        )
        runs = found.revived + found.created
        if runs:
            form.note_counted()
        return dialog_again(request, BACKFILL, form, note=note, submit=f"Run {runs}" if runs else "Count")

    @action(description="Duplicate", url_path="duplicate", icon="content_copy", permissions=["duplicate"])
    def duplicate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Leads to the form to add, filled in; nothing is made before it is saved."""
        query = urlencode({"copy_of": object_id})
        return HttpResponseRedirect(f"{reverse('admin:tasks_scheduledtask_add')}?{query}")

    @action(description="Enable selected tasks", permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[ScheduledTask]) -> None:
        def resume(task: ScheduledTask) -> ScheduledTask:
            access.check_task(request.user, task)
            return services.resume_task(task=task)

        self.act_on_all(request, queryset, resume, "Resumed.")

    @action(description="Pause selected tasks", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[ScheduledTask]) -> None:
        self.act_on_all(request, queryset, lambda task: services.pause_task(task=task, note=""), "Paused.")

    def create(self, request: HttpRequest, fields: dict[str, Any]) -> ScheduledTask:
        access.check_config(request.user, fields.get("task_type", ""), fields.get("config"))
        return services.create_task(fields=fields)

    def update(self, request: HttpRequest, instance: ScheduledTask, changes: dict[str, Any]) -> ScheduledTask:
        access.check_task(request.user, instance)
        changed_type = changes.get("task_type", instance.task_type)
        access.check_config(request.user, changed_type, changes.get("config", instance.config))
        return services.update_task(task=instance, changes=changes)

    def destroy(self, instance: ScheduledTask) -> None:
        services.delete_task(task=instance)

    def get_panels(self, request: HttpRequest, instance: ScheduledTask) -> list[Panel]:
        return [
            words.upcoming(instance, now=timezone.now()),
            panel_of(
                "Latest runs",
                ["Run", "Status", "Trigger", "Slot", "Attempt", "Duration", "Created", "Error"],
                instance.executions.order_by("-id").defer("input_data", "output_data"),
                lambda run: [
                    show.object_link("tasks.taskexecution", run.pk, f"#{run.pk}"),
                    show.state(run.status),
                    run.trigger,
                    words.slot_of(run),
                    run.attempt,
                    show.duration(run.duration_ms),
                    show.when(run.created_at),
                    show.shortened(run.error_message),
                ],
                limit=PANEL_ROWS,
                url=show.list_url("tasks.taskexecution", task__id__exact=instance.pk),
            ),
        ]
