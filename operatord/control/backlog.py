# SPDX-License-Identifier: MIT
"""What a peer has asked for and was not answered yet: bytes, until their turn comes, then requests.

Decoding many lines at once costs a fraction of decoding each. Decoding all of them at once would make a
hundred bytes of a request out of each thirty that came, for whoever does not read its answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint

from operatord_protocol.codec import Line, decode_block

SLICE = 16 * 1024
"""Bytes that are decoded at once, or one line if it is longer."""
NOTHING: Iterator[Line] = iter(())


class Backlog:
    """The lines of one connection, in their order."""

    __slots__ = ("_begin", "_block", "_decoded")

    def __init__(self) -> None:
        """Begin empty."""
        self._block = b""
        self._begin = 0
        self._decoded = NOTHING

    def __bool__(self) -> bool:
        return bool(self._block) or length_hint(self._decoded) > 0

    def add(self, block: bytes) -> None:
        """Add whole lines with their ends."""
        self._block = self._block[self._begin :] + block if self._block else block
        self._begin = 0

    def decoded(self) -> Iterator[Line]:
        """Return what comes next, to be taken from until there is no more of it; see `__bool__`.

        What is not taken is there again at the next call. Blank lines alone give nothing.
        """
        if not length_hint(self._decoded):
            self._decoded = iter(decode_block(self._slice())) if self._block else NOTHING
        return self._decoded

    def _slice(self) -> bytes:
        """Take the lines that are to be decoded next."""
        block, begin = self._block, self._begin
        end = len(block)
        if end - begin > SLICE:
            end = (block.rfind(b"\n", begin, begin + SLICE) + 1) or (block.find(b"\n", begin) + 1)
        self._begin = end
        if end == len(block):
            self._block, self._begin = b"", 0
        return block[begin:end]
