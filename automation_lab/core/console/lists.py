"""How lists of the console are read: counted to a limit, without the columns that they do not show."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.views import ChangeList

from automation_lab.core.console import display as show

MAX_COUNT = 10_000


class CappedPaginator(Paginator):
    """Counts to `counted_rows` and no further: an exact count of a big table would cost more than its page."""

    template_name = "automation_lab/pagination.html"
    counted_rows = MAX_COUNT

    @cached_property
    def _found(self) -> int:
        rows: Any = self.object_list  # always a queryset
        return rows.order_by()[: self.counted_rows + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._found, self.counted_rows)

    @property
    def is_capped(self) -> bool:
        return self._found > self.counted_rows


class LabChangeList(ChangeList):
    """Leaves out `list_defer`; knows that without filters the number found is the number there."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.first_command = show.first_command(show.origin(request))

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> models.QuerySet[Any]:
        return super().get_queryset(request, *args, **kwargs).defer(*self.model_admin.list_defer)

    def get_filters(self, request: HttpRequest) -> Any:
        """Django adds a year to the last one that there is, and would answer 500."""
        try:
            return super().get_filters(request)
        except (ValueError, OverflowError) as error:
            raise IncorrectLookupParameters(error) from error

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.query and not self.has_active_filters:
            self.full_result_count = self.result_count
        self.model_admin.complete_rows(self.result_list)
