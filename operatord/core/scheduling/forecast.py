# SPDX-License-Identifier: MIT
"""Where each request stands in the queue, and when it may be expected to start.

An estimate, not a promise: it goes through the queue in order and through the expected ends of running
sessions, as if nobody else came, nobody passed another, and nothing else used the machine. A session that
should have ended already is left out.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import NamedTuple

from operatord.core.resources import Vector, fits, minus, plus

from .ledger import State
from .waiting import Waiting

HORIZON = 64
"""How many get an estimate; further back it would be a guess."""


class Standing(NamedTuple):
    """A place in the queue."""

    position: int
    """1 is next."""
    start: float | None
    """Moment at which it is expected to be started, on the caller's clock; None if nobody can tell."""


def standings(state: State, now: float) -> dict[str, Standing]:
    """Return the standing of each request that waits to be started, in the order of the queue."""
    found: dict[str, Standing] = {}
    future = None if state.pressure or state.draining else _Future(state, now)
    for waiting in state.queue.in_order(now):
        start = future.start(waiting) if future else None
        if start is None:
            future = None
        if not waiting.attaching:
            found[waiting.session_id] = Standing(len(found) + 1, start)
        if len(found) >= HORIZON:
            future = None
    return found


class _Future:
    """What is expected to be free, as time goes on."""

    def __init__(self, state: State, now: float) -> None:
        self._now = now
        self._queue, self._per_owner = state.queue, state.settings.per_owner
        self._served: Counter[str] = Counter()
        self._free = state.room.free
        self._ends: list[tuple[float, Vector]] = [
            (end, holding.need) for end, _, holding in state.room.coming(now) if end >= now
        ]

    def start(self, waiting: Waiting) -> float | None:
        """Return when there is room for ``waiting``, and take it; None if that cannot be foreseen."""
        if self._is_over_cap(waiting):
            return None
        need, seconds = waiting.key.shape.need, waiting.seconds
        while not fits(need, self._free):
            if not self._ends:
                return None
            end, given_back = heapq.heappop(self._ends)
            self._now, self._free = max(self._now, end), plus(self._free, given_back)
        self._free = minus(self._free, need)
        if seconds is not None:
            heapq.heappush(self._ends, (self._now + seconds, need))
        return self._now

    def _is_over_cap(self, waiting: Waiting) -> bool:
        if self._per_owner is None or waiting.attaching:
            return False
        self._served[waiting.owner] += 1
        living = self._queue.owner(waiting.owner).count
        return living + self._served[waiting.owner] > self._per_owner
