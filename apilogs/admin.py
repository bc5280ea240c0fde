"""The API log in the console: read, followed by correlation id, deleted from; never edited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, TextFilter
from unfold.decorators import display

from apilogs.middleware import WITHOUT_BODIES
from apilogs.models import ApiLog, ApiLogDrop, ApiLogHour
from automation_lab.core import curl
from automation_lab.core.admin import (
    ReadOnlyAdmin,
    column,
    duration_column,
    id_column,
    json_column,
    origin_of,
    section,
    size_column,
    trace_column,
    when_column,
)
from automation_lab.core.console import display as show
from automation_lab.core.console.forms import TimeRangeFilter, choices_of

METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"]


class StatusClassFilter(DropdownFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("errors", "4xx and 5xx"), ("2", "2xx"), ("3", "3xx"), ("4", "4xx"), ("5", "5xx")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiLog]) -> QuerySet[ApiLog]:
        if self.value() == "errors":
            return queryset.filter(status_code__gte=400)
        if self.value() in ("2", "3", "4", "5"):
            first = int(self.value()) * 100
            return queryset.filter(status_code__gte=first, status_code__lt=first + 100)
        return queryset


class MethodFilter(DropdownFilter):
    title = "method"
    parameter_name = "method"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return choices_of(METHODS)

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiLog]) -> QuerySet[ApiLog]:
        return queryset.filter(method=self.value()) if self.value() in METHODS else queryset


class CallerFilter(TextFilter):
    title = "caller"
    parameter_name = "username"

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiLog]) -> QuerySet[ApiLog]:
        return queryset.filter(username=self.value()) if self.value() else queryset


@admin.register(ApiLog)
class ApiLogAdmin(ReadOnlyAdmin):
    deletable = True
    list_display = [
        "show_id",
        "method",
        "show_path_start",
        "show_status",
        "show_duration",
        "show_caller",
        "client_ip",
        "show_sizes",
        "show_created_at",
    ]
    list_display_links = ["show_id"]
    list_filter = [StatusClassFilter, MethodFilter, CallerFilter, ("created_at", TimeRangeFilter)]
    list_defer = ["request_headers", "request_body", "response_headers", "response_body", "query_params", "user_agent"]
    search_exact = ["id", "correlation_id"]
    search_help_text = "How the path begins, a route (such as /v1/tasks/{id}), a row's id or a correlation id"
    date_hierarchy = "created_at"
    ordering = ["-created_at", "-id"]
    sortable_by: list[str] = []
    actions = ["delete_selected"]
    fieldsets = [
        section(
            None, "show_request show_status|show_duration show_created_at|show_trace show_caller|client_ip show_error"
        ),
        section("Request", "show_query show_request_headers show_request_body show_request_size|user_agent"),
        section("Answer", "show_response_headers show_response_body show_response_size"),
        section("As curl", "show_curl", collapsed=True),
    ]

    show_id = id_column
    show_status = column("status_code", show.status_code, "Status")
    show_duration = duration_column()
    show_created_at = when_column("created_at", "Arrived")
    show_trace = trace_column
    show_request_size = size_column("request_size", "Request size")
    show_response_size = size_column("response_size", "Answer size")
    show_error = column("error", lambda error: error or show.EMPTY, "Exception")
    show_query = column("query_params", lambda pairs: show.pairs_table(show.as_pairs(pairs)), "Query")
    show_request_headers = column("request_headers", lambda pairs: show.pairs_table(show.as_pairs(pairs)), "Headers")
    show_response_headers = column("response_headers", lambda pairs: show.pairs_table(show.as_pairs(pairs)), "Headers")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ApiLog], search_term: str
    ) -> tuple[QuerySet[ApiLog], bool]:
        term = search_term.strip()
        if term.startswith("/"):
            return queryset.filter(Q(path__startswith=term) | Q(route=term)), False
        return super().get_search_results(request, queryset, search_term)

    @display(description="Path")
    def show_path_start(self, log: ApiLog) -> SafeString:
        return show.mono(show.shortened(log.path, 64))

    @display(description="Request")
    def show_request(self, log: ApiLog) -> SafeString:
        return show.joined(
            [show.mono(f"{log.method} {log.path}"), show.muted(log.route if log.route != log.path else "")]
        )

    @display(description="Caller")
    def show_caller(self, log: ApiLog) -> Any:
        return log.username or show.muted("anonymous")

    @display(description="In / out")
    def show_sizes(self, log: ApiLog) -> str:
        return f"{show.size(log.request_size)} / {show.size(log.response_size)}"

    @display(description="Body")
    def show_request_body(self, log: ApiLog) -> SafeString:
        return body_view(log, log.request_body)

    @display(description="Body")
    def show_response_body(self, log: ApiLog) -> SafeString:
        return body_view(log, log.response_body)

    @display(description="Command")
    def show_curl(self, log: ApiLog) -> SafeString:
        headers = [pair for pair in show.as_pairs(log.request_headers) if "[redacted]" not in str(pair[1])]
        query = urlencode([(name, value) for name, value in show.as_pairs(log.query_params)])
        url = curl.address(origin_of(log), log.path, query)
        return show.text_block(curl.command(log.method, url, headers, text=log.request_body or ""))


def body_view(log: ApiLog, body: str | None) -> SafeString:
    """A body as it was kept: null was not kept, an empty one was empty."""
    if body is None and WITHOUT_BODIES.match(log.path):
        return show.muted("never kept for this address")
    if body is None:
        return show.muted("not kept (API_LOG_BODIES)")
    return show.stored_text(body) if body else show.muted("empty")


@admin.register(ApiLogHour)
class ApiLogHourAdmin(ReadOnlyAdmin):
    list_display = ["show_hour", "route", "show_class", "count", "show_mean", "show_max"]
    list_defer = ["histogram"]
    search_exact = ["route"]
    search_help_text = "A route, whole"
    date_hierarchy = "hour"
    sortable_by: list[str] = []
    fieldsets = [section(None, "show_hour route show_class count show_mean show_max show_histogram")]

    show_hour = when_column("hour", "Hour")
    show_max = duration_column("duration_ms_max", "Slowest")
    show_histogram = json_column("histogram")

    @display(description="Status")
    def show_class(self, row: ApiLogHour) -> SafeString:
        return show.label(f"{row.status_class}xx", {2: "good", 3: "calm", 4: "warn"}.get(row.status_class, "bad"))

    @display(description="Mean")
    def show_mean(self, row: ApiLogHour) -> str:
        return show.duration(row.duration_ms_sum / row.count if row.count else None)


@admin.register(ApiLogDrop)
class ApiLogDropAdmin(ReadOnlyAdmin):
    list_display = ["show_at", "count", "reason", "process"]
    date_hierarchy = "at"
    sortable_by: list[str] = []
    fieldsets = [section(None, "show_at count reason process")]

    show_at = when_column("at", "When")
