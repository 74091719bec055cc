# SPDX-License-Identifier: MIT
"""Keeps in touch with the engine: connects, listens for hints, relists, and notices when it is lost.

An engine that refuses connections is lost at once. One that is silent takes two steps: when a ping is not
answered for most of a second, whoever waits for it is told and nothing new is asked of it, and after three
seconds it is lost. A ping is sent whenever somebody asks for something, and several a second while it is
being done, so that all of them are told within a second. Nothing is concluded about its containers.

One that ends its stream of events, which engines do to slow listeners, and answers, is not lost: it is
listened to anew, and relisted for what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from operatord.engines import base

log = logging.getLogger(__name__)

PULSE = 2.0
"""Seconds between pings …"""
QUICK_PULSE = 0.15
"""… while the engine makes or removes something for somebody …"""
SOONEST = 0.05
"""… and after it was asked for something. A slot has been claimed by then, and the ping delays none."""
SILENT = 0.7
"""Seconds without an answer after which nobody waits for the engine any more. Docker 20.10 was seen to take
0.1 s at most, in a burst of 30 starts on two cores, …"""
LAG = 0.1
"""… of which so many are left for an answer that came while this process was held up …"""
LOST = 3.0
"""… and after which it counts as lost."""
RELIST_INTERVAL = 5.0
"""Seconds between comparisons with all that the engine has."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


class Reactions(NamedTuple):
    """What is done about what the watch notices."""

    up: Callable[[base.EngineInfo], Awaitable[None]]
    """Awaited after every connect, before hints and relists begin."""
    lost: Callable[[str], None]
    silent: Callable[[bool], None]
    """Hears that the engine does not answer, or that it has."""
    busy: Callable[[], bool]
    """Tells whether the engine makes or removes something for somebody."""
    hint: Callable[[base.EngineEvent], None]
    relist: Callable[[], Awaitable[None]]
    gap: Callable[[], None]
    """Hears that hints may have been missed, right before a relist."""


class EngineWatch:
    """One task that lives as long as the daemon."""

    def __init__(self, engine: base.Engine, reactions: Reactions) -> None:
        """Watch ``engine`` once `run` runs."""
        self._engine = engine
        self._do = reactions
        self._missed = asyncio.Event()
        """Events may have been missed: a relist is due now."""
        self._asked = asyncio.Event()
        self.first_try = asyncio.Event()
        """Set once the engine has been asked for the first time, whatever it said."""

    def asked(self) -> None:
        """Ping now: the engine has been asked for something new."""
        self._asked.set()

    async def run(self) -> None:
        """Connect, watch, and begin again when the engine is lost; until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._do.up(await self._engine.connect())
                self.first_try.set()
                pause = FIRST_PAUSE
                await self._watch()
            except* base.EngineError as group:
                self._do.lost(str(group.exceptions[0]))
            self.first_try.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._relist_forever())
            tasks.create_task(self._feel_pulse())

    async def _listen(self) -> None:
        """Pass hints on. Raises `base.EngineError` when the stream has ended with the engine."""
        pause = FIRST_PAUSE
        while True:
            with contextlib.suppress(base.EngineUnavailable):
                async for event in self._engine.events():
                    self._do.hint(event)
                    pause = FIRST_PAUSE
            await self._engine.alive()
            log.warning("the engine ended its stream of events; it is asked for another")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            self._do.gap()
            self._missed.set()

    async def _relist_forever(self) -> None:
        while True:
            self._missed.clear()
            await self._do.relist()
            await _set(self._missed, RELIST_INTERVAL)

    async def _feel_pulse(self) -> None:
        while True:
            self._asked.clear()
            await self._ping()
            await _set(self._asked, (QUICK_PULSE if self._do.busy() else PULSE) - SOONEST)
            await asyncio.sleep(SOONEST)

    async def _ping(self) -> None:
        """Return once the engine has answered. Raises `base.EngineError` when it is lost."""
        ping = asyncio.ensure_future(self._engine.alive())
        try:
            if not (await _done(ping, SILENT - LAG) or await _done(ping, LAG)):
                self._do.silent(True)
                if not await _done(ping, LOST - SILENT):
                    raise base.EngineUnavailable(f"the engine has been silent for {LOST:g} s")
            ping.result()
            self._do.silent(False)
        finally:
            ping.cancel()
            await asyncio.gather(ping, return_exceptions=True)


async def _set(event: asyncio.Event, seconds: float) -> None:
    """Return when ``event`` is set, or so many seconds have passed."""
    # Not `asyncio.wait_for`: before Python 3.12 it drops a cancellation that comes with the result.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _done(future: asyncio.Future[None], seconds: float) -> bool:
    """Tell whether it is done within so many seconds."""
    return bool((await asyncio.wait((future,), timeout=seconds))[0])
