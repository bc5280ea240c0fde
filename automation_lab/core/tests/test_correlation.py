"""Correlation ids: which are accepted, how they travel, and how log lines show them without being forged."""

from __future__ import annotations

import json
import logging
import sys
import threading
import uuid

import pytest

from automation_lab.core import correlation

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def record(message: str = "hello", *args: object, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "inbox.services", "levelname": "INFO", "msg": message, "args": args, **extra})
    correlation.CorrelationFilter().filter(made)
    return made


def failed_record(error: Exception) -> logging.LogRecord:
    try:
        raise error
    except type(error):
        return record("broken", exc_info=sys.exc_info())


# --- ids


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-00f067aa0ba902b7-01",
        f" 00-{TRACE}-00f067aa0ba902b7-00 ",
        f"cc-{TRACE}-00f067aa0ba902b7-01-what-the-future",
    ],
)
def test_the_trace_id_of_a_traceparent_wins(traceparent):
    assert correlation.accept("request-id-1", traceparent) == TRACE


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
        f"00-{TRACE}-00f067aa0ba902b7",
        f"00-{TRACE}-00f067aa0ba902b7-01\nx",
    ],
)
def test_a_traceparent_that_breaks_the_standard_is_ignored(traceparent):
    assert correlation.accept("request-id-1", traceparent) == "request-id-1"


@pytest.mark.parametrize("request_id", ["abcdefgh", "A.b_c-1234", "x" * 64])
def test_a_well_formed_request_id_is_taken(request_id):
    assert correlation.accept(request_id, None) == request_id


@pytest.mark.parametrize(
    "request_id", [None, "", "short", "x" * 65, "with space1", "line\nbreak", "abcdefgh\n", "ümlauts-"]
)
def test_any_other_request_id_is_replaced_by_a_new_uuid7(request_id):
    made = uuid.UUID(correlation.accept(request_id, None))

    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_a_uuid7_has_the_layout_of_the_rfc():
    made = correlation.uuid7(milliseconds=0x017F22E279B0)  # the instant of the example in appendix A.6

    assert str(made).startswith("017f22e2-79b0-7")
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_uuid7s_sort_by_time_and_do_not_repeat():
    made = [correlation.uuid7(milliseconds=instant) for instant in range(100)]

    assert made == sorted(made)
    assert len({correlation.uuid7(milliseconds=1) for _ in range(1000)}) == 1000


# --- context


def test_a_bound_id_holds_inside_only_and_nests():
    with correlation.bind("outer-id"):
        with correlation.bind("inner-id") as inner:
            assert correlation.current() == inner == "inner-id"
        assert correlation.current() == "outer-id"

    assert correlation.current() == ""


def test_the_id_is_unbound_after_an_error():
    with pytest.raises(ValueError, match="x"), correlation.bind("outer-id"):
        raise ValueError("x")

    assert correlation.current() == ""


def test_threads_do_not_see_the_ids_of_others():
    seen = []
    with correlation.bind("outer-id"):
        thread = threading.Thread(target=lambda: seen.append(correlation.current()))
        thread.start()
        thread.join()

    assert seen == [""]


# --- log lines


def test_the_json_format_has_the_fields_the_id_and_the_extras():
    with correlation.bind("request-1"):
        line = correlation.JsonFormatter().format(record("took %d ms", 5, source="github", count=2, created=0.25))

    assert json.loads(line) == {
        "ts": "1970-01-01T00:00:00.250Z",
        "level": "info",
        "logger": "inbox.services",
        "event": "took 5 ms",
        "correlation_id": "request-1",
        "source": "github",
        "count": 2,
    }


def test_the_text_format_is_one_tidy_line():
    with correlation.bind("request-1"):
        line = correlation.TextFormatter().format(record("took %d ms", 5, source="github", created=0.25))

    assert line == "1970-01-01 00:00:00.250 INFO    inbox.services [request-1] took 5 ms source=github"


@pytest.mark.parametrize("formatter", [correlation.JsonFormatter(), correlation.TextFormatter()])
@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x85", "\u2028", "\u202e", "\ud800", "\0"])
def test_control_characters_cannot_forge_a_line(formatter, character):
    line = formatter.format(record(f"a{character}b", note=f"c{character}d"))

    assert character not in line
    assert line.encode()


def test_a_json_line_gives_escaped_characters_back():
    line = correlation.JsonFormatter().format(record("a\n\x85\u202eü"))

    assert json.loads(line)["event"] == "a\n\x85\u202eü"


@pytest.mark.parametrize("formatter", [correlation.JsonFormatter(), correlation.TextFormatter()])
def test_secrets_are_redacted_in_message_extras_and_traceback(formatter):
    line = formatter.format(record("with password=%s", "hunter2", token="hunter2", config={"secret": ["hunter2"]}))
    failed = formatter.format(failed_record(ValueError("cannot reach postgresql://lab:hunter2@db/x")))

    assert "hunter2" not in line + failed
    assert "postgresql://[redacted]@db/x" in failed


def test_a_traceback_is_indented_so_that_its_lines_are_no_log_lines():
    text = correlation.TextFormatter().format(failed_record(ValueError("a\n2026-01-01 INFO forged\x1b")))

    assert all(line.startswith("    ") for line in text.splitlines()[1:])
    assert "    2026-01-01 INFO forged\\x1b" in text


def test_a_json_line_holds_the_traceback():
    fields = json.loads(correlation.JsonFormatter().format(failed_record(ValueError("why"))))

    assert fields["event"] == "broken"
    assert fields["error"].endswith("ValueError: why")


@pytest.mark.parametrize("formatter", [correlation.JsonFormatter(), correlation.TextFormatter()])
def test_odd_extras_and_arguments_that_do_not_fit_are_logged_all_the_same(formatter):
    circle: dict[str, object] = {}
    circle["self"] = circle

    assert "object at" in formatter.format(record("x", thing=object()))
    assert "self" in formatter.format(record("x", circle=circle))
    assert "do not fit" in formatter.format(record("%d of %d", "x"))


def test_extras_cannot_replace_the_fields_of_the_line():
    fields = json.loads(correlation.JsonFormatter().format(record("real", event="forged", level="forged")))

    assert (fields["event"], fields["level"]) == ("real", "info")


def test_the_filter_puts_the_id_on_records_of_any_logger():
    with correlation.bind("request-1"):
        made = record()

    assert made.correlation_id == "request-1"
