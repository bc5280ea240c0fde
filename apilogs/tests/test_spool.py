from __future__ import annotations

import stat
import uuid
from pathlib import Path

import pytest
from pytest_django import Settings

from apilogs import services, spool
from apilogs.models import ApiLog, ApiLogDrop
from apilogs.rows import build_head
from apilogs.spool import Segment
from apilogs.tests.factories import make_entry
from apilogs.tests.test_writer import table_away, wait_until
from apilogs.writer import LogWriter

pytestmark = pytest.mark.django_db(transaction=True)


def abandoned_segment(folder: Path, rows: int) -> Path:
    """As a killed process leaves it."""
    folder.mkdir(exist_ok=True)
    segment = Segment(folder)
    for number in range(rows):
        segment.append(build_head(make_entry(correlation_id=f"row-{number}"), str(uuid.uuid4())))
    segment.close()
    return segment.path


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    settings.API_LOG_SPOOL = str(tmp_path / "spool")
    return tmp_path / "spool"


def open_writer(folder: Path) -> LogWriter:
    log_writer = LogWriter(spool_directory=folder)
    wait_until(lambda: has_spool(log_writer))
    return log_writer


def has_spool(log_writer: LogWriter) -> bool:
    """Whether the spool is open and holds what came before: both are done under one lock."""
    with log_writer._wake:
        return log_writer._spool is not None


def test_what_a_killed_process_left_is_loaded(folder: Path) -> None:
    abandoned_segment(folder, rows=3)

    assert services.load_spool() == 3
    assert ApiLog.objects.count() == 3
    assert list(folder.iterdir()) == []


def test_a_segment_loaded_twice_gives_each_row_once(folder: Path) -> None:
    path = abandoned_segment(folder, rows=3)
    lines = path.read_bytes()
    services.load_spool()

    path.write_bytes(lines)  # the crash came between the commit and the deletion
    services.load_spool()

    assert ApiLog.objects.count() == 3


def test_the_segment_of_a_living_process_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    living = Segment(folder)
    living.append(build_head(make_entry(), str(uuid.uuid4())))

    assert services.load_spool() == 0
    assert living.path.exists()
    living.remove()


def test_a_line_cut_off_by_the_kill_is_skipped_and_counted(folder: Path) -> None:
    path = abandoned_segment(folder, rows=3)
    path.write_bytes(path.read_bytes()[:-20])

    services.load_spool()

    assert ApiLog.objects.count() == 2
    assert (ApiLogDrop.objects.get().count, ApiLogDrop.objects.get().reason) == (1, spool.UNREADABLE)


def test_a_writer_loads_what_was_left_when_it_starts(folder: Path) -> None:
    abandoned_segment(folder, rows=2)

    log_writer = open_writer(folder)

    wait_until(lambda: ApiLog.objects.count() == 2)
    log_writer.close()


def test_a_row_is_on_disk_before_the_answer_goes_out_and_gone_once_stored(folder: Path) -> None:
    log_writer = open_writer(folder)
    with table_away():
        log_writer.put(make_entry(correlation_id="on-disk"))

        assert b"on-disk" in b"".join(path.read_bytes() for path in folder.glob("*.segment"))

    log_writer.close()
    assert ApiLog.objects.count() == 1
    assert list(folder.iterdir()) == []


def test_rows_that_came_before_the_spool_was_open_are_in_it_too(folder: Path) -> None:
    with table_away():
        log_writer = LogWriter(spool_directory=folder)
        log_writer.put(make_entry(correlation_id="early"))
        wait_until(lambda: has_spool(log_writer))

        assert b"early" in b"".join(path.read_bytes() for path in folder.glob("*.segment"))

    log_writer.close()
    assert ApiLog.objects.count() == 1


def test_the_spool_holds_neither_secrets_nor_bodies_and_is_private(folder: Path) -> None:
    log_writer = open_writer(folder)
    with table_away():
        log_writer.put(
            make_entry(
                request_headers=[("HTTP_AUTHORIZATION", "Bearer canary-1")],
                query="token=canary-2",
                request_body=b'{"note": "canary-3"}',
                status_code=400,
            )
        )

        [segment] = folder.glob("*.segment")
        assert b"canary" not in segment.read_bytes()
        assert stat.S_IMODE(segment.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    log_writer.close()
    assert ApiLog.objects.get().request_body == '{"note":"canary-3"}'


def test_rows_that_could_not_be_stored_at_the_exit_stay_for_the_next_start(folder: Path) -> None:
    log_writer = open_writer(folder)
    with table_away():
        log_writer.put(make_entry())
        log_writer.close(timeout=0.5)

    wait_until(lambda: services.load_spool() == 1)
    assert ApiLog.objects.count() == 1


def test_a_folder_that_cannot_be_used_costs_the_spool_not_the_log(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log_writer = LogWriter(spool_directory=tmp_path / "file" / "spool")

    log_writer.put(make_entry())
    log_writer.close()

    assert ApiLog.objects.count() == 1
