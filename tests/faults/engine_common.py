# SPDX-License-Identifier: MIT
"""What the engine's fault tests share: which wait for `make faults`, and who looks at the clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable

import pytest
from daemon_lab import Wire

ALL = os.environ.get("FAULTS") == "all"
slowfault = pytest.mark.skipif(not ALL, reason="takes its time: FAULTS=all runs it")

PACE = 0.02
"""Seconds between pings: often enough to meet any stall, seldom enough to be no load."""


QUICK = 0.25
"""Seconds within which pings are answered on a machine that does nothing else …"""
BUSY = 5
"""… or so many times what they took just before, on one that does."""


class Pings:
    """The times that pings took, in seconds."""

    def __init__(self, undisturbed: float) -> None:
        """The longest of some took ``undisturbed`` seconds before anything was wrong."""
        self.times: list[float] = []
        self._bound = max(QUICK, BUSY * undisturbed)

    @property
    def p99(self) -> float:
        return sorted(self.times)[int(len(self.times) * 0.99)]

    @property
    def quick(self) -> bool:
        """Whether 99 of 100 were answered as soon as it can be asked for."""
        return self.p99 < self._bound


@contextlib.asynccontextmanager
async def pinged(wire: Wire) -> AsyncIterator[Pings]:
    """Ping all the time; ``wire`` is to be used for nothing else meanwhile."""
    over = asyncio.Event()

    async def ping() -> float:
        begun = time.monotonic()
        await wire.call("system.ping")
        took = time.monotonic() - begun
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), PACE)
        return took

    pings = Pings(max([await ping() for _ in range(20)]))

    async def go_on() -> None:
        while not over.is_set():
            pings.times.append(await ping())

    task = asyncio.create_task(go_on())
    try:
        yield pings
    finally:
        over.set()
        await task


async def eventually(condition: Callable[[], bool], seconds: float) -> None:
    """Return once ``condition`` holds: for what takes longer than `daemon_lab.until` waits."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.1)
