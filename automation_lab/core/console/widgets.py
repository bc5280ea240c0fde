"""Form fields that say at once what was typed means: schedules, retry policies; and time zones to choose from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.forms.widgets import Script, Widget
from django.urls import reverse_lazy
from unfold.widgets import UnfoldAdminTextInputWidget

from automation_lab.core.console.forms import JSONTextarea


class PreviewMixin(Widget):
    """Shows below the field what the address `preview_url` answers to what the form has, as it is typed.

    `preview_fields` maps the keys of the request to the names of the form's fields, `preview_defaults` to what an empty
    one means.
    """

    template_name = "automation_lab/widgets/preview.html"
    inner_template: str
    preview_url: Any
    preview_fields: Mapping[str, str]
    preview_defaults: Mapping[str, str] = {}

    class Media:
        js = [Script("automation_lab/preview.js", type="module")]

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        context["widget"] |= {
            "inner_template": self.inner_template,
            "preview_url": str(self.preview_url),
            "preview_fields": json.dumps(self.preview_fields),
            "preview_defaults": json.dumps(self.preview_defaults),
        }
        return context


class ScheduleInput(PreviewMixin, UnfoldAdminTextInputWidget):
    """A schedule, with its meaning and its next runs. `timezone` and the limits are those of the same form."""

    inner_template = "unfold/widgets/text.html"
    preview_url = reverse_lazy("task-preview-schedule")
    preview_fields = {name: name for name in ("schedule", "timezone", "anchor_at", "start_at", "end_at")}

    def __init__(self) -> None:
        super().__init__({"autocomplete": "off", "spellcheck": "false", "class": "lab-mono-input"})


class RetryPolicyTextarea(PreviewMixin, JSONTextarea):
    """A retry policy, with when the next tries would come."""

    inner_template = "unfold/widgets/textarea.html"
    preview_url = reverse_lazy("admin:preview_retry_policy")
    preview_fields = {"retry_policy": "retry_policy"}


class SuggestingInput(UnfoldAdminTextInputWidget):
    """A text that is one of many known ones, which the browser completes."""

    template_name = "automation_lab/widgets/suggesting.html"

    def __init__(self, known: Callable[[], Iterable[str]], attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"autocomplete": "off", "spellcheck": "false", **(attrs or {})})
        self.known = known

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        list_id = f"{context['widget']['attrs'].get('id', name)}_known"
        context["widget"]["attrs"]["list"] = list_id
        context["widget"] |= {"list_id": list_id, "known": self.known()}
        return context
