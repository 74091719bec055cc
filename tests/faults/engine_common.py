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


class Pings:
    """The times that pings took, in seconds."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @property
    def p99(self) -> float:
        return sorted(self.times)[int(len(self.times) * 0.99)]


@contextlib.asynccontextmanager
async def pinged(wire: Wire) -> AsyncIterator[Pings]:
    """Ping all the time; ``wire`` is to be used for nothing else meanwhile."""
    pings, over = Pings(), asyncio.Event()

    async def ping() -> None:
        while not over.is_set():
            begun = time.monotonic()
            await wire.call("system.ping")
            pings.times.append(time.monotonic() - begun)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), PACE)

    task = asyncio.create_task(ping())
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
