"""Names that are taken: only the database can tell, whoever else writes at the same moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction

from automation_lab.core.exceptions import AutomationLabError


@contextmanager
def refused_if_taken(refusal: AutomationLabError) -> Iterator[None]:
    """Raise `refusal` if what is written inside breaks a constraint. The transaction around it can go on."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        raise refusal from error
