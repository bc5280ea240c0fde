"""Template tags of the console."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.db.models import Max, Min
from django.utils import timezone

register = template.Library()


@register.inclusion_tag("admin/date_hierarchy.html")
def lab_date_hierarchy(cl: ChangeList) -> dict[str, Any]:
    """Django's drill-down by date at the price of an index look-up at each end.

    Django asks for the distinct days of the whole table, which on millions of rows costs more than the page.
    """
    drill = _DrillDown(cl)
    if drill.day:
        return drill.at_day()
    bounds = drill.bounds()
    if bounds is None:
        return {"show": False}
    return drill.days(*bounds) if drill.month else drill.months(*bounds) if drill.year else drill.start(*bounds)


class _DrillDown:
    def __init__(self, cl: ChangeList) -> None:
        self.cl = cl
        self.field = cl.date_hierarchy
        self.year, self.month, self.day = (self._chosen(part) for part in ("year", "month", "day"))

    def _chosen(self, part: str) -> int:
        return int(self.cl.params.get(f"{self.field}__{part}") or 0)

    def bounds(self) -> tuple[date, date] | None:
        """First and last day of the table, cut to the year and month that were chosen."""
        found = self.cl.root_queryset.order_by().aggregate(first=Min(self.field), last=Max(self.field))
        if found["first"] is None:
            return None
        first, last = (_day(found[end]) for end in ("first", "last"))
        if self.year:
            start = date(self.year, self.month or 1, 1)
            end = _next_month(start) if self.month else date(self.year + 1, 1, 1)
            first, last = max(first, start), min(last, end - timedelta(days=1))
        return first, last

    def link(self, **parts: int) -> str:
        chosen = {f"{self.field}__{part}": number for part, number in parts.items()}
        return self.cl.get_query_string(chosen, [f"{self.field}__"])

    def start(self, first: date, last: date) -> dict[str, Any]:
        """The lowest level that still offers a choice."""
        if first.year != last.year:
            years = range(first.year, last.year + 1)
            return _level(None, [{"link": self.link(year=year), "title": str(year)} for year in years])
        self.year = first.year
        if first.month != last.month:
            return self.months(first, last)
        self.month = first.month
        return self.days(first, last)

    def months(self, first: date, last: date) -> dict[str, Any]:
        choices, month = [], first.replace(day=1)
        while month <= last:
            choices.append({"link": self.link(year=month.year, month=month.month), "title": f"{month:%B %Y}"})
            month = _next_month(month)
        return _level({"link": self.link(), "title": "All dates"}, choices)

    def days(self, first: date, last: date) -> dict[str, Any]:
        count = (last - first).days + 1
        choices = [
            {"link": self.link(year=day.year, month=day.month, day=day.day), "title": f"{day.day} {day:%B}"}
            for day in (first + timedelta(days=number) for number in range(max(count, 0)))
        ]
        return _level({"link": self.link(year=self.year), "title": str(self.year)}, choices)

    def at_day(self) -> dict[str, Any]:
        day = date(self.year, self.month, self.day)
        back = {"link": self.link(year=day.year, month=day.month), "title": f"{day:%B %Y}"}
        return _level(back, [{"title": f"{day.day} {day:%B}"}])


def _level(back: dict[str, Any] | None, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"show": True, "back": back, "choices": choices}


def _day(value: datetime | date) -> date:
    return timezone.localtime(value).date() if isinstance(value, datetime) else value


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
