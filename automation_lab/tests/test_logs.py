"""How the log is set up, and what an outage looks like in it."""

from __future__ import annotations

import io
import logging
import logging.config
from collections.abc import Iterator

import pytest
from django.db import OperationalError

from automation_lab import environment
from automation_lab.core import correlation
from automation_lab.logs import OutageFilter


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What a logger of its own writes through the product's formatter and filters."""
    config = environment.logging_config("text", "info")
    stream = io.StringIO()
    config["handlers"]["console"]["stream"] = stream
    config["loggers"] = {"lab.test": {"handlers": ["console"], "level": "INFO", "propagate": False}}
    del config["root"]
    config["incremental"] = False
    logging.config.dictConfig(config)
    yield stream
    logging.getLogger("lab.test").handlers.clear()


def test_a_line_carries_the_correlation_id_and_no_credentials(output):
    with correlation.bind("id-of-this-request"):
        logging.getLogger("lab.test").warning("Sent with %s.", "Authorization: Bearer abcdefghijklmnop")

    line = output.getvalue()
    assert "[id-of-this-request]" in line
    assert "abcdefghijklmnop" not in line


def test_an_outage_is_one_line(output):
    try:
        raise OperationalError("connection refused\nIs the server running?")
    except OperationalError:
        logging.getLogger("lab.test").exception("Recovery\nfailed")

    (line,) = output.getvalue().splitlines()
    assert line.endswith("Recovery failed (OperationalError: connection refused Is the server running?)")


def test_other_errors_keep_their_traceback():
    try:
        raise ValueError("why")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, error, error.__traceback__)})

    OutageFilter().filter(record)

    assert record.exc_info is not None
