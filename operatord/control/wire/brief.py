# SPDX-License-Identifier: MIT
"""A queue of connections, shortest expected visit first.

A thousand connections that each ask for little are as many as the time of a thousand visits. None of them has
used more than its share, so shares do not order them. The usual length of a visit does: shortest job first
keeps the mean wait smallest, and a ping does not wait for a thousand lists. A connection's need is predicted
from its last visits, as an operating system predicts the bursts of a process.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")

BRIEF = 32e-6
"""Seconds of the briefest visits. Each further level is of those that take up to twice as long."""
LEVELS = 8
"""How many levels there are; the last one is of all that take longer than two milliseconds."""


class BriefFirst(Generic[Item]):
    """Queues by how long a visit is expected to take; first come, first served in each of them."""

    __slots__ = ("_length", "_levels", "_serial")

    def __init__(self) -> None:
        """Nobody waits."""
        self._levels: list[deque[tuple[int, Item]]] = [deque() for _ in range(LEVELS)]
        self._serial = count()
        self._length = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._length

    def add(self, item: Item, expected: float) -> None:
        """Enqueue ``item``, whose visit is expected to take so many seconds."""
        level = min(int(expected / BRIEF).bit_length(), LEVELS - 1)
        self._levels[level].append((next(self._serial), item))
        self._length += 1

    def briefest(self) -> Item:
        """Take out the oldest item of the briefest level. The queue must not be empty."""
        return self._take(next(level for level in self._levels if level))

    def oldest(self) -> Item:
        """Take out the oldest item of all. The queue must not be empty."""
        return self._take(min((level for level in self._levels if level), key=_came))

    def _take(self, level: deque[tuple[int, Item]]) -> Item:
        self._length -= 1
        return level.popleft()[1]


def _came(level: deque[tuple[int, Item]]) -> int:
    return level[0][0]
