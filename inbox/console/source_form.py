"""The form of a source: real fields for its settings and rules, which are JSON only where they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from automation_lab.core.console.forms import ServiceForm, WriteOnlyField, choices_of, required_on_add
from automation_lab.core.exceptions import Invalid
from inbox.console import words
from inbox.console.source_secrets import MAX_OVERLAP_HOURS, WITHOUT_SECRETS, describe_secrets, unfit_ids
from inbox.models import Source
from inbox.presets import PRESETS
from inbox.secrets import signing_secrets, verify_tokens
from inbox.services import WITH_VERIFY_TOKEN
from inbox.validators import MAX_DEDUPE_WINDOW_SECONDS, PERIODS
from inbox.verification.configuration import HASHES, UNITS, secret_fault

DEFAULT, NO_LIMIT = "", "none"
SETTING = "set_"
LISTS = ("accept", "topics")
RETENTION = ("days", "payload_days", "count", "bytes")

DEDUPE = [
    ("delivery_id", "by the sender's delivery id"),
    ("json_path", "by a value in the body"),
    ("body_hash", "by the same body within a time"),
    ("none", "never: every webhook counts"),
]


def _text(label: str, help_text: str = "", **attrs: Any) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"spellcheck": "false", **attrs})
    return forms.CharField(
        label=label, required=False, max_length=2048, strip=False, help_text=help_text, widget=widget
    )


def _number(label: str, help_text: str = "", largest: int | None = None) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        required=False,
        min_value=1,
        max_value=largest,
        help_text=help_text,
        widget=UnfoldAdminIntegerFieldWidget,
    )


def _choice(label: str, choices: Iterable[tuple[str, str]], help_text: str = "") -> forms.ChoiceField:
    widget = UnfoldAdminSelectWidget
    return forms.ChoiceField(label=label, choices=list(choices), required=False, help_text=help_text, widget=widget)


def _one_of(label: str, values: Iterable[str], default: str) -> forms.ChoiceField:
    return _choice(label, [("", f"default ({default})"), *choices_of(list(values))])


class SourceForm(ServiceForm):
    """`composed` holds the values of the JSON fields, put together from the fields of the form."""

    scheme = forms.ChoiceField(
        choices=[(scheme, words.scheme_name(scheme)) for scheme in PRESETS], widget=UnfoldAdminSelectWidget
    )
    new_secret = WriteOnlyField(label="Secret", required=False, help_text="What the sender signs with.")
    overlap_hours = forms.IntegerField(
        label="Old secret valid for",
        required=False,
        min_value=0,
        max_value=MAX_OVERLAP_HOURS,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Hours beside a new secret, for a sender that changes over later. Empty: it ends at once.",
    )

    verify_token = WriteOnlyField(
        label="Verify token",
        required=False,
        help_text="Chosen by you, the same as at the provider, which repeats it to make sure of the address.",
    )

    set_header = _text("Header", "Where the token or signature stands.", placeholder="X-Signature")
    set_prefix = _text("Prefix", "What stands before it, such as sha256=")
    set_algorithm = _one_of("Hash", HASHES, "sha256")
    set_encoding = _one_of("Written in", ["hex", "base64"], "hex")
    set_key_encoding = _one_of("Secret written in", ["utf-8", "hex", "base64"], "utf-8")
    set_separator = _text("Separator", "Between several signatures: one character.")
    set_content = _text(
        "What is signed", "{body} with {timestamp}, {method}, {url}, {header:NAME}.", placeholder="{timestamp}.{body}"
    )
    set_timestamp_header = _text("Header of the time")
    set_timestamp_unit = _one_of("Time in", UNITS, "seconds")
    set_tolerance_seconds = _number("Tolerance", "Seconds that the signed time may be off. Empty: by the scheme.")
    set_url = _text("Signed address", "Empty: PUBLIC_URL with the path.", placeholder="https://lab.example.com/…")
    set_accept = _text("Accepted ways", "Of several ways to sign, those accepted, with commas between. Empty: all.")
    set_topics = forms.CharField(
        label="Topics",
        required=False,
        help_text="The ARNs that may send, one a line.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "spellcheck": "false"}),
    )

    rate_count = _number("Requests", "Empty: the default of this installation.", 999_999_999)
    rate_period = _choice(
        "Per", [(DEFAULT, "default"), *((period, period) for period in PERIODS), (NO_LIMIT, "no limit")]
    )
    dedupe_by = _choice("Repetitions are told", DEDUPE)
    dedupe_path = _text("Value at", "Such as body.order.id; a number picks from a list.", placeholder="body.id")
    dedupe_window = _number("Within", "Seconds.", MAX_DEDUPE_WINDOW_SECONDS)

    keep_days = _number("Keep for", "Days. Empty: the default of this installation.")
    keep_payload_days = _number("Keep bodies for", "Days, if fewer.")
    keep_count = _number("Keep the newest", "Webhooks.")
    keep_bytes = _number("Keep up to", "Bytes of bodies.")

    class Meta:
        model = Source
        exclude: list[str] = ["secrets", "open_confirmed", "scheme_settings", "rate_limit", "dedupe", "retention"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance") or Source()
        kwargs["initial"] = {**_taken_apart(instance), **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)
        self.composed: dict[str, Any] = {}
        for name, schemes in SCHEMES_WITH.items():
            if SETTING + name in self.fields:
                self.fields[SETTING + name].widget.attrs["data-schemes"] = " ".join(schemes)
        self._describe(instance)

    def _describe(self, instance: Source) -> None:
        if "rate_count" in self.fields:
            self.fields["rate_count"].help_text = f"Empty: the default, {settings.INBOX_RATE_LIMIT or 'none'}."
        if "new_secret" in self.fields and not instance._state.adding:
            required_on_add(self, "new_secret", describe_secrets)
            self.fields["new_secret"].label = "New secret"
        if "verify_token" in self.fields:
            self.fields["verify_token"].widget.attrs["data-schemes"] = " ".join(WITH_VERIFY_TOKEN)
            if verify_tokens(instance):
                self.fields["verify_token"].help_text = "One is set. A new one replaces it. Leave it empty to keep it."

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        for name, parts in COMPOSED.items():
            if not any(part in self.errors or part not in self.fields for part in parts):
                self.composed[name] = _COMPOSERS[name](data)
                setattr(self.instance, name, self.composed[name])
        return data

    def check(self) -> None:
        self._check_composed()
        scheme, options = self.instance.scheme, self.instance.scheme_settings
        if value := self.cleaned_data.get("new_secret"):
            if fault := secret_fault(scheme, options, value):
                raise Invalid(fault, field="new_secret")
        elif self._needs_secret():
            raise Invalid("This scheme needs another kind of secret than the one stored: set it, too.", field="scheme")

    def _needs_secret(self) -> bool:
        """Whether secrets are stored, and this scheme, which takes some, can use none of them."""
        source, stored = self.instance, {secret.id for secret in signing_secrets(self.instance)}
        unfit = unfit_ids(source, source.scheme, source.scheme_settings)
        return source.scheme not in WITHOUT_SECRETS and bool(stored) and stored <= unfit

    def _check_composed(self) -> None:
        for name, value in self.composed.items():
            try:
                Source._meta.get_field(name).clean(value, self.instance)  # type: ignore[union-attr]  # no relation
            except ValidationError as error:
                raise Invalid(" ".join(error.messages), field=_place(name, self.cleaned_data)) from error

    def _update_errors(self, errors: Any) -> None:
        """Django looks for the fields of the model, which are put together here."""
        if hasattr(errors, "error_dict"):
            placed = {_place(name, self.cleaned_data): found for name, found in errors.error_dict.items()}
            errors = ValidationError(placed)
        super()._update_errors(errors)  # type: ignore[misc]  # Django's hook, missing from the stubs

    def changes(self, names: Iterable[str]) -> dict[str, Any]:
        """The fields of the model, and what is about secrets, of which a part is among `names`."""
        wanted = set(names)
        whole = {name: value for name, value in self.composed.items() if wanted & set(COMPOSED[name])}
        if "scheme" in wanted:  # each scheme has its own settings
            whole["scheme_settings"] = self.composed["scheme_settings"]
        parts = {part for found in COMPOSED.values() for part in found}
        return {name: self.cleaned_data[name] for name in wanted - parts if name in self.cleaned_data} | whole


SCHEMES_WITH: dict[str, list[str]] = {}
for _scheme in PRESETS:
    for _name in words.setting_names(_scheme):
        SCHEMES_WITH.setdefault(_name, []).append(_scheme)
"""Setting -> the schemes that have it."""

COMPOSED: dict[str, list[str]] = {
    "scheme_settings": [SETTING + name for name in SCHEMES_WITH],
    "rate_limit": ["rate_count", "rate_period"],
    "dedupe": ["dedupe_by", "dedupe_path", "dedupe_window"],
    "retention": [f"keep_{name}" for name in RETENTION],
}
"""Field of the model -> those of the form that make it."""


def _place(name: str, data: Mapping[str, Any]) -> str:
    """Where in the form a fault of the model's field `name` stands."""
    if name == "dedupe":
        return {"json_path": "dedupe_path", "body_hash": "dedupe_window"}.get(data.get("dedupe_by") or "", "dedupe_by")
    return {"scheme_settings": "scheme", "rate_limit": "rate_count", "retention": "keep_days"}.get(name, name)


# --- together and apart -----------------------------------------------------------------------------------------------


def _scheme_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is filled in, of what the scheme has: fields of other schemes are hidden, not emptied."""
    found = {name: data.get(SETTING + name) for name in SCHEMES_WITH if data.get("scheme") in SCHEMES_WITH[name]}
    return {
        name: value.replace(",", " ").split() if name in LISTS else value
        for name, value in found.items()
        if value not in (None, "")
    }


def _rate_limit(data: Mapping[str, Any]) -> str:
    count, period = data.get("rate_count"), data.get("rate_period")
    if period == NO_LIMIT:
        return "0"
    return f"{count}/{period or 'minute'}" if count else ""


def _dedupe(data: Mapping[str, Any]) -> dict[str, Any]:
    by = data.get("dedupe_by") or "delivery_id"
    if by == "json_path":
        return {"by": by, "path": data.get("dedupe_path", "").strip()}
    return {"by": by, "window_seconds": data.get("dedupe_window")} if by == "body_hash" else {"by": by}


def _retention(data: Mapping[str, Any]) -> dict[str, int]:
    return {name: data[f"keep_{name}"] for name in RETENTION if data.get(f"keep_{name}")}


_COMPOSERS = {
    "scheme_settings": _scheme_settings,
    "rate_limit": _rate_limit,
    "dedupe": _dedupe,
    "retention": _retention,
}


def _taken_apart(source: Source) -> dict[str, Any]:
    count, _, period = source.rate_limit.partition("/")
    limit = (
        {"rate_count": None, "rate_period": NO_LIMIT} if count == "0" else {"rate_count": count, "rate_period": period}
    )
    rule = source.dedupe
    return {
        **{f"{SETTING}{name}": _shown(name, value) for name, value in source.scheme_settings.items()},
        **limit,
        "dedupe_by": rule.get("by"),
        "dedupe_path": rule.get("path", ""),
        "dedupe_window": rule.get("window_seconds"),
        **{f"keep_{name}": value for name, value in source.retention.items()},
    }


def _shown(name: str, value: Any) -> Any:
    if name not in LISTS:
        return value
    return ("\n" if name == "topics" else ", ").join(value)
