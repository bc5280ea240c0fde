"""What a worker does with one job: claim the execution, run it, and leave it finished or parked."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from django.db import InterfaceError, OperationalError, models, transaction

from automation_lab.core import clock, correlation
from automation_lab.core.execution import concurrency, queue
from automation_lab.core.execution.claims import Claim, Replaced, held
from automation_lab.core.execution.models import Execution, reference
from automation_lab.core.registry import executables

logger = logging.getLogger(__name__)


class Executable(ABC):
    """How one kind of execution is run. Registered in `core.registry.executables` under `hints.kind_of(model)`."""

    model: type[Execution]

    def rows(self) -> models.QuerySet[Any]:
        """Where `run` is given its execution from: with the related rows that it reads."""
        return self.model._default_manager.all()

    @abstractmethod
    def run(self, execution: Execution, claim: Claim) -> None:
        """Run it; before returning, finish it or park it. May raise Replaced."""

    @abstractmethod
    def crashed(self, execution: Execution, claim: Claim, *, now: datetime, error: Exception) -> None:
        """`run` raised something unforeseen: finish it as failed, in the transaction given."""

    @abstractmethod
    def taken_over(self, execution: Execution, *, worker: int, now: datetime) -> str:
        """Its worker died: close the open attempt as lost. Returns why it must fail, or "" to run again."""

    @abstractmethod
    def ended(self, execution: Execution, *, now: datetime) -> None:
        """It was ended while no worker held it (cancelled, timeout, missed, worker lost): close what hangs on it."""


def run(kind: str, execution_id: int, *, worker: int) -> None:
    """Run execution `execution_id` if it is due and free; otherwise the job was an old hint and is dropped."""
    executable: Executable = executables.get(kind)
    epoch = _claim(reference(executable.model, execution_id), worker=worker)
    if epoch is None:
        return
    claim = Claim(model=executable.model, pk=execution_id, epoch=epoch, worker=worker)
    held.add(claim)
    try:
        _run_claimed(executable, claim)
    finally:
        held.remove(claim)


def _claim(execution: Execution, *, worker: int) -> int | None:
    now = clock.database_now()
    epoch = queue.claim(execution, worker=worker, now=now)
    if epoch is not None:
        return epoch
    with transaction.atomic():
        admitted = concurrency.admit(execution, now=now)
        return queue.claim(execution, worker=worker, now=now, admitted=True) if admitted else None


def _run_claimed(executable: Executable, claim: Claim) -> None:
    execution = executable.rows().get(pk=claim.pk)
    claim.concurrency_keys = execution.concurrency_keys
    with correlation.bind(execution.correlation_id):
        try:
            executable.run(execution, claim)
        except Replaced as replaced:
            logger.warning("%s Its result is thrown away.", replaced)
        except (OperationalError, InterfaceError):
            logger.exception("%s %s: the database is away. Recovery takes it over.", claim.model._meta.label, claim.pk)
        except Exception as error:  # the worker loop's edge: whatever happens, the execution must not stay running
            logger.exception("%s %s failed unexpectedly.", claim.model._meta.label, claim.pk)
            _give_up(executable, execution, claim, error)


def _give_up(executable: Executable, execution: Execution, claim: Claim, error: Exception) -> None:
    try:
        with transaction.atomic():
            queue.guard(claim)
            executable.crashed(execution, claim, now=clock.database_now(), error=error)
    except Replaced as replaced:
        logger.warning("%s", replaced)
