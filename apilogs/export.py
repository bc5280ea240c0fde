"""The pages of an export of the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from apilogs.models import ApiLog
from apilogs.serializers import ApiLogSerializer

PAGE_ROWS = 500
FIELDS: list[str] = ApiLogSerializer.Meta.fields

Log = dict[str, Any]


def pages(logs: QuerySet[ApiLog], *, newest_first: bool = True) -> Iterator[list[Log]]:
    """The rows in pages of PAGE_ROWS, in the order of their arrival; rows that come meanwhile may be missing."""
    ordering, before = (["-created_at", "-id"], "l") if newest_first else (["created_at", "id"], "g")
    rest = logs.order_by(*ordering).values(*FIELDS)
    page = list(rest[:PAGE_ROWS])
    while page:
        yield page
        if len(page) < PAGE_ROWS:
            return
        at, last = page[-1]["created_at"], page[-1]["id"]
        # As a range and an exception to it, not as `a < x OR (a = x AND …)`, which no index can follow.
        after = rest.filter(**{f"created_at__{before}te": at})
        seen = {"created_at": at, f"id__{'g' if newest_first else 'l'}te": last}
        page = list(after.exclude(**seen)[:PAGE_ROWS])
