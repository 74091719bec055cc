# SPDX-License-Identifier: MIT
"""A peer's unanswered requests: bytes until their turn comes, then decoded requests.

Decoding many lines at once costs a fraction of decoding each. Decoding all of them at once would turn each
thirty bytes received into a hundred bytes of memory, for a peer that does not read its answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from operator import length_hint

from operatord_protocol.codec import Envelope, Line, decode_block

SLICE = 16 * 1024
"""Bytes that are decoded at once at most, or one line if it is longer."""
FIRST = 2 * 1024
"""Bytes that are decoded at once to begin with, and after a line that needs care: thousands of these in one
slice would take several milliseconds. With each slice that needs none the next may be twice as long."""
LEAST = 512
"""Bytes that are decoded at once of a peer whose visits leave some decoded: these take five times the memory
until its next visit, and a thousand peers may wait for theirs."""
SHORT = 256
"""Bytes of requests that are looked at at most before it is their turn: they are decoded only once."""
LONG = 4 * 1024
"""Bytes of requests that may wait while more are read. Pausing and resuming reading takes system calls, which
cost more than a short request."""
ASIDE = 64 * 1024
"""Most bytes of requests that are put aside while others pass, not counting the present slice."""
NOTHING: Iterator[Line] = iter(())


class Backlog:
    """The lines of one connection, in their order."""

    __slots__ = ("_aside_bytes", "_at_once", "_begin", "_block", "_decoded", "aside")

    def __init__(self) -> None:
        """Begin empty."""
        self._block = b""
        self._begin = 0
        self._decoded = NOTHING
        self._at_once = FIRST
        self._aside_bytes = 0
        self.aside: deque[bytes] = deque()
        """Lines that have been seen, and come before all others once there is room for them."""

    def __bool__(self) -> bool:
        return bool(self.aside) or self.has_unseen

    @property
    def has_unseen(self) -> bool:
        """Whether there are lines that were not looked at."""
        return bool(self._block) or length_hint(self._decoded) > 0

    @property
    def is_long(self) -> bool:
        """Whether so much waits undecoded that reading should pause."""
        return len(self._block) - self._begin > LONG

    @property
    def lets_pass(self) -> bool:
        """Whether there are such lines, and room to put more of them aside."""
        return self._aside_bytes < ASIDE and self.has_unseen

    def put_aside(self, line: bytes) -> None:
        """Keep a line that is in the way of others."""
        self.aside.append(line)
        self._aside_bytes += len(line)

    def take_back(self, line: bytes | None = None) -> bytes:
        """Return the first line that was put aside, or the one that is asked for."""
        if line is None:
            line = self.aside.popleft()
        else:
            self.aside.remove(line)
        self._aside_bytes -= len(line)
        return line

    def clear(self) -> None:
        """Forget everything: nobody is there to be answered."""
        self._block, self._begin, self._decoded = b"", 0, NOTHING
        self.aside.clear()
        self._aside_bytes = 0

    def add(self, block: bytes) -> None:
        """Add whole lines with their ends."""
        self._block = self._block[self._begin :] + block if self._block else block
        self._begin = 0

    def asks_only(self, methods: Container[str]) -> bool:
        """Tell whether all waiting bytes are short and ask only for these methods."""
        if self.aside or length_hint(self._decoded) or len(self._block) - self._begin > SHORT:
            return False
        lines = decode_block(self._slice())
        self._decoded = iter(lines)
        return all(isinstance(line, Envelope) and line.method in methods for line in lines)

    def leave(self) -> None:
        """End a visit: if it has left some that are decoded, fewer are decoded at once from now on."""
        if length_hint(self._decoded):
            self._at_once = max(LEAST, self._at_once // 2)

    def decoded(self) -> Iterator[Line]:
        """Return what comes next, to be taken from until there is no more of it; see `__bool__`.

        What is not taken is there again at the next call. Blank lines alone give nothing.
        """
        if not length_hint(self._decoded):
            self._decoded = self._decode() if self._block else NOTHING
        return self._decoded

    def _decode(self) -> Iterator[Line]:
        lines = decode_block(self._slice())
        needs_care = any(isinstance(line, bytes) for line in lines)
        self._at_once = FIRST if needs_care else min(SLICE, 2 * self._at_once)
        return iter(lines)

    def _slice(self) -> bytes:
        """Take the lines that are to be decoded next."""
        block, begin = self._block, self._begin
        end = len(block)
        if end - begin > self._at_once:
            end = (block.rfind(b"\n", begin, begin + self._at_once) + 1) or (
                block.find(b"\n", begin) + 1
            )
        self._begin = end
        if end == len(block):
            self._block, self._begin = b"", 0
        return block[begin:end]
