# SPDX-License-Identifier: MIT
"""Keeps in touch with the engine: connects, listens for hints, relists, and notices when it is lost.

An engine that refuses connections is lost at once. One that is silent may only be busy, so that takes two
steps: after a second without an answer to a ping nothing new is asked of it, and after three it is lost.
Nothing is concluded about its containers in either case. One that ends its stream of events, which engines
do to slow listeners, and answers, is not lost: it is listened to anew, and relisted for what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from operatord.engines import base

log = logging.getLogger(__name__)

PULSE = 1.0
"""Seconds between pings."""
SILENT = 1.0
"""Seconds without an answer after which nothing new is asked of the engine …"""
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
    """Hears whether the engine does not answer just now."""
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
        self.first_try = asyncio.Event()
        """Set once the engine has been asked for the first time, whatever it said."""

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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._missed.wait(), RELIST_INTERVAL)

    async def _feel_pulse(self) -> None:
        while True:
            await self._ping()
            await asyncio.sleep(PULSE)

    async def _ping(self) -> None:
        """Return once the engine has answered. Raises `base.EngineError` when it is lost."""
        ping = asyncio.ensure_future(self._engine.alive())
        try:
            if not (await asyncio.wait((ping,), timeout=SILENT))[0]:
                self._do.silent(True)
                if not (await asyncio.wait((ping,), timeout=LOST - SILENT))[0]:
                    raise base.EngineUnavailable(f"the engine has been silent for {LOST:g} s")
            ping.result()
            self._do.silent(False)
        finally:
            ping.cancel()
            await asyncio.gather(ping, return_exceptions=True)
