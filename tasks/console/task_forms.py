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


class TaskForm(ServiceForm):
    config = JSONObjectField(required=False, help_text="What the task does; the keys depend on its type.")
    retry_policy = JSONObjectField(
        required=False, widget=RetryPolicyTextarea, help_text='Such as {"max_attempts": 5}. Empty: one attempt.'
    )
    notify = NotifyField(required=False)

    class Meta:
        model = ScheduledTask
        fields = sorted(services.EDITABLE)
        widgets = {"schedule": ScheduleInput(), "timezone": SuggestingInput(lambda: sorted(known_zones()))}

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
