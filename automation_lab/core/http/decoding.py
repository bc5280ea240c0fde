"""Undoing `Content-Encoding` with a bound on what comes out, whatever goes in."""

from __future__ import annotations

import zlib

_GZIP = 16 + zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS
# Compressed data is never much longer than what it holds; more is an attempt to keep the reader busy.
_SLACK_BYTES = 64 * 1024


class TooLarge(Exception):
    """More bytes than the limit, which it is raised with."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"longer than {limit:,} bytes")


class BadEncoding(Exception):
    """The body is not what its Content-Encoding says, or ends too early."""


class BoundedBody:
    """Collects a body chunk by chunk. An encoding that is not known leaves the bytes as they are."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding.strip().lower().removeprefix("x-")
        self._limit = limit
        self._taken = 0
        self._body = bytearray()
        self._decoder: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the wire. Raises TooLarge, BadEncoding."""
        self._taken += len(chunk)
        if self._taken > self._limit + _SLACK_BYTES:
            raise TooLarge(self._limit)
        if self._encoding in {"gzip", "deflate"}:
            self._decode(chunk)
        else:
            self._body += chunk
        if len(self._body) > self._limit:
            raise TooLarge(self._limit)

    def finish(self) -> bytes:
        """The whole body. Raises BadEncoding if it ended too early."""
        if self._decoder is not None and not self._decoder.eof:
            raise BadEncoding
        return bytes(self._body)

    def _decode(self, chunk: bytes) -> None:
        while chunk:
            if self._decoder is None:
                self._decoder = zlib.decompressobj(self._window(chunk))
            elif self._decoder.eof:
                # A gzip body may have several members; after a deflate stream only padding can follow.
                if self._encoding == "deflate" or not chunk.startswith(b"\x1f"):
                    return
                self._decoder = zlib.decompressobj(_GZIP)
            chunk = self._inflate(self._decoder, chunk)

    def _inflate(self, decoder: zlib._Decompress, chunk: bytes) -> bytes:
        """Decode up to one byte above the limit; returns what belongs to a next member."""
        try:
            self._body += decoder.decompress(chunk, self._limit - len(self._body) + 1)
        except zlib.error:
            raise BadEncoding from None
        if len(self._body) > self._limit:
            raise TooLarge(self._limit)
        return decoder.unused_data

    def _window(self, chunk: bytes) -> int:
        if self._encoding == "gzip":
            return _GZIP
        # "deflate" is zlib by the standard and a bare deflate stream from some servers.
        return zlib.MAX_WBITS if chunk[0] & 0x0F == 8 else _RAW_DEFLATE
