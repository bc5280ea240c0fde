"""Encrypts stored secrets anew with the first key, so that an old key can be taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from automation_lab.core import crypto
from automation_lab.core.registry import Rotation, encrypted_values


def rotate_everything(*, dry_run: bool = False) -> dict[str, Rotation]:
    """By kind, what was (or would be) encrypted anew. What cannot be read is named and left as it is."""
    return {name: rotate(dry_run) for name, rotate in encrypted_values.items()}


class Counter:
    """Rotates one token after the other and counts what became of them."""

    def __init__(self) -> None:
        self._rotated = self._current = 0
        self._unreadable: list[str] = []

    def rotated(self, token: str, *, bind: str, label: str = "") -> str:
        """`token`, made with the first key; as it is when that is so already, or when it cannot be read (`label`)."""
        try:
            crypto.decrypt(token, bind=bind)
        except crypto.DecryptionError:
            self._unreadable.append(label or bind)
            return token
        if not crypto.needs_rotation(token):
            self._current += 1
            return token
        self._rotated += 1
        return crypto.rotate(token, bind=bind)

    def result(self) -> Rotation:
        return Rotation(self._rotated, self._current, self._unreadable)


def rotate_rows(rows: QuerySet[Any], change: Callable[[Any, Counter], Iterable[str]], *, dry_run: bool) -> Rotation:
    """Let `change` put rotated tokens into each of `rows`, locked; it returns the fields that it has changed."""
    counter = Counter()
    for pk in list(rows.order_by("pk").values_list("pk", flat=True)):
        with transaction.atomic():
            row = rows.select_for_update().filter(pk=pk).first()
            fields = list(change(row, counter)) if row is not None else []
            if fields and row is not None and not dry_run:
                row.save(update_fields=fields)
    return counter.result()
