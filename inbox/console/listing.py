"""The list of webhooks: filtered as the API filters, its views, and what each row set off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from automation_lab.core.console import display as show
from automation_lab.core.console.lists import LabChangeList
from automation_lab.core.exceptions import Invalid
from inbox.console.columns import NONE
from inbox.filters import WebhookFilterSet
from inbox.models import Forward, SavedView, Webhook
from inbox.searching import search, selection

MOST_VIEWS = 20
EXPORT_FORMATS = ("csv", "json", "ndjson", "curl")
WORST_FIRST = ("failed", "timeout", "cancelled", "running", "pending", "success")
FILTERS = frozenset(WebhookFilterSet.base_filters) - {"q"}
"""Beside these there are header.NAME and body.PATH. The console's own q finds ids, too."""


@dataclass(frozen=True)
class View:
    title: str
    url: str
    is_current: bool
    is_own: bool = False


@dataclass(frozen=True)
class Condition:
    """A filter that is set, and the list without it."""

    text: str
    url: str


class WebhookChangeList(LabChangeList):
    """Filters by the API's own filters; knows the views, and how to export what it shows."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.conditions = conditions_of(request.GET)
        super().__init__(request, *args, **kwargs)
        self.found_by_id = was_found_by_id(request)
        self.views = self._views(request)
        self.can_save_view = request.user.has_perm("inbox.add_savedview")
        self.conditions_shown = [
            Condition(f"{name}={value}", self.get_query_string(remove=[name]))
            for name, value in self.conditions.items()
        ]
        self.api_query = self._api_query()

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """Django takes parameters for which there is no filter for columns."""
        with_filter = {name for item in self.list_filter for name in _parameters(item)}
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name in with_filter or name not in self.conditions}

    def get_filters(self, request: HttpRequest) -> Any:
        *found, has_active_filters = super().get_filters(request)
        return (*found, has_active_filters or bool(self.conditions))

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Webhook]:
        """The conditions come before the search: text is looked for in what they find."""
        whole: QuerySet[Webhook] = self.root_queryset  # type: ignore[has-type]  # set by Django
        self.root_queryset = self._narrowed(request, whole)
        try:
            return super().get_queryset(request, exclude_parameters)
        finally:
            self.root_queryset = whole

    def _narrowed(self, request: HttpRequest, whole: QuerySet[Webhook]) -> QuerySet[Webhook]:
        if not self.conditions:
            return whole
        try:
            return selection.select_webhooks(self.conditions)
        except Invalid as error:
            messages.error(request, error.message)
            return whole.none()

    # --- views and exports ---

    def _views(self, request: HttpRequest) -> list[View]:
        current = {**self.conditions, **({"q": self.query} if self.query else {})}
        own = Q(owner=request.user.pk)
        saved = SavedView.objects.filter(own | Q(shared=True)).values_list("name", "query", "owner_id")[:MOST_VIEWS]
        named = [
            ("All", "", False),
            ("Failed", "status=failed", False),
            ("Rejected", "status=rejected", False),
            ("Repetitions", "is_duplicate=true", False),
            *((name, query, owner_id == request.user.pk) for name, query, owner_id in saved),
        ]
        has_dates = any(name.startswith("received_at__") for name in self.params)
        return [
            View(name, f"?{query}", selection.parse_query(query) == current and not has_dates, is_own)
            for name, query, is_own in named
        ]

    def _api_query(self) -> str | None:
        """What the API would be asked for the same rows; None where it cannot be asked: it has no search for ids."""
        if self.found_by_id:
            return None
        query = {**_drilled_down(self.params), **self.conditions, **({"q": self.query} if self.query else {})}
        return urlencode(query)

    @property
    def exports(self) -> list[tuple[str, str]]:
        if self.api_query is None:
            return []
        url = reverse("webhook-export")
        tail = f"&{self.api_query}" if self.api_query else ""
        return [(name, f"{url}?format={name}{tail}") for name in EXPORT_FORMATS]


def note_found_by_id(request: HttpRequest) -> None:
    request.META["inbox.found_by_id"] = True


def was_found_by_id(request: HttpRequest) -> bool:
    return "inbox.found_by_id" in request.META


def conditions_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """Of the parameters of an address, those that are filters of the API."""
    return {
        name: value
        for name, value in parameters.items()
        if value and (name in FILTERS or name.startswith(search.PREFIXES))
    }


def _parameters(list_filter: Any) -> Sequence[str]:
    names = (getattr(list_filter, "parameter_name", ""), getattr(list_filter, "other_name", ""))
    return [name for name in names if name]


def _drilled_down(params: Mapping[str, Any]) -> dict[str, str]:
    """The year, month or day that was chosen, as the API has it."""
    year, month, day = (int(params.get(f"received_at__{part}") or 0) for part in ("year", "month", "day"))
    if not year:
        return {}
    start = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if day:
        end = start + timedelta(days=1)
    else:
        end = (start + timedelta(days=32)).replace(day=1) if month else start.replace(year=year + 1)
    return {"received_after": start.isoformat(), "received_before": end.isoformat()}


# --- what the rows show of other tables -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """What a webhook set off: how many by status, and how many tries these took."""

    by_status: Mapping[str, int]
    tries: int = 0

    @property
    def count(self) -> int:
        return sum(self.by_status.values())

    @property
    def worst(self) -> str:
        return min(self.by_status, key=lambda status: (*WORST_FIRST, status).index(status))


def complete_rows(webhooks: Iterable[Webhook]) -> None:
    """Add previews, runs and forwards to the rows of one page: one query each."""
    rows: dict[int, Any] = {webhook.pk: webhook for webhook in webhooks}
    runs, forwards = _runs_of(list(rows)), _forwards_of(list(rows))
    previews = {found.pk: bytes(found.preview_bytes) for found in _with_preview(list(rows))}
    for pk, webhook in rows.items():
        webhook.runs, webhook.sent = runs.get(pk), forwards.get(pk)
        webhook.first_line = first_line(previews.get(pk, b""))


def _with_preview(ids: list[int]) -> Iterable[Any]:
    return Webhook.objects.filter(pk__in=ids).with_preview().only("pk").order_by()


def _runs_of(ids: list[int]) -> dict[int, Started]:
    """Through the relation's name: the inbox knows nothing of workflows."""
    rows = Webhook.objects.filter(pk__in=ids, workflow_executions__isnull=False).order_by()
    counted = rows.values_list("pk", "workflow_executions__status").annotate(n=Count("workflow_executions"))
    by_webhook: dict[int, dict[str, int]] = defaultdict(dict)
    for pk, status, number in counted:
        by_webhook[pk][status] = number
    return {pk: Started(found) for pk, found in by_webhook.items()}


def _forwards_of(ids: list[int]) -> dict[int, Started]:
    rows = Forward.objects.filter(webhook__in=ids).order_by().values_list("webhook_id", "status")
    by_webhook: dict[int, dict[str, int]] = defaultdict(dict)
    tries: dict[int, int] = defaultdict(int)
    for pk, status, number, attempts in rows.annotate(n=Count("pk"), tries=Sum("attempt")):
        by_webhook[pk][status] = number
        tries[pk] += attempts
    return {pk: Started(found, tries[pk]) for pk, found in by_webhook.items()}


def first_line(start: bytes) -> str:
    """The first line of a body that says something; bytes that are no text are shown as their number."""
    if b"\x00" in start:
        return "binary"
    text = start.decode("utf-8", "replace")
    return next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")


def started_cell(started: Started | None, url: str) -> SafeString:
    """`success`, `3 success`, `1 of 3 failed`, with the tries where there were more; leads to all of them."""
    if started is None:
        return NONE
    number, worst = started.by_status[started.worst], started.worst
    if started.count == 1:
        word = worst
    else:
        word = f"{number} {worst}" if number == started.count else f"{number} of {started.count} {worst}"
    label = format_html('<a href="{}">{}</a>', url, show.state(worst, word))
    extra = started.tries - started.count
    return show.joined([label, show.muted(f"{started.tries} tries")]) if extra > 0 else label
