"""One execution for each `Idempotency-Key`: the same key and request give the first one back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import IntegrityError, transaction

from automation_lab.core.exceptions import Conflict
from automation_lab.core.execution.models import Execution
from automation_lab.core.safe_json import dump

E = TypeVar("E", bound=Execution)


def once(execution: E, record: Callable[[], E], *, request: Any, **scope: Any) -> E:
    """Have `record` insert `execution`, or return the one that has its key already within `scope`, such as `task`.

    A unique constraint decides between callers that come at the same moment. Raises Conflict if the key came with another
    `request` before.
    """
    key = execution.idempotency_key
    execution.request_hash = request_hash(request) if key else ""
    try:
        with transaction.atomic():
            return record()
    except IntegrityError:
        first = type(execution)._default_manager.filter(idempotency_key=key, **scope).first() if key else None
        if first is None:
            raise
    if first.request_hash != execution.request_hash:
        raise Conflict("This Idempotency-Key was used with another body: take a new key for a new request.")
    return first


def request_hash(request: Any) -> str:
    """Stored and compared for as long as the row lives: what a caller puts into `request` must not change."""
    return hashlib.sha256(dump(request, sort_keys=True).encode()).hexdigest()
