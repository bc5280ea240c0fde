"""The form of a task, and the dialog that asks for a past period."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.utils import timezone
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from automation_lab.core.console.forms import JSONObjectField, ServiceForm
from automation_lab.core.console.widgets import RetryPolicyTextarea, ScheduleInput, SuggestingInput
from tasks import services, validation
from tasks.console.notify_field import NotifyField
from tasks.models import ScheduledTask
from tasks.scheduling.zones import known_zones, zone_or_utc

CHANGED_MEANWHILE = (
    "This task has changed since this page was opened; it may have been paused, too. What you have entered is kept: look "
    "at the task in another tab, then save again to overwrite it."
)


class TaskForm(ServiceForm):
    """`seen_version` is the one that the page shows: the form holds every field, and would undo what came after it."""

    config = JSONObjectField(required=False, help_text="What the task does; the keys depend on its type.")
    retry_policy = JSONObjectField(
        required=False, widget=RetryPolicyTextarea, help_text='Such as {"max_attempts": 5}; 1 means no retries.'
    )
    notify = NotifyField(required=False)
    seen_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = ScheduledTask
        fields = sorted(services.EDITABLE)
        widgets = {"schedule": ScheduleInput(), "timezone": SuggestingInput(lambda: sorted(known_zones()))}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["seen_version"] = self.instance.version
        if self.instance.pk and "schedule" in self.fields:
            counted_from = self.instance.created_at.isoformat()
            self.fields["schedule"].widget.preview_defaults = {"anchor_at": counted_from}

    def clean(self) -> None:
        super().clean()
        seen = self.cleaned_data.pop("seen_version", None)
        if self.instance.pk and seen not in (None, self.instance.version):
            sent: Any = self.data.copy()  # type: ignore[attr-defined]  # a QueryDict
            sent["seen_version"] = self.instance.version
            self.data = sent
            raise forms.ValidationError(CHANGED_MEANWHILE, code="changed")

    def check(self) -> None:
        validation.check_task(self.instance)


class LocalInstantInput(UnfoldAdminTextInputWidget):
    input_type = "datetime-local"


class BackfillForm(BaseDialogForm):
    """A period, in the zone of the task. `counted` is the period whose slots have been shown as a number."""

    from_at = forms.DateTimeField(label="From", widget=LocalInstantInput)
    to_at = forms.DateTimeField(label="To", widget=LocalInstantInput)
    counted = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, request: Any, object_id: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        task = ScheduledTask.objects.filter(pk=object_id).only("timezone").first()
        self.zone = zone_or_utc(task.timezone) if task else timezone.get_default_timezone()
        for name in ("from_at", "to_at"):
            self.fields[name].help_text = f"In {self.zone}, the zone of the task."

    def full_clean(self) -> None:
        with timezone.override(self.zone):
            super().full_clean()

    @property
    def period(self) -> tuple[datetime, datetime]:
        return self.cleaned_data["from_at"], self.cleaned_data["to_at"]

    @property
    def is_counted(self) -> bool:
        return bool(self.cleaned_data["counted"] == self._period_text())

    def note_counted(self) -> None:
        sent: Any = self.data  # type: ignore[has-type]  # missing from the stubs
        self.data = {**sent.dict(), "counted": self._period_text()}

    def _period_text(self) -> str:
        return "/".join(instant.isoformat() for instant in self.period)
