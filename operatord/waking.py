# SPDX-License-Identifier: MIT
"""Wakes waiting tasks a few at a time, since there may be tens of thousands of them."""

from __future__ import annotations

import asyncio
from collections import deque

AT_ONCE = 32
"""Tasks that are woken before the event loop gets its turn; each runs for some fifty microseconds."""


class Waiters:
    """Those who wait for the next change of something."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: dict[asyncio.Future[None], None] = {}

    async def wait(self) -> None:
        """Return after the next `wake`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)

    def wake(self) -> None:
        """Wake all who wait now, soon."""
        waiting, self._waiting = self._waiting, {}
        _wake(list(waiting), 0)


class Turnstile:
    """Lets one task go on in each round of the event loop, in the order in which they came."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turns = False

    async def through(self) -> None:
        """Return when it is the caller's turn."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        if not self._turns:
            self._turns = True
            loop.call_soon(self._turn)
        await waiter

    def _turn(self) -> None:
        """Wake the next one who has not been cancelled."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break
        self._turns = bool(self._waiting)
        if self._turns:
            asyncio.get_running_loop().call_soon(self._turn)


def _wake(waiting: list[asyncio.Future[None]], begin: int) -> None:
    end = begin + AT_ONCE
    for waiter in waiting[begin:end]:
        if not waiter.done():
            waiter.set_result(None)
    if end < len(waiting):
        asyncio.get_running_loop().call_soon(_wake, waiting, end)
