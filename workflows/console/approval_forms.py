"""The form of an approval, made from its JSON Schema: one plain field for each property.

What the schema demands beyond that is checked by the service, whose faults then stand at the fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms

from automation_lab.core.console.forms import StrictJSONField
from automation_lab.core.exceptions import AutomationLabError, Invalid
from workflows.models import StepExecution
from workflows.waits import MAX_COMMENT_CHARACTERS

PREFIX = "form."
WHOLE = "form"
LONG_TEXT = 200
MOST_FIELDS = 50
INPUT_TYPES = {"date": "date", "time": "time", "email": "email", "uri": "url"}


class ApprovalForm(forms.Form):
    """What somebody decides. `by_link` also asks for a name, which a signed-in user has; to reject, no form is needed."""

    use_required_attribute = False
    comment = forms.CharField(
        required=False, max_length=MAX_COMMENT_CHARACTERS, widget=forms.Textarea({"rows": 3}), strip=False
    )

    def __init__(
        self, step: StepExecution, *args: Any, by_link: bool = False, rejects: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        schema = (step.state or {}).get("form")
        fields = _fields(schema) if isinstance(schema, dict) and not rejects else {}
        if by_link:
            fields["name"] = forms.CharField(label="Your name", required=False, max_length=100)
        self.fields = {**fields, **self.fields}

    def answers(self) -> dict[str, Any]:
        """What was filled in, as the schema names it."""
        if WHOLE in self.fields:
            return dict(self.cleaned_data[WHOLE] or {})
        named = {name: value for name, value in self.cleaned_data.items() if name.startswith(PREFIX)}
        return {name.removeprefix(PREFIX): value for name, value in named.items() if value not in ("", None)}

    def add_faults(self, error: AutomationLabError) -> None:
        """Each fault at its field; those of parts within a field name the part."""
        faults = error.errors if isinstance(error, Invalid) else [{"field": "", "detail": error.message}]
        for fault in faults:
            place = str(fault["field"])
            name = next(
                (name for name in self.fields if place == name or place.startswith((f"{name}.", f"{name}["))), None
            )
            self.add_error(name, fault["detail"] if place in ("", WHOLE, name) else f"{place}: {fault['detail']}")


class ChoiceOfValues(forms.TypedChoiceField):
    """One of values of any JSON type."""

    def __init__(self, values: list[Any], **kwargs: Any) -> None:
        choices = [("", "")] + [
            (json.dumps(value), value if isinstance(value, str) else json.dumps(value)) for value in values
        ]
        super().__init__(choices=choices, coerce=json.loads, empty_value="", **kwargs)


class WholeObjectField(StrictJSONField):
    """For schemas that are no flat list of properties."""

    widget = forms.Textarea({"rows": 8, "spellcheck": "false"})

    def clean(self, value: Any) -> Any:
        cleaned = super().clean(value)
        if cleaned is not None and not isinstance(cleaned, dict):
            raise forms.ValidationError('This is a JSON object, such as {"key": "value"}.')
        return cleaned


def _fields(schema: dict[str, Any]) -> dict[str, forms.Field]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not 0 < len(properties) <= MOST_FIELDS:
        return {WHOLE: WholeObjectField(label="Form", required=False, help_text="A JSON object.")}
    required = [name for name in schema.get("required") or [] if name in properties]
    rest = [name for name in properties if name not in required]  # the database does not keep the order of keys
    return {
        f"{PREFIX}{name}": _field(name, _rules(properties[name]), needed=name in required)
        for name in [*required, *rest]
    }


def _rules(rules: Any) -> dict[str, Any]:
    return rules if isinstance(rules, dict) else {}


def _field(name: str, rules: Mapping[str, Any], *, needed: bool) -> forms.Field:
    label = str(rules.get("title") or name.replace("_", " ").capitalize())
    shown: dict[str, Any] = {
        "label": f"{label} *" if needed and rules.get("type") != "boolean" else label,
        "help_text": str(rules.get("description") or ""),
        "required": False,  # a rejection needs no form; the service knows what an approval needs
        "initial": rules.get("default"),
    }
    kind = rules.get("type")
    if isinstance(rules.get("enum"), list):
        initial = json.dumps(rules["default"]) if "default" in rules else ""
        return ChoiceOfValues(rules["enum"], **{**shown, "initial": initial})
    if kind == "boolean":
        return forms.BooleanField(**shown)
    if kind == "integer":
        return forms.IntegerField(**shown)
    if kind == "number":
        return forms.FloatField(**shown)
    if kind == "string":
        return forms.CharField(strip=False, widget=_text_widget(rules), **shown)
    return StrictJSONField(widget=forms.Textarea({"rows": 3, "spellcheck": "false"}), **{**shown, "help_text": "JSON"})


def _text_widget(rules: Mapping[str, Any]) -> forms.Widget:
    longest = rules.get("maxLength")
    if isinstance(longest, int) and longest > LONG_TEXT:
        return forms.Textarea({"rows": 4})
    widget = forms.TextInput()
    widget.input_type = INPUT_TYPES.get(str(rules.get("format")), "text")
    return widget
