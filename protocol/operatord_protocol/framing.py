# SPDX-License-Identifier: MIT
"""Bytes into lines, with a limit, and no I/O.

A line ends with ``\\n``; one ``\\r`` before it is dropped; blank lines are skipped. A line over the limit is
an error after which the splitter is closed for good: what follows an oversized line could be its tail,
and a tail must never be read as a command.
"""

from __future__ import annotations

LINE_BYTES = 64 * 1024
"""Default longest line in bytes, its end not counted."""


class LineTooLong(Exception):
    """A line is longer than the limit. Lines completed before it are in ``lines``."""

    def __init__(self, limit: int, lines: list[bytes]) -> None:
        self.limit = limit
        self.lines = lines
        super().__init__(f"a line is at most {limit} bytes")


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

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their ends.

        Raises `LineTooLong` once; everything fed after that is ignored.
        """
        if self._closed:
            return []
        chunk = self._rest + data if self._rest else data
        lines = chunk.split(b"\n")
        self._rest = lines.pop()
        if len(chunk) > self._limit:
            self._check(lines)
        return _without_ends(lines)

    def _check(self, lines: list[bytes]) -> None:
        """Close at the first line over the limit. A ``\\r`` that may yet be an end is not counted."""
        for index, raw in enumerate([*lines, self._rest]):
            if len(raw.removesuffix(b"\r")) > self._limit:
                self._closed, self._rest = True, b""
                raise LineTooLong(self._limit, _without_ends(lines[:index]))


def _without_ends(lines: list[bytes]) -> list[bytes]:
    return [raw.removesuffix(b"\r") for raw in lines if raw.strip()]
