"""What the list and the export can be filtered by."""

from __future__ import annotations

import django_filters
from django import forms
from django.db.models import QuerySet

from apilogs.models import ApiLog
from automation_lab.core.api.filters import BooleanFilter, IntegerFilter, StrictFilterSet, created_after, created_before

STATUS_CLASSES = [(f"{digit}xx", f"{digit}xx") for digit in range(1, 6)]


class AddressFilter(django_filters.CharFilter):
    field_class = forms.GenericIPAddressField

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.extra.pop("strip", None)


class ApiLogFilterSet(StrictFilterSet):
    method = django_filters.CharFilter(method="filter_method", help_text="Such as POST; the case does not matter.")
    path = django_filters.CharFilter(lookup_expr="startswith", help_text="How the path begins, such as /v1/webhooks.")
    route = django_filters.CharFilter(help_text="The URL template, such as /v1/tasks/{id}.")
    status_code = IntegerFilter(min_value=100, max_value=599)
    status_class = django_filters.ChoiceFilter(choices=STATUS_CLASSES, method="filter_status_class")
    errors_only = BooleanFilter(method="filter_errors", help_text="true: only answers from 400 on.")
    min_duration_ms = django_filters.NumberFilter(
        field_name="duration_ms", lookup_expr="gte", min_value=0, max_value=10**9, help_text="At least this slow."
    )
    user_id = IntegerFilter()
    username = django_filters.CharFilter()
    client_ip = AddressFilter()
    correlation_id = django_filters.CharFilter()
    created_after = created_after()
    created_before = created_before()

    class Meta:
        model = ApiLog
        fields: list[str] = []

    def filter_method(self, queryset: QuerySet[ApiLog], name: str, value: str) -> QuerySet[ApiLog]:
        return queryset.filter(method=value.upper())

    def filter_status_class(self, queryset: QuerySet[ApiLog], name: str, value: str) -> QuerySet[ApiLog]:
        first = int(value[0]) * 100
        return queryset.filter(status_code__gte=first, status_code__lt=first + 100)

    def filter_errors(self, queryset: QuerySet[ApiLog], name: str, value: bool) -> QuerySet[ApiLog]:
        return queryset.filter(status_code__gte=400) if value else queryset
