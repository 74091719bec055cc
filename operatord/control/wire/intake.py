# SPDX-License-Identifier: MIT
"""How much is read of all peers in one round of the event loop.

A round reads from all peers that have sent something. Reading everything from each takes a third of a second
when a thousand of them send long lines, and a short request among these waits for all of it. So after a few
peers, the others are read only as far as a short request goes. A peer that has sent more is deferred until
its turn to be read in full.

Once read in full, a peer is read until the line that it is in has ended. And while many wait for answers,
one is read in full at a time, and only one in the middle of a line; the others are read briefly in their
turn. Otherwise hundreds of long lines, or as much in short ones, would be in memory at once, half read or
unanswered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

READ = 32 * 1024
"""Bytes that are taken from a peer at a time: a thousand peers that send all they can fill no memory."""
AT_ONCE = 8
"""Peers that are read in full in one round before the others are read briefly. Where lines are so long that
they are read on in the next round, there may be twice as many."""
BRIEF = 4 * 1024
"""Bytes that are taken from each of these: few requests are longer."""


class IntakeReader(Protocol):
    """One connection, as the intake sees it."""

    def put_off(self) -> None:
        """Read nothing more for now."""
        ...

    def read_again(self) -> None:
        """Read on."""
        ...


class Intake:
    """One for the whole server."""

    __slots__ = (
        "_buffer",
        "_called",
        "_calling",
        "_crowded",
        "_going_on",
        "_left",
        "_put_off",
        "_scheduled",
    )

    def __init__(self, crowded: Callable[[], bool] = lambda: False) -> None:
        """Nothing has been read in this round. While it is ``crowded``, read one peer at a time in full."""
        self._crowded = crowded
        self._buffer = memoryview(bytearray(READ))
        self._left = AT_ONCE * READ
        self._put_off: deque[tuple[IntakeReader, bool]] = deque()
        """Peers that wait for their turn, and whether a line has ended in what came of them last."""
        self._calling: set[IntakeReader] = set()
        """Peers that resume reading in this round; their bytes come in the next one."""
        self._called: set[IntakeReader] = set()
        """Those who may be read in full in this round, whoever comes before them."""
        self._going_on = 0
        """How many of those for the next round are in the middle of a line."""
        self._scheduled = False

    def room(self, reader: IntakeReader) -> memoryview:
        """Return where the next bytes of this peer go to. They are to be taken out at once."""
        if self._left > 0 or reader in self._called:
            return self._buffer
        return self._buffer[:BRIEF]

    def take(self, reader: IntakeReader, size: int) -> bytes:
        """Return the bytes that have been put there, and put the peer off if it may have sent more."""
        data = bytes(self._buffer[:size])
        in_full = reader in self._called or self._left > 0
        if reader not in self._called:
            self._left -= size
        if size == READ and b"\n" not in data:  # a line has a limit, so this ends
            self._calling.add(reader)
            self._going_on += 1
        elif not in_full and size >= BRIEF:
            self._put_off.append((reader, b"\n" in data))
            reader.put_off()
        self._go_on()
        return data

    def _go_on(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next_round)

    def _next_round(self) -> None:
        """Begin a round, before anything is read in it, and call some of those who were put off."""
        self._scheduled = False
        self._called, self._calling = self._calling, set()
        going_on, self._going_on = self._going_on, 0
        crowded = self._crowded()
        most = 1 if crowded else AT_ONCE
        self._left = 0 if crowded else READ * (most - len(self._called))
        self._call(READ * (most - going_on), crowded)
        if self._called or self._calling or self._put_off:
            self._go_on()

    def _call(self, budget: int, crowded: bool) -> None:
        """Have peers that were put off send so many bytes, those with whole lines only briefly in a crowd."""
        while budget > 0 and self._put_off:
            reader, has_lines = self._put_off.popleft()
            if crowded and has_lines:
                budget -= BRIEF
            else:
                self._calling.add(reader)
                budget -= READ
            reader.read_again()
