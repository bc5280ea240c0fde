"""Named queries of the list of webhooks: every write of them, from API and console."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from automation_lab.core.exceptions import Conflict
from automation_lab.core.uniqueness import refused_if_taken
from inbox.models import SavedView
from inbox.searching import selection


def save_view(*, view: SavedView, **changes: Any) -> SavedView:
    """Write `view`, new or stored, with `changes`.

    Raises Invalid for a query that the list could not show, Conflict for a name that its owner has given already.
    """
    for name, value in changes.items():
        setattr(view, name, value)
    view.query = normalised_query(view.query)
    with refused_if_taken(Conflict("You have a view of this name already.", field="name")):
        view.save()
    return view


def normalised_query(query: str) -> str:
    """`query` as it stands in the address of the list. Raises Invalid for one that the list could not show."""
    filters = selection.parse_query(query)
    selection.select_webhooks(filters)
    return urlencode(filters)
