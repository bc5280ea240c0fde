"""Nothing is lost when real servers end, under load: every answer that a client got has its row."""

from __future__ import annotations

import http.client
import subprocess
import threading
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from pytest_django import Settings

from apilogs import services
from apilogs.models import ApiLog
from automation_lab.tests.servers import granian_server
from automation_lab.tests.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

CONNECTIONS = 8
ANSWERS = 100


class Load:
    """Clients that ask as fast as they can until the server is gone; keeps the id of every whole answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(CONNECTIONS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            while True:
                connection.request("GET", "/v1/nowhere")
                response = connection.getresponse()
                response.read()
                self.answered.append(response.headers["X-Request-ID"])

    def get_going(self) -> None:
        """Wait until there were many answers, of which some are stored by now and some are not."""
        eventually(lambda: len(self.answered) > ANSWERS and stored_ids() and set(self.answered) - stored_ids())

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def stored_ids() -> set[str]:
    return set(ApiLog.objects.values_list("correlation_id", flat=True))


def kill(process: subprocess.Popen[bytes]) -> None:
    """The master and its workers, as the kernel does when memory runs out."""
    master = psutil.Process(process.pid)
    master.suspend()  # or it would start new workers, which load the spool
    family = [*master.children(recursive=True), master]
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=30)


@pytest.mark.parametrize("with_spool", [False, True])
def test_sigterm_under_load_loses_no_row(with_spool: bool, tmp_path: Path) -> None:
    spool = {"API_LOG_SPOOL": str(tmp_path / "spool")} if with_spool else {}
    with granian_server(workers=2, **spool) as server:
        load = Load(server.port)
        load.get_going()

        server.stop()
        load.wait()

    assert len(load.answered) > ANSWERS
    assert set(load.answered) - stored_ids() == set()


def test_kill_9_under_load_loses_only_requests_in_flight(settings: Settings, tmp_path: Path) -> None:
    settings.API_LOG_SPOOL = str(tmp_path / "spool")
    with granian_server(workers=2, API_LOG_SPOOL=settings.API_LOG_SPOOL) as server:
        load = Load(server.port)
        load.get_going()

        kill(server.process)
        load.wait()

    missing = set(load.answered) - stored_ids()
    loaded = services.load_spool()
    assert 0 < len(missing) <= loaded, "the kill left nothing for the spool to save"
    assert set(load.answered) - stored_ids() == set()
    assert ApiLog.objects.count() == len(stored_ids()) <= len(load.answered) + CONNECTIONS
    assert list((tmp_path / "spool").iterdir()) == []
