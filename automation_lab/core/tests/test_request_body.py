"""Bodies of known and unknown length, as a WSGI server hands them over."""

from __future__ import annotations

import io

import pytest
from django.core.handlers.wsgi import WSGIRequest

from automation_lab.core.exceptions import Invalid
from automation_lab.core.request_body import LengthRequired, TooLarge, has_body, read_body


def make_request(
    body: bytes, *, length: str | None = None, chunked: bool = False, terminated: bool = True
) -> WSGIRequest:
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "wsgi.input": io.BytesIO(body)}
    if length is not None:
        environ["CONTENT_LENGTH"] = length
    if chunked:
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        environ["wsgi.input_terminated"] = terminated
    return WSGIRequest(environ)


def test_a_body_of_known_length_is_read_and_stays_readable():
    request = make_request(b"\x00\xffhello", length="7")

    assert read_body(request, 10) == b"\x00\xffhello"
    assert request.body == b"\x00\xffhello"
    assert read_body(request, 10) == b"\x00\xffhello"


def test_a_chunked_body_is_read_to_its_end():
    body = b"x" * 200_000
    request = make_request(body, chunked=True)

    assert read_body(request, 300_000) == body
    assert request.body == body


def test_no_length_means_no_body():
    assert read_body(make_request(b"left over"), 10) == b""
    assert read_body(make_request(b"", length=""), 10) == b""


def test_a_body_at_the_limit_is_taken_and_one_byte_more_is_not():
    assert len(read_body(make_request(b"x" * 10, length="10"), 10)) == 10
    assert len(read_body(make_request(b"x" * 10, chunked=True), 10)) == 10
    with pytest.raises(TooLarge):
        read_body(make_request(b"x" * 11, length="11"), 10)
    with pytest.raises(TooLarge):
        read_body(make_request(b"x" * 11, chunked=True), 10)


def test_a_too_large_announcement_is_refused_unread():
    request = make_request(b"x" * 11, length="11")

    with pytest.raises(TooLarge):
        read_body(request, 10)

    assert request.META["wsgi.input"].tell() == 0


def test_an_understated_length_reads_no_more_than_it_says():
    assert read_body(make_request(b"0123456789", length="4"), 100) == b"0123"


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "+5", "٣", "9" * 30])
def test_a_length_that_is_no_number_is_refused(length):
    with pytest.raises(Invalid):
        read_body(make_request(b"x", length=length), 10)


def test_a_body_that_ends_early_is_refused():
    with pytest.raises(Invalid, match="ended after 3 of 10"):
        read_body(make_request(b"abc", length="10"), 10)


def test_two_contradicting_lengths_are_refused():
    with pytest.raises(Invalid, match="contradict"):
        read_body(make_request(b"abc", length="3", chunked=True), 10)


def test_a_chunked_body_without_a_marked_end_asks_for_a_length():
    with pytest.raises(LengthRequired):
        read_body(make_request(b"abc", chunked=True, terminated=False), 10)


def test_a_broken_connection_is_refused():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError("connection reset")

    request = make_request(b"", chunked=True)
    request.META["wsgi.input"] = Broken()

    with pytest.raises(Invalid, match="could not be read"):
        read_body(request, 10)


def test_has_body_knows_both_kinds():
    assert has_body(make_request(b"x", length="1"))
    assert has_body(make_request(b"", chunked=True))
    assert not has_body(make_request(b"", length="0"))
    assert not has_body(make_request(b""))
