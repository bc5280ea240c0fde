"""The audit trail: Django's own LogEntry table, written by console and API alike."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

__all__ = ["ADDITION", "CHANGE", "DELETION", "record"]


def record(user: Any, obj: Model, action_flag: int, message: str | list[Any] = "", *, object_id: str = "") -> LogEntry:
    """Note that `user` added, changed or deleted `obj`. `message`: a sentence without secrets, or Django's own list."""
    return LogEntry.objects.create(
        user_id=user.pk,
        content_type_id=ContentType.objects.get_for_model(obj).pk,
        object_id=object_id or str(obj.pk),
        object_repr=str(obj)[:200],
        action_flag=action_flag,
        change_message=message if isinstance(message, str) else json.dumps(message),
    )
