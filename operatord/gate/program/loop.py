# SPDX-License-Identifier: MIT
"""What happens next in the gate: descriptors that are ready, work that is left, moments that have come."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable

READS, WRITES, EDGES = select.EPOLLIN | select.EPOLLRDHUP, select.EPOLLOUT, select.EPOLLET
Hear = Callable[[int], None]
"""Told the events of a descriptor."""


class Loop:
    """One thread does everything, a little of each in turn."""

    def __init__(self, broke: Callable[[Exception], None]) -> None:
        """Nothing is watched yet; ``broke`` hears what must not have happened, and ends nothing else."""
        self._broke = broke
        self._called: deque[Callable[[], None]] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._watched: dict[int, Hear] = {}
        self._busy: dict[Callable[[], None], None] = {}
        self._moments: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self.ended = False
        """Set by whoever ends it."""
        self.watch(self._bell, READS, self._answer)

    def watch(self, descriptor: int, events: int, hear: Hear) -> None:
        """Tell ``hear`` of ``events`` at a descriptor, until `forget`."""
        self._watched[descriptor] = hear
        self._epoll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Tell nobody of a descriptor any more, before it is closed. Idempotent."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def change(self, descriptor: int, events: int) -> None:
        """Tell of other events at a descriptor that is watched."""
        self._epoll.modify(descriptor, events)

    def call(self, work: Callable[[], None]) -> None:
        """Do ``work`` soon; any thread may say so."""
        self._called.append(work)
        os.eventfd_write(self._bell, 1)

    def _answer(self, events: int) -> None:
        os.eventfd_read(self._bell)
        while self._called:
            self._do(self._called.popleft())

    def again(self, work: Callable[[], None]) -> None:
        """Do ``work`` after whatever else is due now."""
        self._busy[work] = None

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do ``work``, which sees for itself whether it is still wanted, so many seconds from now."""
        heapq.heappush(self._moments, (time.monotonic() + seconds, next(self._serial), work))

    def run(self) -> None:
        """Return once `ended` is set."""
        while not self.ended:
            for descriptor, events in self._epoll.poll(self._patience()):
                if (hear := self._watched.get(descriptor)) is not None:
                    self._do(hear, events)
            busy, self._busy = self._busy, {}
            for work in busy:
                self._do(work)
            while self._moments and self._moments[0][0] <= time.monotonic():
                self._do(heapq.heappop(self._moments)[2])

    def _do(self, work: Callable[..., None], *arguments: int) -> None:
        try:
            work(*arguments)
        except Exception as exc:  # a defect: those who have nothing to do with it go on
            self._broke(exc)

    def _patience(self) -> float:
        if self._busy:
            return 0.0
        return max(0.0, self._moments[0][0] - time.monotonic()) if self._moments else -1.0
