# SPDX-License-Identifier: MIT
"""What the engine's fault tests share: which wait for `make faults`, and who looks at the clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from daemon_lab import Wire

ALL = os.environ.get("FAULTS") == "all"
slowfault = pytest.mark.skipif(not ALL, reason="takes its time: FAULTS=all runs it")

PACE = 0.02
"""Seconds between pings: often enough to meet any stall, seldom enough to be no load."""


QUICK = 0.25
"""Seconds within which pings are answered on a machine that does nothing else …"""
BUSY = 5
"""… or so many times what a program takes meanwhile that does nothing but answer, on one that does."""


class Pings:
    """The times that pings took, in seconds, and those of a program that only repeats what it is told."""

    def __init__(self) -> None:
        """Nobody was asked yet."""
        self.times: list[float] = []
        self.others: list[float] = []

    @property
    def quick(self) -> bool:
        """Whether 99 of 100 were answered as soon as it can be asked for."""
        return _p99(self.times) < max(QUICK, BUSY * _p99(self.others))


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


@contextlib.asynccontextmanager
async def pinged(wire: Wire) -> AsyncIterator[Pings]:
    """Ping all the time; ``wire`` is to be used for nothing else meanwhile."""
    over, pings = asyncio.Event(), Pings()
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)

    async def repeat() -> None:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"ping\n")
        await other.stdout.readline()

    async def go_on() -> None:
        while not over.is_set():
            pings.times.append(await _timed(wire.call("system.ping")))
            pings.others.append(await _timed(repeat()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), PACE)

    task = asyncio.create_task(go_on())
    try:
        yield pings
    finally:
        over.set()
        await task
        await other.communicate(b"")  # the end of its input is its own


async def _timed(what: Awaitable[object]) -> float:
    begun = time.monotonic()
    await what
    return time.monotonic() - begun


async def eventually(condition: Callable[[], bool], seconds: float) -> None:
    """Return once ``condition`` holds: for what takes longer than `daemon_lab.until` waits."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.1)
