# SPDX-License-Identifier: MIT
"""Keeps in touch with the engine: connects, listens for hints, relists, and notices when it is lost.

An engine that refuses connections is lost at once. One that is silent takes two steps: when a ping is not
answered for most of a second it is slow, and requests that cannot wait are refused; only after
`engine_patience` of silence is it lost. A ping is sent whenever somebody asks for something, and several a
second while it is being done, so that a silence is noticed within a second. Silence says nothing about its
containers, nor about calls that it may still be carrying out. A ping that could not be sent for lack of a
file descriptor is neither an answer nor a silence.

Only time in which this process itself could have heard an answer counts as the engine's silence.

An engine that ends its stream of events, which engines do to slow listeners, or fails to list, but still
answers, is not lost: the daemon subscribes again, and relists for what it missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from operatord.engines import base

log = logging.getLogger(__name__)

PULSE = 2.0
"""Seconds between pings …"""
QUICK_PULSE = 0.15
"""… while the engine makes or removes something for somebody …"""
SOONEST = 0.05
"""… and after it was asked for something. By then a slot has been claimed, so the ping delays no claim."""
SILENT = 0.7
"""Seconds without an answer after which the engine is slow. Docker 20.10 was seen to take 0.1 s at most, in a
burst of 30 starts on two cores that did nothing else."""
STEP = 0.05
"""Seconds of waiting that are counted at a time. If a step takes much longer, the engine is not the cause."""
RELIST_INTERVAL = 5.0
"""Seconds between comparisons with all that the engine has."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


class Reactions(Protocol):
    """What is done about what the watch notices."""

    async def up(self, info: base.EngineInfo) -> None:
        """Act on a connect, before hints and relists begin. Raises `base.EngineError`."""
        ...

    def lost(self, exc: base.EngineError) -> None:
        """Act on the loss of the engine."""
        ...

    def silent(self, seconds: float) -> None:
        """Act on a silence of so many seconds."""
        ...

    def answered(self) -> None:
        """Act on an answer to a ping."""
        ...

    def busy(self) -> bool:
        """Tell whether the engine does or answers something that somebody waits for."""
        ...

    def hint(self, event: base.EngineEvent) -> None:
        """Act on what it says has happened."""
        ...

    def relist(self) -> Awaitable[None]:
        """Compare with all that it has. Raises `base.EngineError`."""
        ...

    def gap(self) -> None:
        """Act on hints that may have been missed, right before a relist."""
        ...

    def broke(self, exc: Exception) -> None:
        """Note an error that no engine is to raise."""
        ...


class EngineWatch:
    """One task that lives as long as the daemon."""

    def __init__(
        self, engine: base.Engine, reactions: Reactions, patience: Callable[[], float]
    ) -> None:
        """Watch ``engine`` once `run` runs; it is lost after ``patience`` seconds of silence."""
        self._engine = engine
        self._do = reactions
        self._patience = patience
        self._missed = asyncio.Event()
        """Events may have been missed: a relist is due now."""
        self._asked = asyncio.Event()
        self._is_short = False
        """This process lacks file descriptors to ask the engine, and has logged that."""
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
            except Exception as exc:  # an engine that raises an unexpected error counts as lost
                self._do.lost(self._trouble(exc))
            self.first_try.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _trouble(self, exc: Exception) -> base.EngineError:
        """Return the engine's error in ``exc``; what else there is in it is passed on."""
        found = list(_leaves(exc))
        for each in found:
            if not isinstance(each, base.EngineError):
                self._do.broke(each)
        known = (each for each in found if isinstance(each, base.EngineError))
        return next(
            known, base.EngineUnavailable("the connection to the engine broke in an unexpected way")
        )

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
            if await self._answer():
                log.warning("the engine ended its stream of events; it is asked for another")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            self._do.gap()
            self._missed.set()

    async def _relist_forever(self) -> None:
        while True:
            self._missed.clear()
            try:
                await self._do.relist()
            except base.EngineError as exc:
                await self._answer()
                log.warning("the engine's objects are not compared now: %s", base.in_full(exc))
            await _set(self._missed, RELIST_INTERVAL)

    async def _feel_pulse(self) -> None:
        while True:
            self._asked.clear()
            await self._ping()
            await _set(self._asked, (QUICK_PULSE if self._do.busy() else PULSE) - SOONEST)
            await asyncio.sleep(SOONEST)

    async def _ping(self) -> None:
        """Return once the engine has answered. Raises `base.EngineError` when it is lost."""
        ping = asyncio.ensure_future(self._answer())
        try:
            if not await _done(ping, SILENT):
                self._do.silent(SILENT)
                patience = self._patience()
                if not await _done(ping, patience - SILENT):
                    raise base.EngineUnavailable(f"the engine has been silent for {patience:g} s")
            if ping.result():
                self._do.answered()
        finally:
            ping.cancel()
            await asyncio.gather(ping, return_exceptions=True)

    async def _answer(self) -> bool:
        """Return whether the engine has answered, once it has or could not be asked.

        Raises `base.EngineError` when nothing is there to answer.
        """
        while True:
            try:
                await self._engine.alive()
            except base.NoDescriptors as exc:
                if not self._is_short:
                    log.error("the engine cannot be asked whether it is there: %s", exc)
                self._is_short = True
                return False
            except base.EngineSilent:
                await asyncio.sleep(FIRST_PAUSE)
            else:
                self._is_short = False
                return True


def _leaves(exc: Exception) -> Iterator[Exception]:
    """Yield the errors that a group is made of, or the one that is none."""
    if isinstance(exc, ExceptionGroup):
        for each in exc.exceptions:
            yield from _leaves(each)
    else:
        yield exc


async def _set(event: asyncio.Event, seconds: float) -> None:
    """Return when ``event`` is set, or so many seconds have passed."""
    # Not `asyncio.wait_for`: before Python 3.12 it drops a cancellation that comes with the result.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _done(future: asyncio.Future[bool], seconds: float) -> bool:
    """Tell whether it is done within so many seconds, not counting time in which this process was held up."""
    now, left = asyncio.get_running_loop().time, seconds
    while left > 0:
        begun = now()
        if (await asyncio.wait((future,), timeout=STEP))[0]:
            return True
        # A process held up by busy cores or a SIGSTOP may have had no chance to receive the answer. Such a
        # step still counts for a part, so that load cannot postpone the verdict for ever.
        left -= STEP if now() - begun < 2 * STEP else STEP / 2
    return False
