"""The filters of the list of webhooks. They have the names that the API has, so one query serves both, and saved views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib.admin import SimpleListFilter
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter, TextFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from automation_lab.core.console.forms import choices_of
from inbox.console.words import label_of
from inbox.models import Source, Webhook
from inbox.searching import search
from inbox.verification import Verification

CONDITION = "where"
"""The field for one more condition; the address then has the condition itself, such as body.action=opened."""
FLAGS = [
    "handshake",
    "conflict",
    "confirmed",
    "not_json",
    "invalid_utf8",
    "too_deep",
    "duplicate_keys",
    "maybe_incomplete",
    "partly_searchable",
]
MAX_NAMES = 200
# From one name to the next through the index: as many steps as there are names, whatever the number of webhooks.
_NAMES = f"""
    WITH RECURSIVE names AS (
        (SELECT source FROM {Webhook._meta.db_table} ORDER BY source LIMIT 1)
        UNION ALL
        SELECT (
            SELECT source FROM {Webhook._meta.db_table} AS webhook
            WHERE webhook.source > names.source ORDER BY webhook.source LIMIT 1
        )
        FROM names WHERE names.source IS NOT NULL
    )
    (SELECT name FROM {Source._meta.db_table} ORDER BY name LIMIT {MAX_NAMES})
    UNION (SELECT source FROM names WHERE source IS NOT NULL LIMIT {MAX_NAMES})
    ORDER BY name
"""  # noqa: S608 - the names of our own tables and a number
METHODS = ["POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]


class _Named:
    """Offers the value; what it selects is decided by the filters of the API, all at once."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> QuerySet[Webhook]:
        return queryset


class SourceFilter(_Named, DropdownFilter):
    title = "source"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The sources, and the names under which something was received without one."""
        names = _names()
        if self.value() and self.value() not in names:
            names.insert(0, self.value())
        return [(name, name) for name in names]


def _names() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_NAMES)
        return [name for (name,) in cursor.fetchall()]


class StatusFilter(_Named, DropdownFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return choices_of(list(Webhook.Status.values))


class VerificationFilter(_Named, DropdownFilter):
    title = "verification"
    parameter_name = "verification"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, label_of(value)) for value in Verification.values]


class RepetitionFilter(_Named, DropdownFilter):
    title = "repetition"
    parameter_name = "is_duplicate"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("false", "first of its kind"), ("true", "repetition")]


class MethodFilter(_Named, DropdownFilter):
    title = "method"
    parameter_name = "method"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(method, method) for method in METHODS]


class FlagFilter(_Named, DropdownFilter):
    title = "flag"
    parameter_name = "flag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return choices_of(FLAGS)


class EventTypeFilter(_Named, TextFilter):
    title = "event type"
    parameter_name = "event_type"


class ConditionForm(forms.Form):
    where = forms.CharField(
        label="By header or body",
        required=False,
        max_length=search.LONGEST,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "body.action=opened", "spellcheck": "false"}),
        help_text="header.X-GitHub-Event=push, body.items.0.id=7",
    )


class ConditionFilter(_Named, TextFilter):
    title = "header or body"
    parameter_name = CONDITION

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        yield {"form": ConditionForm()}


class ReceivedForm(forms.Form):
    _attrs = {"type": "datetime-local", "step": "1"}
    received_after = forms.CharField(
        label="Received from (UTC)", required=False, widget=UnfoldAdminTextInputWidget(_attrs)
    )
    received_before = forms.CharField(
        label="Received before (UTC)", required=False, widget=UnfoldAdminTextInputWidget(_attrs)
    )


class ReceivedFilter(_Named, SimpleListFilter):
    """From and before an instant; two parameters in one filter."""

    title = "received"
    parameter_name = "received_after"
    other_name = "received_before"
    template = TextFilter.template

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        if self.other_name in params:
            self.used_parameters[self.other_name] = params.pop(self.other_name)[-1]

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name, self.other_name]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {"form": ReceivedForm(self.used_parameters)}
