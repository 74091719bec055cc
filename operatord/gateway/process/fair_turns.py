# SPDX-License-Identifier: MIT
"""In which order requests are begun when more of them have come than can be answered at once.

HTTP lets a client send its next requests before it has an answer to the first. Hundreds of such clients would
all have a request begun in each round of the event loop, and whoever comes with a single one would wait for
all of theirs, several times over. So a round begins a few only: those of one address after those of another,
and of an address first those whose connections have had the fewest lately.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import OrderedDict

AT_ONCE = 4
"""Requests that are begun in one round of the event loop: some 2 ms."""
PAUSE = 0.1
"""Seconds without a request after which a connection counts as one that has had none."""
MOST_COUNTED = 32
"""Requests of one connection; beyond them all are alike, so that nobody is put off for ever."""

Waiting = tuple[int, int, asyncio.Future[None]]
"""How many its connection has had, its place among those, and what is set when its turn comes."""


class FairTurns:
    """Who is next."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        """Begin ``at_once`` in each round."""
        self._at_once = self._left = at_once
        self._lines: OrderedDict[str, list[Waiting]] = OrderedDict()
        """By address, the one that is next first; each is a heap."""
        self._numbers = itertools.count()
        self._round: asyncio.Handle | None = None

    async def take(self, address: str, had: int) -> None:
        """Return when a request of ``address`` is to be begun, whose connection ``had`` so many before."""
        self._have_a_round()
        if self._left and not self._lines:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        place = (min(had, MOST_COUNTED), next(self._numbers), turn)
        heapq.heappush(self._lines.setdefault(address, []), place)
        await turn

    def _have_a_round(self) -> None:
        if self._round is None:
            self._round = asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._round, self._left = None, self._at_once
        while self._left and self._lines:
            address, line = self._lines.popitem(last=False)
            *_, turn = heapq.heappop(line)
            if line:
                self._lines[address] = line
            if not turn.done():  # its client may have gone
                turn.set_result(None)
                self._left -= 1
        if self._left < self._at_once:
            self._have_a_round()
