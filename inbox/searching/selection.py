"""Webhooks chosen by a filter that does not come from an address: for replays and saved views."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any
from urllib.parse import parse_qsl

from django.db.models import QuerySet

from automation_lab.core.exceptions import Invalid
from automation_lab.core.suggestions import unknown_name
from inbox.filters import WebhookFilterSet
from inbox.models import Webhook
from inbox.querysets import WebhookQuerySet
from inbox.receiving.handshakes import FLAG as HANDSHAKE


def select_webhooks(filters: Mapping[str, Any]) -> WebhookQuerySet:
    """The webhooks that the list would show for `filters`. Raises Invalid with every fault."""
    check_names(filters)
    data = {name: _text(name, value) for name, value in filters.items()}
    filterset = WebhookFilterSet(data, queryset=Webhook.objects.all())
    if not filterset.is_valid():
        errors = [
            {"field": f"filter.{name}", "code": error.code or "invalid", "detail": " ".join(error.messages)}
            for name, found in filterset.errors.as_data().items()
            for error in found
        ]
        raise Invalid(errors[0]["detail"], errors=errors)
    return filterset.qs


def select_for_replay(filters: Mapping[str, Any]) -> QuerySet[Webhook]:
    """As `select_webhooks`, without refused requests, repetitions and handshakes, unless the filter names them."""
    return for_replay(select_webhooks(filters), filters)


def for_replay(found: QuerySet[Webhook], named: Container[str]) -> QuerySet[Webhook]:
    """Of `found`, what is sent again when the filters `named` were set."""
    if "flag" not in named:
        found = found.exclude(flags__contains=[HANDSHAKE])
    if "status" not in named and "verification" not in named:
        found = found.exclude(status=Webhook.Status.REJECTED)
    return found if "is_duplicate" in named else found.filter(is_duplicate=False)


def check_names(filters: Mapping[str, Any]) -> None:
    names = WebhookFilterSet.base_filters
    errors = [
        {"field": f"filter.{name}", "code": "unknown", "detail": unknown_name(name, names, what="filter")}
        for name in filters
        if name not in names and not name.startswith(WebhookFilterSet.prefixes)
    ]
    if errors:
        raise Invalid(errors[0]["detail"], errors=errors)


def parse_query(query: str) -> dict[str, str]:
    """`source=github&status=failed` as a filter; paging is no part of it. Raises Invalid."""
    try:
        pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError as error:
        raise Invalid("A query is written like source=github&status=failed.", field="query") from error
    filters = {name: value for name, value in pairs if name != "ordering"}
    if len(filters) < len([name for name, _ in pairs if name != "ordering"]):
        raise Invalid("Each filter is given once.", field="query")
    return filters


def _text(name: str, value: Any) -> str:
    """An empty value is refused: it would narrow nothing, so all webhooks would be sent again."""
    field = f"filter.{name}"[:100]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        text = str(value)
        if not text.strip():
            raise Invalid(f"{name} is empty: give a value, or leave it out."[:300], field=field, code="empty")
        if "\x00" not in text and "\x00" not in name:
            return text
    raise Invalid("A filter's value is a text, a whole number, true or false.", field=field)
