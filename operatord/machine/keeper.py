# SPDX-License-Identifier: MIT
"""Runs the daemon's permanent tasks: one that breaks is logged, started again after a pause, and shown. A
task that breaks is a defect of the daemon. It must not stop the other tasks, nor stay away unnoticed:
sessions would start and never end. So it is started again, and `system.status` shows that it broke, how
often, and since when.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from operatord_protocol.messages import Trouble

from .clock import Clock, rfc3339

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
"""Seconds until a broken task is started again, doubled each time in a row, …"""
LONGEST_PAUSE = 30.0
"""… up to so many, …"""
SOUND = 60.0
"""… and reset after it has run for so long."""


class Keeper:
    """Owner of the tasks that live as long as the daemon, and of what is known of broken ones."""

    def __init__(self, clock: Clock) -> None:
        """Nothing runs before `keep`."""
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self._troubles: dict[str, Trouble] = {}

    def keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``work``, which does not end by itself, again and again until `close`."""
        self._tasks.append(asyncio.create_task(self._run(name, work), name=name))

    async def _run(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause = FIRST_PAUSE
        while True:
            begun = self._clock.now()
            try:
                await work()
                self.note(name, RuntimeError("it ended by itself"))
            except Exception as exc:  # whatever it raised, the loop goes on
                self.note(name, exc)
            if self._clock.now() - begun >= SOUND:
                pause = FIRST_PAUSE
            log.warning("%s is begun again in %g s", name, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def note(self, name: str, exc: BaseException) -> None:
        """Log that ``name`` broke, and show it from now on."""
        log.critical("%s broke", name, exc_info=exc)
        # Nothing of its text, which may have paths in it.
        error = f"an unexpected error ({type(exc).__name__}); the daemon's log has the details"
        self.show(name, error)

    def show(self, name: str, error: str) -> None:
        """Show from now on that something went wrong with ``name``; ``error`` is a sentence without paths."""
        now = rfc3339(self._clock.wall())
        before = self._troubles.get(name)
        self._troubles[name] = Trouble(
            task=name,
            times=1 if before is None else before.times + 1,
            error=error,
            since=now if before is None else before.since,
            last=now,
        )

    async def attempt(
        self, name: str, work: Callable[[], Awaitable[None]], *passed: type[Exception]
    ) -> None:
        """Do one round of what the caller repeats; raise nothing but ``passed``."""
        try:
            await work()
        except passed:
            raise
        except Exception as exc:  # a defect in one turn must not end all others
            self.note(name, exc)

    def troubles(self) -> list[Trouble]:
        """Return what broke since the daemon began, as `system.status` shows it."""
        return list(self._troubles.values())

    async def close(self) -> None:
        """End all tasks. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
