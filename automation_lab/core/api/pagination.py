"""Pages that stay cheap: numbered up to 10,000 rows, by cursor beyond; counts stop at 10,000."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.template import loader
from django.utils.dateparse import parse_datetime
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from automation_lab.core.exceptions import Invalid

DEFAULT_SIZE = 50
MAX_SIZE = 200
MAX_ROWS = 10_000
CURSOR_FIELDS = ("id", "created_at")
CURSOR_SALT = "automation_lab.core.api.pagination"


class LabPagination(BasePagination):
    """`?page=2&size=50`, or `?cursor=` and then the `next` links. A view may name other `cursor_fields`, and fewer
    `counted_rows` where counting is dear.

    A numbered page costs two queries, a cursor page one.
    """

    display_page_controls = False  # until there is a page

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.request = request
        self.cursor_fields = getattr(view, "cursor_fields", CURSOR_FIELDS)
        self.most = getattr(view, "counted_rows", MAX_ROWS)
        self.size = self._number("size", DEFAULT_SIZE, MAX_SIZE)
        self.count: int | None = None
        self.next_url: str | None = None
        self.previous_url: str | None = None
        self.display_page_controls = True
        if "cursor" in request.query_params:
            return self._cursor_page(queryset)
        return self._numbered_page(queryset)

    def get_paginated_response(self, data: Any) -> Response:
        capped = self.count is not None and self.count > self.most
        return Response(
            {
                "count": self.most if capped else self.count,
                "count_is_capped": capped,
                "next": self.next_url,
                "previous": self.previous_url,
                "results": data,
            }
        )

    def _numbered_page(self, queryset: QuerySet[Any]) -> list[Any]:
        page = self._number("page", 1, None)
        end = page * self.size
        if end > self.most and (page - 1) * self.size >= self.most:
            raise Invalid(
                f"Pages end after {self.most:,} rows; read on with cursor= (start with an empty one).",
                field="page",
                code="too_deep",
            )
        # One row more than is ever counted: the inner LIMIT keeps the count from reading a big table to its end.
        self.count = queryset.order_by().values("pk")[: self.most + 1].count()
        start, stop = end - self.size, min(end, self.most)
        rows = list(_between(queryset, start, stop)) if self.count > start else []
        if page > 1:
            self.previous_url = self._link(page=page - 1)
        if self.count > end and end < self.most:
            self.next_url = self._link(page=page + 1)
        elif self.count > self.most and rows:
            self.next_url = self._cursor_after(queryset, rows[-1])
        return rows

    def _cursor_after(self, queryset: QuerySet[Any], row: Model) -> str | None:
        """Where the numbered pages end the cursor goes on, if the ordering allows one."""
        ordering = self._ordering(queryset)
        return self._link(cursor=_encode(ordering, row, forward=True)) if ordering else None

    def _cursor_page(self, queryset: QuerySet[Any]) -> list[Any]:
        if "page" in self.request.query_params:
            raise Invalid("Give page or cursor, not both.", field="cursor")
        ordering = self._ordering(queryset)
        if not ordering and not self.request.query_params.get("ordering") and "id" in self.cursor_fields:
            ordering, queryset = "-id", queryset.order_by("-id")
        if not ordering:
            known = ", ".join(f"{name}, -{name}" for name in self.cursor_fields)
            raise Invalid(f"cursor goes with these orderings only: {known or 'none here'}.", field="cursor")
        text = self.request.query_params["cursor"]
        forward, position = _decode(text, ordering) if text else (True, None)
        rows = list(_between(_sliced(queryset, ordering, forward=forward, position=position), 0, self.size + 1))
        more, rows = len(rows) > self.size, rows[: self.size]
        if not forward:
            rows.reverse()
        self._link_cursors(ordering, rows, forward=forward, more=more, started=position is not None)
        return rows

    def _link_cursors(self, ordering: str, rows: list[Any], *, forward: bool, more: bool, started: bool) -> None:
        if not rows:
            return
        if more or not forward:
            self.next_url = self._link(cursor=_encode(ordering, rows[-1], forward=True))
        if (more and not forward) or (started and forward):
            self.previous_url = self._link(cursor=_encode(ordering, rows[0], forward=False))

    def _ordering(self, queryset: QuerySet[Any]) -> str:
        """The ordering if a cursor can follow it: id or created_at first, id last, in one direction; else ""."""
        names = [str(name) for name in (queryset.query.order_by or queryset.model._meta.ordering or ())]
        if not names or names[0].lstrip("-") not in self.cursor_fields:
            return ""
        sign = "-" if names[0].startswith("-") else ""
        tail = [] if names[0] == f"{sign}id" else [f"{sign}id"]
        return names[0] if names[1:] in (tail, [f"{sign}pk"] if tail else tail) else ""

    def _number(self, name: str, default: int, most: int | None) -> int:
        text = self.request.query_params.get(name, "")
        if not text:
            return default
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
        if number < 1 or (most and number > most):
            limits = f"from 1 to {most}" if most else "from 1"
            raise Invalid(f"{name} is a whole number {limits}.", field=name)
        return number

    def _link(self, **parameters: Any) -> str:
        url = self.request.build_absolute_uri()
        if "cursor" in parameters:
            url = remove_query_param(url, "page")
        for name, value in parameters.items():
            url = replace_query_param(url, name, value)
        return url

    def to_html(self) -> str:
        template = loader.get_template("rest_framework/pagination/previous_and_next.html")
        return template.render({"previous_url": self.previous_url, "next_url": self.next_url})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["count", "count_is_capped", "next", "previous", "results"],
            "properties": {
                "count": {
                    "type": ["integer", "null"],
                    "maximum": MAX_ROWS,
                    "description": f"All rows that match, {MAX_ROWS:,} at most; null when reading by cursor.",
                },
                "count_is_capped": {"type": "boolean", "description": f"There are more than {MAX_ROWS:,} rows."},
                "next": link,
                "previous": link,
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        page = {"type": "integer", "minimum": 1}
        fields = ", ".join(getattr(view, "cursor_fields", CURSOR_FIELDS))
        parameters = [
            _parameter("page", page, f"Page number, from 1; for the first {MAX_ROWS:,} rows."),
            _parameter("size", {**page, "maximum": MAX_SIZE, "default": DEFAULT_SIZE}, "Rows a page."),
        ]
        if fields:
            how = f"Reads on at any depth: start with an empty one, follow `next`. For orderings on {fields}."
            parameters.append(_parameter("cursor", {"type": "string"}, how))
        return parameters


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _between(queryset: QuerySet[Any], start: int, stop: int) -> QuerySet[Any]:
    """By the keys of the page where other rows, too, would be read whole or have something computed of them."""
    if start or queryset.query.annotations:
        return queryset.filter(pk__in=queryset.values("pk")[start:stop])
    return queryset[:stop]


def _sliced(
    queryset: QuerySet[Any], ordering: str, *, forward: bool, position: tuple[Any, int] | None
) -> QuerySet[Any]:
    name, descending = ordering.lstrip("-"), ordering.startswith("-")
    if not forward:
        descending = not descending
        queryset = queryset.reverse()
    if position is None:
        return queryset
    value, pk = position
    beyond = "lt" if descending else "gt"
    if name == "id":
        return queryset.filter(**{f"id__{beyond}": pk})
    # The first condition alone lets the index on (created_at, id) jump to the place.
    return queryset.filter(Q(**{f"{name}__{beyond}e": value}) & (~Q(**{name: value}) | Q(**{f"id__{beyond}": pk})))


def _encode(ordering: str, row: Any, *, forward: bool) -> str:
    value = getattr(row, ordering.lstrip("-"))
    text = value.isoformat() if isinstance(value, datetime) else value
    return signing.dumps([ordering, "n" if forward else "p", text, row.pk], salt=CURSOR_SALT)


def _decode(text: str, ordering: str) -> tuple[bool, tuple[Any, int]]:
    try:
        made_for, direction, value, pk = signing.loads(text, salt=CURSOR_SALT)
    except (signing.BadSignature, ValueError) as exc:
        raise Invalid(
            "This cursor is not one that was given out here; start with an empty one.", field="cursor"
        ) from exc
    if made_for != ordering:
        raise Invalid(
            f"This cursor belongs to ordering={made_for}; keep the ordering while reading on.", field="cursor"
        )
    return direction == "n", (parse_datetime(value) if isinstance(value, str) else value, pk)
