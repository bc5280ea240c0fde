"""Filters and orderings by allow-list: a parameter that is not known is refused, never ignored.

class TaskFilterSet(StrictFilterSet):
    created_after = created_after()          # and created_before()
    name = CharFilter(lookup_expr="icontains")

    class Meta:
        model = ScheduledTask
        fields = ["task_type", "enabled"]    # exact matches
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import django_filters
from django import forms
from django.db import models
from django.db.models import QuerySet
from django.template import loader
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from django_filters.rest_framework.filterset import FILTER_FOR_DBFIELD_DEFAULTS
from rest_framework.request import Request

from automation_lab.core.exceptions import Invalid
from automation_lab.core.suggestions import unknown_name

ALWAYS_KNOWN = ("format",)
LIST_PARAMETERS = ("page", "size", "cursor", "ordering")
BIGINT = 2**63 - 1
INTEGER_FIELDS = (
    models.AutoField,
    models.IntegerField,
    models.BigIntegerField,
    models.SmallIntegerField,
    models.PositiveIntegerField,
    models.PositiveBigIntegerField,
    models.PositiveSmallIntegerField,
    models.ForeignKey,
    models.OneToOneField,
)


class BooleanFormField(forms.TypedChoiceField):
    """true or false in any case; anything else is an error, not an absent filter."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.pop("empty_value", None)
        choices = [("", "any"), ("true", "true"), ("false", "false")]
        super().__init__(choices=choices, coerce=lambda text: text == "true", empty_value=None, **kwargs)

    def to_python(self, value: Any) -> str:
        return super().to_python(value).lower()


class BooleanFilter(django_filters.BooleanFilter):
    field_class = BooleanFormField


class IntegerFilter(django_filters.NumberFilter):
    """A whole number that fits a bigint."""

    field_class = forms.IntegerField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("min_value", -BIGINT - 1)
        kwargs.setdefault("max_value", BIGINT)
        super().__init__(*args, **kwargs)

    def get_max_validator(self) -> None:
        """`max_value` is the limit here."""


class StrictFilterSet(FilterSet):
    """Base of all filtersets. An empty value means no filter, as the filter form of the browsable API sends it.

    Parameters that begin with one of `prefixes` are known too; the filterset reads them from `data` by itself.
    """

    prefixes: tuple[str, ...] = ()
    FILTER_DEFAULTS = {
        **FILTER_FOR_DBFIELD_DEFAULTS,
        models.BooleanField: {"filter_class": BooleanFilter},
        **{field: {"filter_class": IntegerFilter} for field in INTEGER_FIELDS},
    }

    def get_form_class(self) -> type[forms.Form]:
        """Its refusals name the choices that there are."""
        form_class: type[forms.Form] = super().get_form_class()
        for field in form_class.base_fields.values():
            if isinstance(field, forms.ChoiceField):
                choices: Any = field.choices
                known = ", ".join(str(value) for value, _ in choices if value)
                field.error_messages["invalid_choice"] = f'There is no "%(value)s" here; known are {known}.'
        return form_class


def created_after(field_name: str = "created_at") -> django_filters.IsoDateTimeFilter:
    return django_filters.IsoDateTimeFilter(
        field_name=field_name, lookup_expr="gte", label="Created at or after", help_text="From this instant on."
    )


def created_before(field_name: str = "created_at") -> django_filters.IsoDateTimeFilter:
    return django_filters.IsoDateTimeFilter(
        field_name=field_name, lookup_expr="lt", label="Created before", help_text="Before this instant."
    )


def time_range_field(filters: Mapping[str, django_filters.Filter], parameters: Mapping[str, str]) -> str:
    """The column of the time range in `parameters`; empty without one."""
    ranges = (
        item.field_name
        for name, item in filters.items()
        if isinstance(item, django_filters.IsoDateTimeFilter) and parameters.get(name)
    )
    return next(ranges, "")


def check_query_parameters(
    request: Request,
    known: Iterable[str],
    *,
    repeatable: Iterable[str] = (),
    prefixes: tuple[str, ...] = (),
    what: str = "filter",
) -> None:
    """Refuse parameters that are not `known`, repeated ones, and NUL characters. Raises Invalid with every fault."""
    names = {*known, *ALWAYS_KNOWN}
    errors = []
    for name, values in request.query_params.lists():
        if name not in names and not (prefixes and name.startswith(prefixes)):
            errors.append({"field": name, "code": "unknown", "detail": unknown_name(name, names, what=what)})
        elif len(values) > 1 and name not in repeatable:
            errors.append({"field": name, "code": "repeated", "detail": f"{name} is given {len(values)} times."})
        elif any("\x00" in text for text in (name, *values)):
            errors.append({"field": name, "code": "nul", "detail": f"{name} contains a NUL character."})
    if errors:
        raise Invalid(errors[0]["detail"], errors=errors)


class StrictFilterBackend(DjangoFilterBackend):
    """Filters by the view's `filterset_class`, orders by its `ordering_fields`, and refuses every other parameter.

    `extra_query_parameters` of the view names parameters that an action reads by itself. The ordering always ends in
    the primary key, so that pages neither repeat nor lose rows.
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        extra = getattr(view, "extra_query_parameters", ())
        if getattr(view, "detail", None):
            check_query_parameters(request, extra, what="parameter")
            return queryset
        filterset_class = self.get_filterset_class(view, queryset)
        filters = filterset_class.base_filters if filterset_class else {}
        repeatable = [name for name, item in filters.items() if isinstance(item, django_filters.MultipleChoiceFilter)]
        prefixes = getattr(filterset_class, "prefixes", ())
        known = [*filters, *LIST_PARAMETERS, *extra]
        check_query_parameters(request, known, repeatable=repeatable, prefixes=prefixes)
        ordering = ordering_of(request, queryset, view, time_range_field(filters, request.query_params))
        queryset = super().filter_queryset(request, queryset, view)
        return queryset.order_by(*ordering) if ordering else queryset

    def to_html(self, request: Request, queryset: QuerySet[Any], view: Any) -> str:
        if getattr(view, "detail", None):
            return ""
        form = super().to_html(request, queryset, view) or ""
        names = ordering_fields(queryset, view)
        options = [(sign + name, sign + name) for name in names for sign in ("", "-")]
        context = {
            "request": request,
            "param": "ordering",
            "current": request.query_params.get("ordering", ""),
            "options": options,
        }
        return form + loader.get_template("rest_framework/filters/ordering.html").render(context)


def ordering_fields(queryset: QuerySet[Any], view: Any) -> list[str]:
    """What may be ordered by: the view's `ordering_fields` and the primary key."""
    names = list(getattr(view, "ordering_fields", None) or ["created_at"])
    fields = {field.name for field in queryset.model._meta.concrete_fields}
    known = [name for name in names if name in fields or name in queryset.query.annotations or "__" in name]
    return [*known, *(["id"] if "id" in fields and "id" not in known else [])]


def ordering_of(request: Request, queryset: QuerySet[Any], view: Any, time_field: str = "") -> list[Any]:
    """The ordering asked for, else the view's or the model's, made total by the primary key.

    What comes newest first by its id comes by its time within a range of `time_field`: only that index finds an old
    range without reading all that is newer.
    """
    text = request.query_params.get("ordering", "")
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = ordering_fields(queryset, view)
    for name in names:
        if name.removeprefix("-") not in known:
            detail = unknown_name(name.removeprefix("-"), known, what="ordering")
            raise Invalid(detail, field="ordering", code="unknown")
    if not names:
        default: Any = getattr(view, "ordering", None) or queryset.query.order_by or queryset.model._meta.ordering
        names = [default] if isinstance(default, str) else list(default or ["-pk"])
        if time_field and names[0] in ("-id", "-pk"):
            names = [f"-{time_field}"]
    return _total(names, queryset)


def _total(names: list[Any], queryset: QuerySet[Any]) -> list[Any]:
    key = queryset.model._meta.pk.name
    if any(isinstance(name, str) and name.removeprefix("-") in (key, "pk") for name in names):
        return names
    descending = isinstance(names[0], str) and names[0].startswith("-")
    return [*names, f"-{key}" if descending else key]
