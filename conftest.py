"""Shared fixtures. A session starts its own embedded PostgreSQL in a temporary folder, which goes with it, killed or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker
from rest_framework.test import APIClient

from automation_lab import tokens
from automation_lab.serving.embedded_postgres import EmbeddedPostgres

# Durability is worth nothing here, and costs most of the time.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
JOB_TABLES = "procrastinate_jobs, procrastinate_workers, procrastinate_periodic_defers, procrastinate_events"
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
_server = pytest.StashKey[EmbeddedPostgres]()

# How long one example takes says more about what else the machine does than about the code.
hypothesis_settings.register_profile(
    "busy machine", hypothesis_settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("busy machine")


def pytest_sessionstart(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return  # pytest-xdist's workers use the server of the process that started them
    folder = settings.TEST_FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    session.config.stash[_server] = EmbeddedPostgres(folder, options=FAST, remove_at_end=folder)
    session.config.stash[_server].start()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _server in config.stash:
        config.stash[_server].release()


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Dropping the database would only cost time and trip over connections left open: its whole server goes."""
    return True


@pytest.fixture(autouse=True)
def _empty_job_queue(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Django's flush after a transactional test leaves out unmanaged tables, and the engine's are unmanaged."""
    marker = request.node.get_closest_marker("django_db")
    transactional = "transactional_db" in request.fixturenames or (marker and marker.kwargs.get("transaction"))
    if transactional:
        request.getfixturevalue("transactional_db")
    yield
    if transactional:
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '10s'")
            cursor.execute(f"TRUNCATE {JOB_TABLES}")
            cursor.execute("RESET lock_timeout")


@pytest.fixture
def process_environment(transactional_db: None) -> dict[str, str]:
    """The environment for a `manage.py` process that works on this test's database."""
    database = connection.settings_dict
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "automation_lab.settings",
        "DATABASE_URL": f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}",
    }


@pytest.fixture
def user(db: None) -> User:
    """A person without any rights."""
    return User.objects.create_user("pat")


@pytest.fixture
def anonymous_api() -> APIClient:
    return APIClient()


@pytest.fixture
def api(admin_user: User) -> APIClient:
    """An API client with a superuser's token."""
    _, plain = tokens.create_token(user=admin_user, name="tests", expires_at=None)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    return client


@pytest.fixture
def browser(admin_user: User) -> Client:
    """A superuser signed in to the console."""
    client = Client()
    client.force_login(admin_user, backend=MODEL_BACKEND)
    return client


@pytest.fixture
def console(client: Client) -> Client:
    """`client`, signed in to the console as a superuser."""
    client.force_login(User.objects.create_superuser("root"), backend=MODEL_BACKEND)
    return client


@pytest.fixture
def as_role(client: Client) -> Callable[[str], Client]:
    """Signs `client` in as somebody of a role, who has its name."""

    def sign_in(role: str) -> Client:
        user = User.objects.create(username=role, is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client.force_login(user, backend=MODEL_BACKEND)
        return client

    return sign_in


@pytest.fixture
def viewer(as_role: Callable[[str], Client]) -> Client:
    return as_role("viewer")


@pytest.fixture
def operator(as_role: Callable[[str], Client]) -> Client:
    return as_role("operator")


@pytest.fixture
def failing_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit line cannot be written, as when the process dies before it."""

    def fail(*args: object, **options: object) -> None:
        raise ConnectionAbortedError("before the audit line")

    monkeypatch.setattr(LogEntry, "save", fail)
