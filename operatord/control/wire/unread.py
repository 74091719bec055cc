# SPDX-License-Identifier: MIT
"""Unread output of all peers together: when it is too much, the peer with the most unread bytes goes.

Each connection has a bound of its own, but a thousand peers that do not read would fill the memory with what
is below it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

RELIEF = 0.75
"""When peers had to go, go on down to this share of the bound, so that it is not exceeded again at once."""
AT_ONCE = 8 * 1024**2
"""Bytes that are let go of until the event loop has its turn, which takes one or two milliseconds. Fewer, and
those who do not read are sent more in each turn than that."""
LEAST = 512 * 1024
"""Bytes that each peer counts for at least, for the end of one that has few takes a while, too."""

TOLD_AFTER = 1.0
"""Seconds for which those who had to go are counted before the log has them, in one line."""


class Writer(Protocol):
    """The way out to one peer."""

    @property
    def unread(self) -> int:
        """Bytes that the peer has not read."""
        ...

    def abort(self) -> None:
        """Give up on the peer, and on what it has not read."""
        ...


class Unread:
    """Counts for all connections."""

    def __init__(self, most: Callable[[], int]) -> None:
        """Allow ``most`` bytes to wait for all peers together."""
        self._most = most
        self._sizes: dict[Writer, int] = {}
        self._total = 0
        self._relieving = False
        self._untold = 0
        """How many had to go, and are not in the log yet."""

    def note(self, writer: Writer, size: int) -> None:
        """Note that so many bytes wait for this peer."""
        self._total += size - self._sizes.pop(writer, 0)
        if size:
            self._sizes[writer] = size
            if self._total > self._most() and not self._relieving:
                self._relieve()

    def forget(self, writer: Writer) -> None:
        """The peer has gone."""
        self._total -= self._sizes.pop(writer, 0)

    def _relieve(self) -> None:
        """Look at what really waits, for peers read without a word; then let go of the worst readers."""
        sizes = {writer: writer.unread for writer in self._sizes}
        self._sizes = {writer: size for writer, size in sizes.items() if size}
        self._total = sum(sizes.values())
        worst = sorted(self._sizes, key=self._sizes.__getitem__)
        self._let_go(worst, 0)

    def _let_go(self, worst: list[Writer], gone: int) -> None:
        """End some, from the end of ``worst``, and the others soon; ``gone`` have gone already."""
        enough, budget = RELIEF * self._most(), AT_ONCE
        while worst and self._total > enough and budget > 0:
            writer = worst.pop()
            if size := self._sizes.get(writer):
                self.forget(writer)
                writer.abort()
                budget -= max(size, LEAST)
                gone += 1
        more = bool(worst) and self._total > enough
        self._relieving = more or self._total > self._most()
        if more:
            asyncio.get_running_loop().call_soon(self._let_go, worst, gone)
            return
        if gone and not self._untold:
            asyncio.get_running_loop().call_later(TOLD_AFTER, self._tell)
        self._untold += gone
        # Others have come meanwhile, and may have nothing more to be noted with.
        if self._relieving:
            asyncio.get_running_loop().call_soon(self._relieve)

    def _tell(self) -> None:
        gone, self._untold = self._untold, 0
        log.warning("%d connections are ended: they do not read what they are sent", gone)
