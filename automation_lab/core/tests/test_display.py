"""How values look in the console."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from automation_lab.core.console import display as show

NOW = datetime(2025, 11, 24, 10, 31, 7, 123_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "-"),
        (0, "0 ms"),
        (1.25, "1.25 ms"),
        (340, "340 ms"),
        (999, "999 ms"),
        (1_200, "1.2 s"),
        (59_940, "59.9 s"),
        (60_000, "1 min"),
        (125_000, "2 min 5 s"),
        (3_600_000, "1 h"),
        (11_040_000, "3 h 4 min"),
        (183_600_000, "2 d 3 h"),
    ],
)
def test_a_duration_is_shown_in_units_of_its_size(milliseconds, text):
    assert show.duration(milliseconds) == text.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (7_100, "7.1 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB")],
)
def test_a_size_is_shown_in_units_of_a_thousand(number, text):
    assert show.size(number) == text.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(), "just now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=23), "23 h ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=-2), "in 2 days"),
    ],
)
def test_an_instant_is_shown_by_its_distance_from_now(ago, text):
    assert show.relative(NOW - ago, NOW) == text


def test_an_instant_has_its_time_and_zone_on_hover():
    assert 'title="2025-11-24 10:31:07.123 UTC"' in show.when(NOW, now=NOW)


@pytest.mark.parametrize(
    "render",
    [show.json_block, show.text_block, show.mono, show.muted, show.tag, show.shortened, show.state, show.stored_text],
)
def test_markup_is_escaped(render):
    assert "<script>" not in render("<script>alert(1)</script>" * 20)


def test_headers_are_escaped_in_their_table():
    assert "<b>" not in show.pairs_table([["<b>", "<b>"]])


def test_what_is_no_list_of_pairs_is_left_out():
    assert show.as_pairs([["a", "1"], ["b"], "cd", 5, None]) == [["a", "1"]]
    assert show.as_pairs({"a": "1"}) == [["a", "1"]]
    assert show.as_pairs(None) == []


def test_long_text_is_cut_and_says_so():
    shown = show.text_block("x" * 70_000)

    assert "The first 65,536 of 70,000 characters." in shown
    assert len(shown) < 66_500


@pytest.mark.parametrize("value", [10**30, {"a": 10**30}, {1: 2}, "text", [None], float("inf")])
def test_json_that_one_encoder_refuses_is_shown_all_the_same(value):
    assert show.pretty_json(value)


def test_json_nested_very_deeply_does_not_break_the_page():
    value: list = []
    for _ in range(100_000):
        value = [value]

    assert show.pretty_json(value) == "Nested too deeply to be shown here."


def test_bytes_are_shown_with_offset_and_printable_characters():
    assert "000000  00 41 42 ff" in show.hex_block(b"\x00AB\xff")
    assert ".AB." in show.hex_block(b"\x00AB\xff")


def test_what_is_to_come_shows_how_long_until_and_the_instant_in_its_zone():
    html = show.when_both(NOW + timedelta(hours=3), zone=ZoneInfo("Europe/Berlin"), now=NOW)

    local = (NOW + timedelta(hours=3)).astimezone(ZoneInfo("Europe/Berlin"))
    assert "in 3 h" in html
    assert f"{local:%Y-%m-%d %H:%M:%S %Z}" in html
    assert show.when_both(None) == show.EMPTY


@pytest.mark.parametrize(
    "html",
    [
        show.two_lines("<b>", "<i>"),
        show.titled("<b>", "<i>"),
        show.indented("<b>", 1),
        show.paragraph("<b>"),
    ],
)
def test_what_surrounds_values_escapes_them(html):
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;" in html
