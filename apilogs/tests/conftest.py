from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from apilogs import writer
from apilogs.models import ApiLog

StoredRows = Callable[[], list[ApiLog]]


@pytest.fixture
def log_rows(transactional_db: None, settings: Settings) -> Iterator[StoredRows]:
    """Turns the log on. Called, it ends the writer and gives what it stored, oldest first."""
    settings.API_LOG_ENABLED = True

    def stored() -> list[ApiLog]:
        writer.shutdown()
        return list(ApiLog.objects.order_by("created_at", "id"))

    yield stored
    writer.shutdown()


@pytest.fixture
def web(admin_user: User) -> Client:
    """Signed in; errors of views come back as answers, as a server gives them."""
    client = Client(raise_request_exception=False)
    client.force_login(admin_user, backend="django.contrib.auth.backends.ModelBackend")
    return client
