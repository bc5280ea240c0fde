"""Form parts of the console: indented JSON, write-only secrets, dialogs with input, a range of time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from django import forms
from django.db import models
from django.forms.fields import InvalidJSONInput, JSONString
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.dataclasses import ActionDialog
from unfold.forms import BaseDialogForm
from unfold.utils import parse_datetime_str
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from automation_lab.core.exceptions import AutomationLabError, Invalid
from automation_lab.core.safe_json import parse_api_body


class JSONTextarea(UnfoldAdminTextareaWidget):
    """Grows with its text, in a fixed-width font."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"class": "lab-json", "rows": 4, "spellcheck": "false", **(attrs or {})})


class StrictJSONField(forms.JSONField):
    """JSON as the API takes it. What is not, or cannot be stored exactly, is refused with its place and comes back as typed."""

    def to_python(self, value: Any) -> Any:
        fault = _json_fault(value)
        if fault:
            raise forms.ValidationError(fault.message.replace("The body", "This", 1), code=fault.code)
        return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return InvalidJSONInput(data) if _json_fault(data) else super().bound_data(data, initial)


def _json_fault(text: Any) -> Invalid | None:
    if not isinstance(text, str) or isinstance(text, JSONString) or not text.strip():
        return None
    try:
        parse_api_body(text.encode("utf-8", "surrogatepass"))
    except Invalid as error:
        return error
    return None


class JSONTextField(StrictJSONField):
    """JSON, shown indented."""

    widget = JSONTextarea

    def prepare_value(self, value: Any) -> Any:
        if value is None:
            return ""
        if isinstance(value, InvalidJSONInput):
            return value
        shown = super().prepare_value(value)
        try:
            return json.dumps(json.loads(shown), indent=2, ensure_ascii=False)
        except (TypeError, ValueError):
            return shown


class JSONObjectField(JSONTextField):
    """A JSON object; nothing typed means an empty one."""

    def clean(self, value: Any) -> Any:
        cleaned = super().clean(value)
        if cleaned in (None, ""):
            return {}
        if not isinstance(cleaned, dict):
            raise forms.ValidationError('This is a JSON object, such as {"key": "value"}.', code="not_an_object")
        return cleaned


class WriteOnlyField(forms.CharField):
    """A secret on its way in: never rendered, not trimmed, not offered to password managers."""

    def __init__(self, **kwargs: Any) -> None:
        widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}, render_value=False)
        super().__init__(widget=widget, strip=False, **kwargs)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)


class ServiceForm(forms.ModelForm):
    """A form whose `check` asks the same rules as the services, so that each fault stands at its field."""

    def check(self) -> None:
        """Raise Invalid with the faults of `self.instance`, which holds what was submitted."""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django's hook, missing from the stubs
        if self.errors:
            return
        try:
            self.check()
        except AutomationLabError as error:
            add_errors(self, error)


def refused_form(form_class: type[forms.ModelForm], error: AutomationLabError) -> type[forms.ModelForm]:
    """`form_class` with what a service said to its values, which are kept."""

    class Refused(form_class):  # type: ignore[misc, valid-type]  # a class that is known only here
        def _post_clean(self) -> None:
            super()._post_clean()
            add_errors(self, error)

    return Refused


def add_errors(form: forms.BaseForm, error: AutomationLabError) -> None:
    """Each fault at the field that it names; the others above the form."""
    faults = error.errors if isinstance(error, Invalid) else [{"field": error.field, "detail": error.message}]
    for fault in faults:
        place = str(fault.get("field") or "")
        name = place.split(".")[0].split("[")[0]
        detail = str(fault.get("detail") or error.message)
        form.add_error(name if name in form.fields else None, detail if place in ("", name) else f"{place}: {detail}")


class InputDialogForm(BaseDialogForm):
    """A dialog that asks for a JSON object, for runs with parameters."""

    input_data = JSONObjectField(label="Input", required=False, help_text="A JSON object. Empty: no input.")


class NoteDialogForm(BaseDialogForm):
    """A dialog that asks for the reason."""

    note = forms.CharField(label="Note", required=False, max_length=1000, widget=UnfoldAdminTextareaWidget({"rows": 2}))


def dialog_again(
    request: HttpRequest, dialog: ActionDialog, form: BaseDialogForm, *, note: str = "", submit: str = ""
) -> HttpResponse:
    """The dialog with a note and another text on its button: a second look before something happens."""
    context = {
        "dialog": dialog,
        "form": form,
        "dialog_note": note,
        "form_submit_text": submit or dialog["form_submit_text"],
    }
    return render(request, "unfold/helpers/dialog.html", context)


class TimeRangeFilter(RangeDateTimeFilter):
    """From and to, in the zone of the console; unfold compares without a zone."""

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        for end, lookup, default in (("from", "gte", "00:00:00"), ("to", "lte", "23:59:59")):
            day, time = (self.used_parameters.get(f"{self.parameter_name}_{end}_{part}") for part in (0, 1))
            instant = parse_datetime_str(f"{day} {time or default}") if day else None
            if instant is not None:
                queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": timezone.make_aware(instant)})
        return queryset


def choices_of(values: Sequence[str]) -> list[tuple[str, str]]:
    return [(value, value.replace("_", " ")) for value in values]


def required_on_add(form: forms.ModelForm, name: str, describe: Callable[[Any], str]) -> None:
    """A write-only field is needed for a new row; for an old one an empty field keeps what is stored."""
    stored = not form.instance._state.adding
    form.fields[name].required = not stored
    if stored:
        form.fields[name].help_text = f"{describe(form.instance)} Leave it empty to keep it."
