# SPDX-License-Identifier: MIT
"""Bytes into lines, with a limit, and no I/O.

A line ends with ``\\n``; one ``\\r`` before it is dropped; blank lines are skipped. A line over the limit is
an error after which the splitter is closed for good: what follows an oversized line could be its tail,
and a tail must never be read as a command.
"""

from __future__ import annotations

LINE_BYTES = 64 * 1024
"""Default longest line in bytes, its end not counted …"""
LEAST_LINE_BYTES = 1024
MOST_LINE_BYTES = 16 * 1024**2
"""… and the bounds of what it can be set to."""


class LineTooLong(Exception):
    """A line is longer than the limit. What was completed before it is in ``block``."""

    def __init__(self, limit: int, block: bytes) -> None:
        self.limit = limit
        self.block = block
        super().__init__(f"a line is at most {limit} bytes")

    @property
    def lines(self) -> list[bytes]:
        """The lines of ``block``."""
        return split_lines(self.block)


class LineSplitter:
    """Collect chunks, give out whole lines. Any chunking of the same bytes gives the same lines."""

    __slots__ = ("_closed", "_limit", "_rest")

    def __init__(self, limit: int = LINE_BYTES) -> None:
        """Accept lines of up to ``limit`` bytes."""
        self._limit = limit
        self._rest = b""
        self._closed = False

    @property
    def pending(self) -> bytes:
        """Bytes of a line that has begun and not ended."""
        return self._rest

    def allow(self, limit: int) -> None:
        """Accept longer lines from now on."""
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their ends.

        Raises `LineTooLong` once; everything fed after that is ignored.
        """
        return split_lines(self.take(data))

    def take(self, data: bytes) -> bytes:
        """Return the lines that ``data`` completes in one piece, with their ends, for `split_lines`.

        Raises `LineTooLong` once; everything fed after that is ignored.
        """
        if self._closed:
            return b""
        chunk = self._rest + data if self._rest else data
        if len(chunk) > self._limit:
            self._check(chunk)
        end = chunk.rfind(b"\n") + 1
        self._rest = chunk[end:]
        return chunk[:end]

    def _check(self, chunk: bytes) -> None:
        """Close at the first line over the limit. A ``\\r`` that may yet be an end is not counted.

        Most lines are far shorter, so it is not each of them that is looked at: from where a line begins, all
        that end within the limit are passed over at once.
        """
        begin = 0
        while len(chunk) - begin > self._limit:
            end = chunk.rfind(b"\n", begin, begin + self._limit + 1)
            if end < 0 and chunk[begin + self._limit : begin + self._limit + 2] in (b"\r", b"\r\n"):
                end = begin + self._limit + 1
            if end < 0:
                self._closed, self._rest = True, b""
                raise LineTooLong(self._limit, chunk[:begin])
            begin = end + 1


def split_lines(block: bytes) -> list[bytes]:
    """Return the lines of ``block`` without their ends; blank ones are left out."""
    return [raw.removesuffix(b"\r") for raw in block.split(b"\n") if raw.strip()]
