# SPDX-License-Identifier: MIT
"""Waking those who wait for one thing: a few at a time, for there may be tens of thousands of them."""

from __future__ import annotations

import asyncio

AT_ONCE = 32
"""Tasks that are woken until the event loop has its turn: each goes on for some fifty microseconds."""


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
        """Let all go on who wait now, soon."""
        waiting, self._waiting = self._waiting, {}
        _wake(list(waiting), 0)


def _wake(waiting: list[asyncio.Future[None]], begin: int) -> None:
    end = begin + AT_ONCE
    for waiter in waiting[begin:end]:
        if not waiter.done():
            waiter.set_result(None)
    if end < len(waiting):
        asyncio.get_running_loop().call_soon(_wake, waiting, end)
